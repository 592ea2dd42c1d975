"""The command line: reads options, starts a run, prints its verdict, ends with its exit code."""

from nsps_simulator.command.run import command

__all__ = ["command"]
