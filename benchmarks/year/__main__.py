"""Build a year of nights and compare every mart, macro and named query with what the events of the studio say.

python -m benchmarks.year [--nights 365] [--sessions 5000] [--directory .bench/year]
"""

import argparse
import datetime as dt
import sys
from pathlib import Path

from benchmarks.year.build import build
from benchmarks.year.compare import compare
from etl.emulator import World

STUDIOS = 1
"""In each of two Regions."""


def main() -> int:
    """Print a line for each comparison. Returns 1 if one of them differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.year")
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--sessions", type=int, default=5_000, help="of all studios together")
    parser.add_argument("--directory", type=Path, default=Path(".bench/year"))
    options = parser.parse_args()
    today = dt.datetime.now(dt.UTC).date()
    dates = [today - dt.timedelta(days=back) for back in reversed(range(options.nights))]
    world = World(studios=STUDIOS, sessions_per_studio=options.sessions // STUDIOS // 2)
    year = build(options.directory, world, dates)
    different = 0
    for what, rows, difference in compare(year):
        print(f"{rows:9,} rows  {what}: {difference or 'agrees'}", flush=True)
        different += bool(difference)
    print(f"{options.nights} nights, {options.sessions} sessions: {different} of them differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
