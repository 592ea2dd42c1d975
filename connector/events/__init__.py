"""The NSPS event: how bytes are read (``reading``, ``body``, ``times``), what it must have (``schema``), which one it
is (``identity``), what it touches (``resources``), which of two snapshots is newer, what a person is shown of it.

Pure: no I/O, no HTTP and no journal here. ``event_types`` and ``examples`` are data.
"""
