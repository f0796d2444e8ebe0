"""The command line: what a person types and sees."""

import os
import signal
from types import FrameType

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of the signal."""


def main() -> None:
    """Run the command line. The process ends with one of the exit codes of the README."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # who started us may want it ignored
        signal.signal(signal.SIGINT, _end)
    from etl.cli.app import run  # noqa: PLC0415  imports take 0.3 s, in which Ctrl-C would be a traceback

    run()


def _end(_number: int, _frame: FrameType | None) -> None:
    """End the process at once: whatever it does may be ended at any moment, and the next job repairs it.

    As an exception, the signal would pass through libraries that turn it into others, or drop it.
    """
    show_cursor = b"\x1b[?25h" if os.isatty(2) else b""  # progress bars hide it
    try:
        os.write(2, show_cursor + b"nimble-etl: interrupted; what was half done, the next job finishes or takes back\n")
    finally:
        os._exit(INTERRUPTED)


__all__ = ["INTERRUPTED", "main"]
