"""What one process costs: CPU, wall time and peak memory, its own children included.

    python -S benchmarks/measure.py RESULT.json COMMAND...

Run as a program of its own: until it executes its command, a child has the memory of its parent, and Linux counts
that as the child's peak. This one imports nearly nothing.
"""

import ctypes
import json
import os
import sys
import time
from contextlib import suppress

_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2): whoever outlives its parent becomes a child of this process."""


def main(result: str, *command: str) -> int:
    """Run a command, write down what it cost, and return its exit code; negative for a signal."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    began = time.perf_counter()
    process = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - began
    exit_code = os.waitstatus_to_exitcode(status)
    workers_s = 0.0
    with suppress(ChildProcessError):
        while True:
            _, _, of_orphan = os.wait4(-1, 0)
            workers_s += of_orphan.ru_utime + of_orphan.ru_stime
    with open(result, "w", encoding="utf-8") as file:  # noqa: PTH123  pathlib would cost more than all the rest
        facts = {
            "exit_code": exit_code,
            "cpu_s": usage.ru_utime + usage.ru_stime + workers_s,
            "wall_s": seconds,
            "peak_mib": usage.ru_maxrss / 1024,
        }
        json.dump(facts, file)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
