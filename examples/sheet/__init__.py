"""A connector that keeps a table of events."""
