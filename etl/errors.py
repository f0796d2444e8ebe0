"""Everything that can go wrong, as one tree. The class of an error says what the caller should do next.

    EtlError
    ├─ ConfigError             the operator must edit something                        exit 2
    │  └─ NameTakenError       a new dataset needs another name                        exit 2
    ├─ LockedError             another run is at work                                  exit 4
    ├─ StoppedError            a signal ended a wait                                   exit 3
    ├─ SourceError             the source says no for good: denied, unknown            exit 1
    │  ├─ GoneError            what was listed no longer exists (404)                  exit 1
    │  ├─ ToleratedError       refused in a way that the dataset tolerates             (a note)
    │  └─ PageTokenError       repeated, cyclic or endless tokens                      exit 1
    │     └─ TokenRejectedError  refused, although the first page is not: expired      exit 1
    ├─ TransientSourceError    the same page request may be repeated                   exit 3
    │  ├─ SameAnswerError      again and again the same, and no page                   exit 3
    │  ├─ LaterError           not now: this walk must give its thread away            (walked later)
    │  └─ CredentialsError     credentials are over: renew them, then run again        exit 3
    ├─ RecordError             a record does not fit its dataset                       (to etl_rejects)
    ├─ LedgerError             unreadable, or written by a newer version               exit 1
    ├─ WarehouseError          a table is missing, damaged, or of a newer version      exit 1
    ├─ StorageError            a disk said no: full, I/O error                         exit 3
    │  └─ DeniedError          this user may not read or write something               exit 2
    ├─ MachineError            no more threads or open files: limits are too low       exit 3
    ├─ EngineError             the workers of an engine died, or it is not there       exit 3
    ├─ CommitConflictError     proven not landed; staged files may go                  exit 3
    ├─ CommitUnknownError      may have landed; delete nothing                         exit 3
    └─ UnforeseenError         a fault of this program: its traceback is in the log    exit 1

A message gives the place, what was found, what was expected, and the next step.
"""

import errno
import logging
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

log = logging.getLogger(__name__)

_REFUSED = {
    r"too many open files": "raise the limit of open files (`ulimit -n`)",
    r"(can't (start|spawn) |\bcreate )\w* ?(worker )?thread|thread constructor failed": (
        "raise the limit of processes (`ulimit -u`), or end some"
    ),
}
"""How Python, DuckDB, Arrow and deltalake say that the machine refuses something -> what to do."""


class EtlError(Exception):
    """Base of all errors of this package. The command line ends with `exit_code`."""

    exit_code: ClassVar[int] = 1


class ConfigError(EtlError):
    """The operator must change the configuration or the command."""

    exit_code = 2


class NameTakenError(ConfigError):
    """A dataset, or a table or view of it, would have a name that is taken."""


class LockedError(EtlError):
    """Another run holds the lock of this state directory or warehouse."""

    exit_code = 4


class StoppedError(EtlError):
    """A signal ended the wait for something. The next run continues."""

    exit_code = 3


class SourceError(EtlError):
    """The source refuses, and repeating will not help: access denied, unknown resource, quota."""


class GoneError(SourceError):
    """The parent of a slice, such as its studio, does not exist or no longer exists."""


class ToleratedError(SourceError):
    """The source refuses with an error that the dataset's `tolerate` names."""


class PageTokenError(SourceError):
    """The chain of page tokens cannot be trusted."""


class TokenRejectedError(PageTokenError):
    """The service rejects a token but answers the same request without one, so the token has expired."""


class TransientSourceError(EtlError):
    """The same page request may succeed later. It is `throttled` if the service asks for fewer requests."""

    exit_code = 3

    def __init__(self, message: str, *, throttled: bool = False) -> None:
        super().__init__(message)
        self.throttled = throttled


class SameAnswerError(TransientSourceError):
    """The same answer came again and again. Later it may be another one; now, to repeat the request cannot help."""


