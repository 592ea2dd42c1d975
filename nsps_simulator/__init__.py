"""NSPS's side as a program: events, delivery with retries, a target, a ledger with a verdict, and a report.

It imports nothing of the connector beside it, so it can be run against any connector, in any language.
The command is `nsps_simulator.command.command`; docs/load-testing.md has recipes.

    wire/       what is sent: subscribers, events, requests
    sending/    when it is sent
    running/    the processes of a run
    target      the stand-in external system
    records     what happened, on disk
    judging/    the verdict and the figures
    reporting/  terminal, JSON, page
    command/    the command line

Imports point upwards in this list only, but for `records`, `target` and `sending`, which need `wire` alone.
"""
