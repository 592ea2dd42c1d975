"""Start the connector: ``python run.py``."""

import sys

from connector.serve import main

if __name__ == "__main__":
    sys.exit(main())
