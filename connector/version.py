"""The version of the connector. It stands here only: the package, `--version` and `/openapi.json` read it."""

__version__ = "0.1.0"
