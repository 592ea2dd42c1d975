"""What the records mean: the verdict with its evidence, and the figures. Pure: no process, no socket."""
