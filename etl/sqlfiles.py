"""The files of sql/, in a checkout or in an installed wheel. The header of each file says what it answers.

-- idle_sessions.sql
-- Question:    Which sessions run without having been updated for $hours hours?
-- Grain:       one row per session.
-- Reads:       streaming_sessions (current snapshot).
-- Parameters:  $hours INTEGER, default 12, at least 0.
-- Columns:     idle_hours in hours; volume_size in GiB.

A parameter may have a least value. Or it is `one of` the values of a column: $tag VARCHAR, default Project, one of
streaming_session_tags.key.

Views, marts, checks and files of the report describe their columns one by one, as `name: meaning`, with units in
brackets. A file is used if everything that it reads exists. A mart lists its assumptions under `Assumes`; a check has a
`Meaning` and a `Severity`. A macro has `Arguments` and an `Answer`; its text follows the name in `create macro`.

A mart that says `Carried: slice_id, session_id` reads one change log, and its rows of a session follow from the changes
of that session alone: see etl/load/catalog/carried.py.

A file that reads `idle_sessions (query)` gets that file of sql/queries as a CTE of the same name. The file then also
has the parameters of the query. Its own header may change their defaults.
"""

import re
from collections.abc import Mapping
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
_PARAMETER = re.compile(
    r"\$(?P<name>\w+) (?P<type>[A-Z]+), default (?P<default>[^.,;]+)(, at least (?P<least>\d+))?"
    r"(, one of (?P<one_of>\w+\.\w+))?"
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query.

    Attributes:
        name: as in the text, without the dollar sign.
        type: of DuckDB.
        default: its text.
        least: the smallest value, as a text; None: every value of the type will do.
        one_of: the column with all values that make sense, as table.column; None: there is none.
    """

    name: str
    type: str
    default: str
    least: str | None = None
    one_of: str | None = None

    @property
    def flag(self) -> str:
        """Return what names it on the command line."""
        return f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class SqlFile:
    """One file: its `name`, the `headers` at its top, and its `text`, headers included.

    `queries` are the named queries that it reads; `text` includes them as CTEs, and `parameters` includes theirs.
    """

    name: str
    headers: Mapping[str, str]
    parameters: tuple[Parameter, ...]
    text: str
    queries: tuple["SqlFile", ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Return the tables and views that the file and its named queries read."""
        listed = re.sub(r"\([^)]*\)", "", _QUERY.sub("", self.headers.get("Reads", ""))).strip(". ")
        own = filter(None, (name.strip() for name in listed.split(",")))
        return tuple(dict.fromkeys([*own, *(name for query in self.queries for name in query.reads)]))

    @property
    def carried(self) -> tuple[str, ...]:
        """Return the columns by which a mart is carried on; none if each catalog makes it anew."""
        return tuple(filter(None, self.headers.get("Carried", "").rstrip(".").split(", ")))

    @property
    def columns(self) -> dict[str, str]:
        """Return the meaning of each column that the header describes."""
        said = re.split(r"; (?=\w+: )", self.headers.get("Columns", "").removesuffix("."))
        return {name: meaning for name, found, meaning in (part.partition(": ") for part in said) if found}


def sql_directory() -> Path:
    """Return the directory of the SQL files: inside an installed package, otherwise beside the package."""
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
    own = [Parameter(**match.groupdict()) for match in _PARAMETER.finditer(headers.get("Parameters", ""))]
    names = _QUERY.findall(headers.get("Reads", ""))
    queries = tuple(_read(path.parents[1] / "queries" / f"{name}.sql") for name in names)
    if queries and (body := _BODY.match(text)):
        ctes = ",\n\n".join(f"{query.name} as (\n{query.text}\n)" for query in queries)
        text = f"{body['header']}with {ctes}{',' if body['with'] else ''}\n\n{body['body']}"
    parameters = {p.name: p for query in queries for p in query.parameters if p.name not in {q.name for q in own}}
    return SqlFile(path.stem, headers, (*parameters.values(), *own), text, queries)
