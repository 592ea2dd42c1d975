"""Start the connector: ``python run.py``."""

import os
import signal
import sys

# The first thing: until the event loop has its own handlers, a signal to stop ends the process with 0. As process 1 of
# a container it would have no effect otherwise, and the connector would be killed at the end of the grace period.
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: os._exit(0))

if __name__ == "__main__":
    from connector.serve import main

    sys.exit(main())
