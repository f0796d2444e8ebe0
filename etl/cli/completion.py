"""What the shell completes besides commands and flags: names of queries, tables and datasets.

The shell asks at each press of the tab key. A configuration that cannot be read completes nothing, without a word.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from etl.cli.options import CONFIG, settings_to_ask
from etl.errors import EtlError

if TYPE_CHECKING:
    from etl.config import Settings


def queries(incomplete: str) -> list[str]:
    """Return the named queries that begin so."""
    from etl.sqlfiles import sql_files  # noqa: PLC0415  only a shell needs it

    return _that_begin(incomplete, sql_files("queries"))


def datasets(context: typer.Context, incomplete: str) -> list[str]:
    """Return the configured datasets that begin so."""
    settings = _settings(context)
    exported = settings.exported if settings else ()
    return _that_begin(incomplete, (entry if isinstance(entry, str) else entry.name for entry in exported))


def tables(context: typer.Context, incomplete: str) -> list[str]:
    """Return the tables and views that begin so."""
    from etl.jobs.describe import describe  # noqa: PLC0415  only a shell needs it

    settings = _settings(context)
    return _that_begin(incomplete, describe(settings) if settings else ())


def _settings(context: typer.Context) -> "Settings | None":
    try:
        return settings_to_ask(Path(context.params.get("config") or CONFIG))
    except EtlError:
        return None


def _that_begin(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
