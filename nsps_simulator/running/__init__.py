"""The processes of a run: generators, the target, the connectors under test, and who conducts them."""
