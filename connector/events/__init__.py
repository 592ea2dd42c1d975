"""The NSPS event: its typed body, what it must have, which of two snapshots is newer, what is masked. No I/O here."""
