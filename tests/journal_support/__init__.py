"""What the tests of the journal share: made-up events, stores, a disk that fails on command, a connector process."""
