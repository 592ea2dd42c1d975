"""NSPS's side as a program: events, delivery with retries, a target, a ledger with a verdict, and a report.

It imports nothing of the connector beside it, so it can be run against any connector, in any language.
docs/load-testing.md has recipes. The rooms, from the bottom to the top; imports point downwards only:

    records     what happened, on disk
    wire/       what is sent: subscribers, events, requests
    sending/    when it is sent
    target      the stand-in external system
    judging/    the verdict and the figures
    running/    the processes of a run
    reporting/  terminal, JSON, page, comparison
    command/    the command line
"""
