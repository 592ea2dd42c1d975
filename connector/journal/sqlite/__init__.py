"""The journal in one SQLite file that one process owns. All that is SQLite's alone lives here."""
