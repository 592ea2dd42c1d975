"""The stress suite: ``python -m tests.stress``, an hour by default; ``--minutes 5 --seed 7 --only clock --only disk``.

Prints a line a scenario and a verdict; 0 where every promise held, 1 where one did not. What was skipped is said.
"""

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.stress.scenarios import SCENARIOS, Skipped


def run(name: str, seed: int, seconds: float) -> list[str] | None:
    """The faults that a scenario found, printed; None where it was skipped."""
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        try:
            faults = asyncio.run(SCENARIOS[name](Path(folder), random.Random(seed), seconds))
        except Skipped as reason:
            print(f"{name:10} skipped: {reason}", flush=True)
            return None
        except Exception as error:  # noqa: BLE001 - a scenario that breaks off is a finding of its own
            faults = [f"the scenario broke off: {type(error).__name__}: {error}"]
    print(f"{name:10} {'held' if not faults else 'BROKEN'} ({time.monotonic() - began:.0f} s, seed {seed})", flush=True)
    for fault in faults[:20]:
        print(f"    {fault}", flush=True)
    return faults


def main() -> int:
    """The script."""
    options = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    options.add_argument("--minutes", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", action="append", choices=sorted(SCENARIOS), help="may be given more than once")
    chosen = options.parse_args()
    names = chosen.only or list(SCENARIOS)
    found = [run(name, chosen.seed, chosen.minutes * 60 / len(names)) for name in names]
    broken = sum(bool(faults) for faults in found)
    skipped = found.count(None)
    print(f"{'BROKEN' if broken else 'held'}: {len(names) - skipped} scenarios, {broken} broken, {skipped} skipped")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
