"""`python -m nsps_simulator`: the simulator by itself."""

from nsps_simulator.command import command

if __name__ == "__main__":  # the processes of a run import this module again
    command(prog_name="python -m nsps_simulator")
