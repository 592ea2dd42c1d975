"""NSPS's side as a program: events, delivery with retries, a target, a ledger with a verdict, and a report.

It imports nothing of the connector beside it, so it can be run against any connector, in any language.
The command is `nsps_simulator.command.command`; docs/load-testing.md has recipes.
"""