class LaterError(TransientSourceError):
    """A page must not be asked for before `wait_s` seconds are over. Another walk can use the thread meanwhile."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class CredentialsError(TransientSourceError):
    """Credentials cannot be had, or are refused, in mid-walk. To repeat the request at once would not help."""


class RecordError(EtlError):
    """A record does not fit its dataset. The whole record goes to `etl_rejects`."""


class LedgerError(EtlError):
    """A ledger is unreadable, contradicts itself, or was written by a newer version."""


class WarehouseError(EtlError):
    """A table of the warehouse is missing, damaged, or differs from what the ledger says was written."""


class StorageError(EtlError):
    """A write did not reach the disk: it is full, or an I/O error."""

    exit_code = 3

    @classmethod
    def at(cls, path: Path | str, why: object, then: str = "") -> "StorageError":
        """Return an error that says where and why a write failed, how much room is left on a disk, and what to do."""
        if isinstance(why, OSError):
            if why.errno in _DENIED:
                return DeniedError.at(path, why)
            why = why.strerror or why
        if "://" in str(path):
            return cls(f"{path}: {why}; {then or 'run again when the store answers'}")
        path, then = Path(path), then or "make room or repair the disk, then run again"
        there = next((place for place in (path, *path.parents) if os.access(place, os.F_OK)), None)
        room = f" ({shutil.disk_usage(there).free / 1e6:,.0f} MB free)" if there else ""
        return cls(f"{path}: {why}{room}; {then}")


_DENIED_THEN = "this user needs the right to it: change its mode or owner, or run as its owner"
_NO_DIRECTORY = "expected a directory there: move the file away, or choose another path"
_DENIED = {
    errno.EACCES: _DENIED_THEN,
    errno.EPERM: _DENIED_THEN,
    errno.EROFS: "mount it writable, or choose another path",
    errno.ELOOP: "expected no symbolic link there: remove it, or choose another path",
    errno.ENOTDIR: _NO_DIRECTORY,
    errno.EEXIST: _NO_DIRECTORY,
    errno.EISDIR: "expected a file there: choose another path",
    errno.ENAMETOOLONG: "choose a shorter path",
}
"""Errors that stay until somebody changes a right, a mount or a path -> what to do."""


class DeniedError(StorageError):
    """This user may not read or write a path, or it is of another kind than expected. To run again does not help."""

    exit_code = 2

    @classmethod
    def at(cls, path: Path | str, why: object, then: str = "") -> "DeniedError":
        """Return an error that says where and why something is refused, and what to do."""
        if isinstance(why, OSError):
            then, why = then or _DENIED.get(why.errno or 0, _DENIED_THEN), why.strerror or why
        return cls(f"{path}: {why}; {then or _DENIED_THEN}")


def refused_by_system(exc: BaseException) -> EtlError | None:
    """Return the error for what the machine or the rights of this user refuse; None if `exc` says nothing of that."""
    if isinstance(exc, OSError) and exc.filename and exc.errno in _DENIED:
        return DeniedError.at(Path(os.fsdecode(exc.filename)), exc)
    if isinstance(exc, WarehouseError | LedgerError | StorageError):
        # What a library could not read is not damaged.
        found = re.search(r"permission denied|read-?only (file system|database)", str(exc), re.IGNORECASE)
        if found and not isinstance(exc, DeniedError):
            return DeniedError(f"{cut(str(exc)[: found.end()])}; {_DENIED_THEN}")
    return refused_by_machine(exc)


class MachineError(EtlError):
    """The machine refuses a thread or an open file. What was stored stays; the next run continues."""

    exit_code = 3


def refused_by_machine(exc: BaseException) -> MachineError | None:
    """Return the error for a thread or an open file that the machine refused; None if `exc` says nothing of that.

    Libraries have no class for it. What they say besides, such as that a file is damaged, does not follow.
    """
    if isinstance(exc, MachineError):
        return exc
    text = str(exc)
    for words, then in _REFUSED.items():
        if found := re.search(words, text, re.IGNORECASE):
            before = " ".join(text[: found.end()].split())
            return MachineError(f"{cut(before)}: the machine has no more of them; {then}, then run again")
    return None


class EngineError(EtlError):
    """The workers of an engine died, or the engine has given up. What they stored stays; the next run continues."""

    exit_code = 3


class CommitConflictError(EtlError):
    """Another writer was first. This commit is proven not to have landed."""

    exit_code = 3


class CommitUnknownError(EtlError):
    """A commit may or may not have landed. Delete nothing: the next run finds out."""

    exit_code = 3


class UnforeseenError(EtlError):
    """An error that nobody foresaw. It costs what it happened to; the rest of the job goes on."""


def unforeseen(place: object, exc: Exception) -> UnforeseenError:
    """Return the error for one that nobody foresaw, whose traceback goes to the log.

    Raises:
        MemoryError: it is one. Going on without memory ends in libraries that hang.
        MachineError: the machine refused a thread or an open file; it would refuse the next one too.
        DeniedError: this user may not read or write something.
    """
    if isinstance(exc, MemoryError):
        raise exc
    if refused := refused_by_system(exc):
        raise refused from exc
    log.error("%s: nobody foresaw this error", place, exc_info=exc)
    return UnforeseenError(
        f"{place}: {type(exc).__name__}: {first_line(exc)}; nobody foresaw this error. Please report it with its "
        "traceback, which is in the log"
    )


def first_line(exc: BaseException) -> str:
    """Return the first line of an error's message, or its class. Further lines may repeat secrets and statements."""
    return cut((str(exc).splitlines() or [""])[0] or type(exc).__name__)


def shortened(names: Sequence[str], most: int = 20) -> list[str]:
    """Return some names and, if there are more, their number: a source may have any number of them."""
    return [*map(cut, names[:most]), *([f"{len(names) - most} more"] if len(names) > most else [])]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return " (did you mean …?)" with the known name that is nearest to a wrong one; empty if none is near."""
    from difflib import get_close_matches  # noqa: PLC0415  only mistakes need it

    found = get_close_matches(str(name), known, 1)
    return f" (did you mean {found[0]}?)" if found else ""


def cut(text: str, most: int = 1000) -> str:
    """Return a text that fits into a message: what a server or a file says may be of any length."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
