"""Prints results to stdout, as tables for people or as JSON for programs."""

import csv
import datetime as dt
import io
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from etl.cli.fitting import Fold, width_of, write_fitting
from etl.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing it, except tab and line feed; the last ones turn the direction of text."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a text begins that a spreadsheet runs, the last four in full width. Source: OWASP, "CSV Injection"."""
_BOM = "\ufeff"
_TERMINAL_ROWS = 40
"""Of an answer, shown on a terminal; as many as DuckDB's own command shows."""
FINDINGS = 5
"""Exit code of a command that found something wrong in the published data."""


class Format(StrEnum):
    """Form of a result."""

    TABLE = "table"
    LINE = "line"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


class Reader(StrEnum):
    """A program that CSV is written for."""

    EXCEL = "excel"


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows that a command prints.

    Attributes:
        name: the key of the rows in JSON.
        rows: values by column.
        columns: the columns that people see. None: all. Empty: people see no table.
        title: the line above the table.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[str] | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Prints the result of a command, for people or as JSON."""

    as_json: bool

    def show(self, *facts: Facts, notes: Iterable[str] = ()) -> None:
        """Print facts as one JSON object of lists by name, or as tables followed by the notes."""
        if self.as_json:
            write_json({some.name: some.rows for some in facts})
            return
        for some in facts:
            columns = some.rows[0] if some.columns is None and some.rows else some.columns
            if some.rows and columns:
                write_rows(some.rows, columns, some.title, squeeze=True)
                if some.title:
                    print()
        for note in notes:
            print(one_line(note))


class _Lines:
    """Standard output for a writer whose lines end with CRLF. It replaces these line ends with LF."""

    def write(self, line: str) -> None:
        print(line.removesuffix("\r\n"))


def write_table(table: "pa.Table", form: Format, reader: Reader | None = None) -> None:
    """Write an Arrow table to stdout. JSON has one object per line; Parquet is binary.

    All of it is written, but for a table on a terminal: that has what fits, and the true counts.

    CSV has every value as it is. For Excel, it is UTF-8 with a byte order mark, every cell is quoted, and what Excel
    would take for a formula begins with an apostrophe; numbers stay numbers.
    """
    if form is Format.PARQUET:
        import pyarrow.parquet as pq  # noqa: PLC0415  so that `--help` is quick

        try:
            pq.write_table(table, sys.stdout.buffer, compression="zstd")
        except NotImplementedError as exc:  # for instance, an interval
            raise ConfigError(f"--format parquet: {exc}; cast that column to a type that Parquet has") from exc
        return
    if form is Format.TABLE:
        _write_answer(table)
        return
    if form is Format.LINE:
        _write_lines(table)
        return
    rows = rows_of(table)
    if form is Format.JSON:
        for row in rows:
            write_json(row)
    elif form is Format.CSV:
        for_excel = reader is Reader.EXCEL
        if for_excel:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
            print(_BOM, end="")
        cell = _harmless if for_excel else _text
        quoting: Any = csv.QUOTE_ALL if for_excel else csv.QUOTE_MINIMAL
        writer = csv.writer(_Lines(), quoting=quoting, lineterminator="\r\n")  # with "\n", it would not quote \r
        writer.writerow(map(cell, table.column_names))
        writer.writerows(map(cell, row.values()) for row in rows)
    else:
        write_markdown(rows, table.column_names)


def rows_of(table: "pa.Table") -> list[dict[str, Any]]:
    """Return the rows of an Arrow table as values that every form can show."""
    try:
        rows = table.to_pylist()
    except (OverflowError, ValueError):  # some date or instant has no value in Python
        columns = [[_value(cell) for cell in column] for column in table.columns]
        rows = [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def write_markdown(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as a table in GitHub's Markdown."""
    print("| " + " | ".join(one_line(column).replace("|", "\\|") for column in columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        cells = (visible(_text(row.get(column))).replace("|", "\\|").replace("\n", " ") for column in columns)
        print("| " + " | ".join(cells) + " |")


def write_rows(
    rows: Sequence[Mapping[str, Any]], columns: Iterable[str], title: str | None = None, *, squeeze: bool = False
) -> None:
    """Write rows as a table. A terminal gets the columns that fit it; elsewhere the table is as wide as its rows.

    `squeeze` says how they are made to fit: see `write_fitting`.
    """
    columns = list(columns)
    lines = [[one_line(column) for column in columns]]
    lines += [[one_line(_text(row.get(column))) for column in columns] for row in rows]
    numeric = [_is_numeric(rows, column) for column in columns]
    terminal = console()
    if terminal.is_terminal:
        fold = [_fold(rows, column) for column in columns]
        write_fitting(terminal, lines, numeric=numeric, fold=fold, title=title, squeeze=squeeze)
        return
    widths = [max(map(width_of, column)) for column in zip(*lines, strict=True)]
    if title:
        print(one_line(title))
    for line in lines:
        spaces = (" " * (width - width_of(cell)) for cell, width in zip(line, widths, strict=True))
        print("  ".join(s + c if right else c + s for c, s, right in zip(line, spaces, numeric, strict=True)))


def _write_answer(table: "pa.Table") -> None:
    """Write an Arrow table; on a terminal its first rows, and how many there are."""
    first = table.slice(0, _TERMINAL_ROWS) if console().is_terminal else table
    write_rows(rows_of(first), table.column_names)
    if first.num_rows < table.num_rows:
        print(f"{first.num_rows} of {table.num_rows:,} rows; a pipe, a file or --format line gets all")


def _fold(rows: Iterable[Mapping[str, Any]], column: str) -> Fold:
    types = {type(row.get(column)) for row in rows}
    return Fold.PROSE if str in types else Fold.WORDS if types & {list, dict} else Fold.NOWHERE


def _is_numeric(rows: Iterable[Mapping[str, Any]], column: str) -> bool:
    return any(isinstance(row.get(column), int | float) for row in rows)


def _write_lines(table: "pa.Table") -> None:
    """Write each value on a line of its own, after the name of its column, and an empty line between rows."""
    names = [one_line(name) for name in table.column_names]
    width = max(map(width_of, names), default=0)
    margins = [" " * (width - width_of(name)) + name for name in names]
    for number, row in enumerate(rows_of(table)):
        if number:
            print()
        for margin, value in zip(margins, row.values(), strict=True):
            print(f"{margin} = {one_line(_text(value))}".rstrip())


def write_json(value: Any) -> None:
    """Write a JSON value on one line. Dates and times are ISO-8601; NaN and infinities are null."""
    print(_json(value, ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))


def console(*, stderr: bool = False) -> "Console":
    """Return a console. Without a terminal, it never folds lines."""
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
    if isinstance(value, dt.datetime | _Far):
        return value.isoformat(sep=" ")
    if isinstance(value, Decimal):
        return str(value)
    return value if isinstance(value, str) else str(_json_value(value))


def _harmless(value: Any) -> str:
    """Return the text of a value, with an apostrophe before what a spreadsheet would take for a formula."""
    text = _text(value)
    is_number = isinstance(value, int | float | Decimal) and math.isfinite(value)
    return f"'{text}" if text.startswith(_FORMULA) and not is_number else text


def visible(text: str) -> str:
    """Return a text with its control characters escaped: a terminal would obey them."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return a text as `visible` does, and with its line breaks escaped: what a server says must not look like ours."""
    return visible(text).replace("\n", "\\n")


def _json(value: Any, *, ensure_ascii: bool) -> str:
    """Return one line of JSON.

    `json` writes NaN and infinities, which are not valid JSON. Therefore its text is read back with them as null.
    msgspec would write null, but also bytes as base64 and UTC as Z, and it cannot escape to ASCII.
    """
    finite = json.loads(json.dumps(value, default=_json_value), parse_constant=lambda _: None)
    return json.dumps(finite, ensure_ascii=ensure_ascii)


def _json_value(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        return int(value)  # DuckDB sums integers as HUGEINT; other decimals stay exact, as texts
    return str(value)


@dataclass(frozen=True, slots=True)
class _Far:
    """A date or an instant that Python has no value for, in ISO 8601.

    Its year is beyond 9999 or before 1 (the year before 1 is 0, as in ISO 8601), or it is infinite or has nanoseconds.
    """

    text: str

    @classmethod
    def of(cls, scalar: "pa.Scalar") -> "_Far":
        import numpy as np  # noqa: PLC0415  so that `--help` is quick

        unit: Any = getattr(scalar.type, "unit", "D")
        if abs(scalar.value) == (2**31 - 1 if unit == "D" else 2**63 - 1):  # how DuckDB stores infinity
            return cls("infinity" if scalar.value > 0 else "-infinity")
        text = re.sub(r"\.0+$", "", str(np.datetime64(scalar.value, unit)))
        text = re.sub(r"^-\d+", lambda year: f"-{year[0][1:]:0>4}", text)  # numpy writes -043
        return cls(f"{text}+00:00" if getattr(scalar.type, "tz", None) else text)

    def isoformat(self, sep: str = "T") -> str:
        return self.text.replace("T", sep)


def _value(scalar: "pa.Scalar") -> Any:
    """Return the Python value of an Arrow one, as `as_py` does, with `_Far` where that raises."""
    import pyarrow as pa  # noqa: PLC0415  so that `--help` is quick

    if not scalar.is_valid:
        return None
    if isinstance(scalar, pa.MapScalar):
        return [tuple(_value(entry).values()) for entry in scalar.values]
    if isinstance(scalar, pa.StructScalar):
        return {name: _value(value) for name, value in scalar.items()}
    if isinstance(scalar, pa.ListScalar):
        return [_value(value) for value in scalar.values]
    if isinstance(scalar, pa.UnionScalar):
        return _value(scalar.value)
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        return _Far.of(scalar)


def _plain(value: Any) -> Any:
    """Return an interval as ISO 8601 writes it (P1D, P2MT3.5S), also within others, and every other value as it is."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list) or type(value) is tuple:  # a tuple is an entry of a map
        return [_plain(inner) for inner in value]
    if not hasattr(value, "nanoseconds"):  # of pyarrow's MonthDayNano, which is a tuple of numbers
        return value
    parts = [f"{count}{unit}" for count, unit in ((value.months, "M"), (value.days, "D")) if count]
    seconds = Decimal(value.nanoseconds) / 1_000_000_000
    time = f"T{seconds.normalize():f}S" if value.nanoseconds or not parts else ""
    return f"P{''.join(parts)}{time}"
