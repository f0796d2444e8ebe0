"""How the interpreter of a process is set up: of a command, of a worker that it starts, of a worker of Spark."""

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder

_OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""Thousands of records without cycles are created. Looking for cycles every 700 objects took a third of flattening."""
_CALLS = 1100
"""Parsers of JSON count the levels of a text among the calls that led to them."""
_M_ARENA_MAX, _PARTS = -8, 2
"""Its number in malloc.h of glibc; and how many parts of the memory threads share.

Otherwise glibc gives each thread a part of its own, which keeps what was freed in it.
"""


class _WithoutPandas(MetaPathFinder):
    """Hides pandas. Nothing here uses it, but pyarrow imports it to check whether a list is a Series.

    The import costs 0.3 s and 50 MB; the job without it needs 150 MB.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002
        """Refuse pandas as if it were not installed."""
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname, name=fullname)


def show_pandas() -> None:
    """Let pandas be imported from now on: PySpark asks for it."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _WithoutPandas)]


def set_up() -> None:
    """Set up the interpreter and libraries. Must be called before pyarrow, numpy or pydantic is imported.

    A worker gets the variables of the process that starts it, so there it may be called afterwards.
    """
    sys.meta_path.insert(0, _WithoutPandas())
    # Arrow's own allocator keeps freed memory, 50 MB and more. pyarrow reads this variable when it is imported.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # pyarrow imports numpy, whose linear algebra would start threads. They burn 0.1 s of CPU and are never used.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("MALLOC_ARENA_MAX", str(_PARTS))
    # Whenever it builds a validator, pydantic would ask every installed distribution for plugins; none are wanted here.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    sys.setrecursionlimit(_CALLS)


def let_threads_share_memory() -> None:
    """Do for this process what MALLOC_ARENA_MAX does for those it starts, unless the operator has set that.

    Does nothing without glibc. Must be called before libraries start threads.
    """
    import ctypes  # noqa: PLC0415  so that `--help` is quick

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and os.environ.get("MALLOC_ARENA_MAX") == str(_PARTS):
        mallopt(_M_ARENA_MAX, _PARTS)


_borrowing = threading.Lock()
_borrowers = 0
_before = gc.get_threshold(), sys.getrecursionlimit()
"""What the owner of the process had set when the first of the borrowers came."""


@contextmanager
def borrowed() -> Iterator[None]:
    """Set up the interpreter of a process that is not ours, such as a worker of Spark; the last leaves it as it was.

    Several tasks may borrow it at once: Sail does them in threads of one process.
    """
    global _borrowers, _before  # noqa: PLW0603  the interpreter is as global
    with _borrowing:
        if not _borrowers:
            _before = gc.get_threshold(), sys.getrecursionlimit()
            gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
            sys.setrecursionlimit(max(_before[1], _CALLS))
        _borrowers += 1
    try:
        yield
    finally:
        with _borrowing:
            _borrowers -= 1
            if not _borrowers:
                gc.set_threshold(*_before[0])
                sys.setrecursionlimit(_before[1])
