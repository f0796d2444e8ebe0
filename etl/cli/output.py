"""Results for people and for programs: one table in, text out. Results go to stdout, everything else to stderr."""

import csv
import datetime as dt
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from etl.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


FINDINGS = 5
"""Exit code of a command that found something wrong in what is published."""


class Format(StrEnum):
    """How a result is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows that a command prints under a name.

    Attributes:
        name: what programs find them under.
        rows: columns by name.
        columns: those that people see; None for all, none for no table.
        title: stands above the table.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[str] | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Prints what a command found out, in one of two forms."""

    as_json: bool

    def show(self, *facts: Facts, notes: Iterable[str] = ()) -> None:
        """Print facts: programs get one JSON object of lists by name; people get tables, then the notes."""
        if self.as_json:
            write_json({some.name: some.rows for some in facts})
            return
        for some in facts:
            columns = some.rows[0] if some.columns is None and some.rows else some.columns
            if some.rows and columns:
                write_rows(some.rows, columns, some.title)
                if some.title:
                    print()
        for note in notes:
            print(note)


class _Lines:
    """Standard output for a writer that ends its lines with CRLF: they end as all others do."""

    def write(self, line: str) -> None:
        print(line.removesuffix("\r\n"))


def write_table(table: "pa.Table", form: Format) -> None:
    """Write an Arrow table to stdout. JSON has one object per line; Parquet is binary."""
    if form is Format.PARQUET:
        import pyarrow.parquet as pq  # noqa: PLC0415  so that `--help` is quick

        try:
            pq.write_table(table, sys.stdout.buffer, compression="zstd")
        except NotImplementedError as exc:  # a difference of instants, for instance
            raise ConfigError(f"--format parquet: {exc}; cast that column to a type that Parquet has") from exc
        return
    rows = table.to_pylist()
    if form is Format.JSON:
        for row in rows:
            write_json(row)
    elif form is Format.CSV:
        writer = csv.writer(_Lines(), lineterminator="\r\n")  # with another line end, it leaves \r without quotes
        writer.writerow(table.column_names)
        writer.writerows(map(_text, row.values()) for row in rows)
    elif form is Format.MARKDOWN:
        write_markdown(rows, table.column_names)
    else:
        write_rows(rows, table.column_names)


def write_markdown(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], title: str | None = None) -> None:
    """Write rows as a table of GitHub's Markdown, below a heading if there is a title."""
    if title:
        print(f"## {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        cells = (_text(row.get(column)).replace("|", "\\|").replace("\n", " ") for column in columns)
        print("| " + " | ".join(cells) + " |")


def write_rows(rows: Sequence[Mapping[str, Any]], columns: Iterable[str], title: str | None = None) -> None:
    """Write rows as a table that fits the terminal; piped, it is as wide as it needs to be."""
    from rich.table import Table  # noqa: PLC0415  so that `--help` is quick
    from rich.text import Text  # noqa: PLC0415

    columns = list(columns)
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        numeric = any(isinstance(row.get(column), int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_visible(_text(row.get(column)))) for column in columns))
    console().print(table)


def write_json(value: Any) -> None:
    """Write one JSON value on one line; dates and times are ISO-8601, NaN never appears."""
    print(_json(value, ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))


def console(*, stderr: bool = False) -> "Console":
    """Return a console. Where there is no terminal, lines are never folded."""
    from rich.console import Console  # noqa: PLC0415  so that `--help` is quick

    found = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=10_000)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return _json(value, ensure_ascii=False)
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return value if isinstance(value, str) else str(_json_value(value))


def _visible(text: str) -> str:
    """Return a text without characters that a terminal would obey, such as escape sequences in a tag."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _json(value: Any, *, ensure_ascii: bool) -> str:
    """Return one line of JSON.

    `json` writes NaN and infinities, which JSON does not have; read back with `parse_constant`, they are null.
    msgspec writes null by itself, but bytes as base64, UTC as Z, and nothing as an ASCII escape.
    """
    finite = json.loads(json.dumps(value, default=_json_value), parse_constant=lambda _: None)
    return json.dumps(finite, ensure_ascii=ensure_ascii)


def _json_value(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
