"""Measure nimble-etl beside its peers, and print the table.

python -m benchmarks [--quick] [--only NAME]... [--repetitions N]
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks import scenarios
from benchmarks.table import machine, markdown


def main() -> None:
    """Run the scenarios that the command line names, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="ratios at 20,000 sessions, nothing else")
    parser.add_argument("--only", action="append", choices=scenarios.ALL, help="only this scenario; may be repeated")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    rows = []
    for name in ["ratios"] if options.quick else options.only or list(scenarios.ALL):
        with tempfile.TemporaryDirectory(prefix="nimble-bench-") as directory:
            bench = scenarios.Bench(Path(directory), 20_000 if options.quick else 200_000, options.repetitions)
            rows += scenarios.ALL[name](bench)
    print(f"\n{machine()}\n\n{markdown(rows)}")


if __name__ == "__main__":
    main()
