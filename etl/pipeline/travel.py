"""The code of the driver travels to the workers of Spark with their tasks, so that none runs another version.

Spark has ways of its own to send files: Sail 0.7 has none of them, and those of Spark Connect are not those of Spark
3.5. This one needs none. The libraries that the code imports do not travel.
"""

import hashlib
import io
import os
import pickle
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from etl.sqlfiles import sql_directory


def travelling(function: Callable[[Iterable[Any]], Iterator[Any]]) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """Return a function that does the same in a process that may have no such package, or another version of it.

    PySpark pickles a function by value if it is defined inside another one. So this one needs no import of ours
    before it has unpacked the package, once for each user of a machine.
    """
    package, called = _packed(), pickle.dumps(function)
    digest = hashlib.sha256(package).hexdigest()[:16]

    def run(batches: Iterable[Any]) -> Iterator[Any]:
        if "etl" not in sys.modules:  # Sail may run it in the process of the driver
            home = Path(tempfile.gettempdir()) / f"nimble-etl-{os.getuid()}"
            home.mkdir(mode=0o700, exist_ok=True)
            if home.is_symlink() or home.stat().st_uid != os.getuid():  # others could put code there
                raise PermissionError(f"{home} on {os.uname().nodename} is another user's; remove it")
            place = home / digest
            with zipfile.ZipFile(io.BytesIO(package)) as archive:
                for name in archive.namelist():
                    file = place / name
                    if not file.exists():  # machines remove old temporary files one by one
                        file.parent.mkdir(parents=True, exist_ok=True)
                        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as part:
                            part.write(archive.read(name))
                        Path(part.name).rename(file)  # whole, also for another worker that unpacks now
            sys.path.insert(0, str(place))
        yield from pickle.loads(called)(batches)  # noqa: S301  the driver has made it

    return run


@cache
def _packed() -> bytes:
    """Return this package with its SQL files, as a wheel has them. The same files give the same bytes."""
    roots = (Path(str(resources.files("etl"))), "etl"), (sql_directory(), "etl/sql")
    files = {f"{into}/{file.relative_to(root).as_posix()}": file for root, into in roots for file in root.rglob("*")}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, file in sorted(files.items()):
            if file.is_file() and file.suffix != ".pyc":
                archive.writestr(zipfile.ZipInfo(name), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()
