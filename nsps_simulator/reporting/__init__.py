"""The outcome of a run for people and machines: terminal, JSON, page, comparison."""
