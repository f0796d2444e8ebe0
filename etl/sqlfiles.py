"""The files of sql/, beside a checkout or inside an installed wheel. Each has a header that says what it answers.

-- idle_sessions.sql
-- Question:    Which sessions run without having been updated for $hours hours?
-- Grain:       one row per session.
-- Reads:       streaming_sessions (current snapshot).
-- Parameters:  $hours INTEGER, default 12.
-- Columns:     idle_hours in hours; volume_size in GiB.

The columns of views, marts, checks and of what the report asks are described one by one, `name: meaning`, with the unit
in brackets. A file is used where all that it reads is there. What a mart takes for granted stands under `Assumes`; a
check says its `Meaning` and its `Severity`.
A macro says its `Arguments` and its `Answer`; below that stands what follows its name in `create macro`.

A file that reads `idle_sessions (query)` is given that file of sql/queries as a CTE of its name. The parameters of the
query are then parameters of the file too, with the defaults of the query unless the file says others.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

HEADERS = ("Question", "Grain", "Reads", "Parameters", "Columns")
MACRO_HEADERS = ("Question", "Arguments", "Answer")
CHECK_HEADERS = ("Meaning", "Severity", "Grain", "Reads", "Columns")

Kind = Literal["macros", "views", "marts", "checks", "queries", "report"]
_BODY = re.compile(r"(?P<header>(--.*\n)*)(?P<with>with )?(?P<body>(?s:.*))")
_LINE = re.compile(r"^-- (?:(?P<name>[A-Z][a-z]+): +)?(?P<text>.*)$")
_QUERY = re.compile(r"(?P<name>\w+) \(query\)")
_PARAMETER = re.compile(r"\$(?P<name>\w+) (?P<type>[A-Z]+), default (?P<default>[^.;]+)")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query: its DuckDB type and the text of its default."""

    name: str
    type: str
    default: str


@dataclass(frozen=True, slots=True)
class SqlFile:
    """One query: `name` is that of the file, `headers` what stands above it, `text` all of it.

    `queries` are the named queries that it reads: `text` has them as CTEs, `parameters` has theirs.
    """

    name: str
    headers: Mapping[str, str]
    parameters: tuple[Parameter, ...]
    text: str
    queries: tuple["SqlFile", ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Return the tables and views that the query reads, and those that named queries read for it."""
        listed = re.sub(r"\([^)]*\)", "", _QUERY.sub("", self.headers.get("Reads", ""))).strip(". ")
        own = filter(None, (name.strip() for name in listed.split(",")))
        return tuple(dict.fromkeys([*own, *(name for query in self.queries for name in query.reads)]))

    @property
    def columns(self) -> dict[str, str]:
        """Return what its columns mean, where the header says it one by one."""
        said = re.split(r"; (?=\w+: )", self.headers.get("Columns", "").removesuffix("."))
        return {name: meaning for name, found, meaning in (part.partition(": ") for part in said) if found}


def sql_directory() -> Path:
    """Return the directory of the SQL files: inside the package where it was installed from a wheel."""
    packaged = Path(str(resources.files("etl"))) / "sql"
    return packaged if packaged.is_dir() else packaged.parent.parent / "sql"


def sql_files(kind: Kind) -> dict[str, SqlFile]:
    """Return the files of one kind by name, in alphabetical order."""
    return {path.stem: _read(path) for path in sorted((sql_directory() / kind).glob("*.sql"))}


def _read(path: Path) -> SqlFile:
    text = path.read_text(encoding="utf-8")
    headers: dict[str, str] = {}
    last = ""
    for line in text.splitlines()[1:]:
        match = _LINE.match(line)
        if match is None:
            break
        last = match["name"] or last
        headers[last] = f"{headers.get(last, '')} {match['text'].strip()}".strip()
    parameters = tuple(Parameter(**match.groupdict()) for match in _PARAMETER.finditer(headers.get("Parameters", "")))
    file = SqlFile(path.stem, headers, parameters, text)
    names = _QUERY.findall(headers.get("Reads", ""))
    return _with_queries(file, [_read(path.parents[1] / "queries" / f"{name}.sql") for name in names])


def _with_queries(file: SqlFile, queries: Sequence[SqlFile]) -> SqlFile:
    """Return a file with named queries as its first CTEs, below its header."""
    if not queries:
        return file
    ctes = ",\n\n".join(f"{query.name} as (\n{query.text}\n)" for query in queries)
    match = _BODY.match(file.text)
    assert match is not None
    text = f"{match['header']}with {ctes}{',' if match['with'] else ''}\n\n{match['body']}"
    own = {parameter.name for parameter in file.parameters}
    theirs = {p.name: p for query in queries for p in query.parameters if p.name not in own}
    return SqlFile(file.name, file.headers, (*theirs.values(), *file.parameters), text, tuple(queries))
