"""Start the connector: ``python run.py``."""

import sys

from connector.process import begin

if __name__ == "__main__":
    begin()

    from connector.serve import main

    sys.exit(main())
