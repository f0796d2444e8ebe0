"""The files of sql/: found beside a checkout and in an installed wheel, their headers read as they are written."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import sqlfiles
from etl.sqlfiles import HEADERS, Parameter, sql_directory, sql_files

WHOLE = """-- nights.sql
-- Question:    How did the last $nights nights go,
--              studio by studio?
-- Grain:       one row per night.
-- Reads:       snapshots (all of them); see https://example.org: there.
-- Parameters:  $nights INTEGER, default 14; $tag VARCHAR, default Größe 映画.
-- Columns:     seconds in s.
select 1 as one -- Grain: this is no header
-- Question: neither is this
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlfiles, "sql_directory", lambda: tmp_path)
    (tmp_path / "queries").mkdir()
    return tmp_path / "queries"


def read(directory, text, name="nights"):
    (directory / f"{name}.sql").write_text(text, encoding="utf-8")
    return sql_files("queries")[name]


def test_header_is_read_line_by_line_and_ends_with_the_comment(directory):
    found = read(directory, WHOLE)
    assert found.name == "nights"
    assert found.text == WHOLE
    assert found.headers == {
        "Question": "How did the last $nights nights go, studio by studio?",
        "Grain": "one row per night.",
        "Reads": "snapshots (all of them); see https://example.org: there.",
        "Parameters": "$nights INTEGER, default 14; $tag VARCHAR, default Größe 映画.",
        "Columns": "seconds in s.",
    }
    assert tuple(found.headers) == HEADERS


def test_parameters_have_their_least_value_and_the_column_of_their_values(directory):
    text = WHOLE.replace("default 14;", "default 14, at least 1;").replace("映画.", "映画, one of t.tag_key.")
    assert read(directory, text).parameters == (
        Parameter("nights", "INTEGER", "14", "1"),
        Parameter("tag", "VARCHAR", "Größe 映画", None, "t.tag_key"),
    )


def test_parameters_have_their_type_and_the_text_of_their_default(directory):
    assert read(directory, WHOLE).parameters == (
        Parameter("nights", "INTEGER", "14"),
        Parameter("tag", "VARCHAR", "Größe 映画"),
    )


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True),
            st.sampled_from(["INTEGER", "VARCHAR", "DATE"]),
            st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters=".;"), min_size=1, max_size=6),
        ),
        max_size=3,
    )
)
def test_parameters_are_read_as_they_were_written(given_parameters):
    line = "; ".join(f"${name} {kind}, default {default}" for name, kind, default in given_parameters) or "none"
    found = sqlfiles._read(Text(f"-- q.sql\n-- Parameters:  {line}.\nselect 1\n"))
    assert found.parameters == tuple(Parameter(*parameter) for parameter in given_parameters)


@pytest.mark.parametrize(
    "body", ["select n + $more as n from few", "with more as (from few)\nselect n + $more as n from more"]
)
def test_file_is_given_the_named_queries_that_it_reads(directory, body):
    """As CTEs: what the report shows of a named query cannot differ from what the query says."""
    read(
        directory,
        "-- few.sql\n-- Reads:       numbers (all), others.\n"
        "-- Parameters:  $last INTEGER, default 2; $more INTEGER, default 1.\n"
        "select n from numbers where n < $last order by n -- the first\n",
        "few",
    )
    (directory.parent / "report").mkdir()
    header = "-- nights.sql\n-- Reads:       few (query), numbers.\n-- Parameters:  $more INTEGER, default 10.\n"
    (directory.parent / "report" / "nights.sql").write_text(f"{header}{body}")

    found = sql_files("report")["nights"]

    assert found.text.startswith(header)
    assert [query.name for query in found.queries] == ["few"]
    assert found.reads == ("numbers", "others")
    assert found.parameters == (Parameter("last", "INTEGER", "2"), Parameter("more", "INTEGER", "10"))
    with duckdb.connect() as connection:
        connection.execute("create table numbers as select n::integer as n from range(5) as r (n)")
        assert connection.execute(found.text, {"last": 2, "more": 10}).fetchall() == [(10,), (11,)]


class Text:
    """Stands for a file."""

    stem = "q"

    def __init__(self, text):
        self.text = text

    def read_text(self, encoding):
        assert encoding == "utf-8"
        return self.text


@pytest.mark.parametrize("text", ["", "select 1", "-- x.sql", "-- x.sql\n\n-- Question: too late\nselect 1"])
def test_file_without_a_header_has_none(directory, text):
    found = read(directory, text)
    assert (found.headers, found.parameters, found.text) == ({}, (), text)


def test_files_are_in_alphabetical_order_and_only_sql(directory):
    for name in ("b.sql", "a.sql", "c.txt", ".a.sql.swp", "README.md"):
        (directory / name).write_text("-- x\n")
    assert list(sql_files("queries")) == ["a", "b"]


def test_kind_without_any_file_is_empty(directory):
    assert sql_files("queries") == {}
    assert sql_files("marts") == {}
    assert directory.is_dir()


def test_checkout_has_them_beside_the_package():
    root = Path(sqlfiles.__file__).parents[1]
    assert sql_directory() == root / "sql"
    assert sql_files("views")["snapshots"].text == (root / "sql/views/snapshots.sql").read_text(encoding="utf-8")


def test_installed_package_has_them_inside(tmp_path):
    """As in a wheel: `etl/sql` goes before a `sql` that happens to lie beside the package."""
    root = Path(sqlfiles.__file__).parents[1]
    (tmp_path / "etl/sql/views").mkdir(parents=True)
    (tmp_path / "sql/views").mkdir(parents=True)
    for name in ("__init__.py", "sqlfiles.py"):
        (tmp_path / "etl" / name).write_bytes((root / "etl" / name).read_bytes())
    (tmp_path / "etl/sql/views/inside.sql").write_text("-- inside.sql\n-- Grain: é\n", encoding="utf-8")
    (tmp_path / "sql/views/beside.sql").write_text("-- beside.sql\n")
    code = "from etl.sqlfiles import sql_files; print(ascii({f.name: f.headers for f in sql_files('views').values()}))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        capture_output=True, text=True, check=True, env={"LC_ALL": "C", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.stdout.strip() == "{'inside': {'Grain': '\\xe9'}}"


def test_wheel_is_told_to_carry_every_file():
    root = Path(sqlfiles.__file__).parents[1]
    assert '\nsql = "etl/sql"' in (root / "pyproject.toml").read_text(encoding="utf-8").partition("force-include]")[2]
