"""nimble-etl, its memory written down while it runs: seconds and MiB, twice a second, to the file in $SAMPLES.

SAMPLES=memory.csv python -m benchmarks.sampled run --config FILE
"""

import os
import threading
import time
from pathlib import Path

from etl.cli import main

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def _sample(path: Path, began: float) -> None:
    with path.open("w") as file:
        while True:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
            print(f"{time.monotonic() - began:.1f},{resident / 2**20:.1f}", file=file, flush=True)
            time.sleep(0.5)


if __name__ == "__main__":
    threading.Thread(target=_sample, args=(Path(os.environ["SAMPLES"]), time.monotonic()), daemon=True).start()
    main()
