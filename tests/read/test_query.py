"""Read-only SQL: a query is answered, anything else is refused, and what comes from outside is data."""

import datetime as dt
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shapes import ARRIVED
from support.warehouse import build, publish, publish_slices

from etl.errors import ConfigError, WarehouseError
from etl.load.catalog import packs
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME
from etl.read.query import _TABLE_FUNCTIONS, answer, ask, bind, named_query
from etl.sqlfiles import Parameter, SqlFile, sql_files
from etl.storage.disk import Disk

SECRET = "sesame"
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a warehouse of two rows, and secrets beside it: what a query must not find."""
    place = tmp_path_factory.mktemp('it\'s "here"')
    tables = Tables(Disk(place / "warehouse"))
    publish(tables, {"a": [1, 2]})
    publish_slices(tables, ["a"])
    build(tables)
    (place / "warehouse-2").mkdir()
    for file in (place / "secret.csv", place / "warehouse-2" / "secret.csv"):
        file.write_text(f"word\n{SECRET}\n")
    (place / "warehouse" / "link.csv").symlink_to(place / "secret.csv")
    (place / "warehouse" / "inside.csv").write_text("word\nopen\n")
    with duckdb.connect(place / "secret.duckdb") as connection:
        connection.execute(f"create table words as select '{SECRET}' as word")
    return place


@pytest.fixture(scope="module")
def catalog(place):
    return place / "warehouse" / CATALOG_NAME


def everything(place):
    """Return every file below a directory with its content."""
    return {path: path.read_bytes() if path.is_file() else None for path in place.rglob("*")}


def quoted(path):
    return "'" + str(path).replace("'", "''") + "'"


def rows(catalog, statement, **parameters):
    return [tuple(row.values()) for row in ask(Disk(catalog.parent), statement, parameters).to_pylist()]


# What is answered


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("select n from things order by n", [(1,), (2,)]),
        ("from things select n order by n desc limit 1;", [(2,)]),
        ("/* c */ select count(*) from things -- ; drop", [(2,)]),
        ("with more as (select n + 1 as m from things) select sum(m)::int from more", [(5,)]),
        ("with recursive r as (select 1 as i union all select i + 1 from r where i < 3) from r", [(1,), (2,), (3,)]),
        ("select 1 union all select 2", [(1,), (2,)]),
        ("values (1, 'a')", [(1, "a")]),
        ("select x from things, unnest([n]) as t(x) order by x", [(1,), (2,)]),
        ("from range(2)", [(0,), (1,)]),
        ("select n from query_table('things') order by n", [(1,), (2,)]),
        ("select column_name from (describe things) limit 1", [("snapshot_date",)]),
        ("select name from (show tables) where name like 'things%'", [("things",), ("things_history",)]),
        ("select '; drop view things; --' as text", [("; drop view things; --",)]),
        ('select "at" from things limit 1', [(ARRIVED,)]),
        ("select n from things where false", []),
    ],
)
def test_query_is_answered(catalog, statement, expected):
    assert rows(catalog, statement) == expected


@pytest.mark.parametrize(
    "statement",
    ["summarize things", "explain select n from things", "EXPLAIN ANALYZE select n from things", "show all tables"],
)
def test_statement_that_tells_about_data_is_answered(catalog, statement):
    assert ask(Disk(catalog.parent), statement).num_rows


def test_instants_are_in_utc_whatever_the_machine_says(catalog, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    answer = ask(Disk(catalog.parent), 'from things select "at", "at"::varchar as text limit 1')
    assert answer.schema.field("at").type == pa.timestamp("us", tz="UTC")
    assert answer.column("text").to_pylist() == ["2026-11-20 02:00:00.123456+00"]


def test_columns_of_the_same_name_are_all_in_the_answer(catalog):
    answer = ask(
        Disk(catalog.parent), "select 1 as a, 2 as a, 3 as a_1, 4 as A, t.n, u.n from things t join things u using (n)"
    )
    assert answer.num_columns == 6
    assert [column[0].as_py() for column in answer.columns[:4]] == [1, 2, 3, 4]
    assert len({name.lower() for name in answer.column_names}) == 6
    assert answer.column_names[0] == "a"


def test_warehouse_behind_a_link_is_queried(place, tmp_path):
    """For instance /data/warehouse, a link to where the disk of the month is mounted."""
    (tmp_path / "link").symlink_to(place / "warehouse")
    assert rows(tmp_path / "link" / CATALOG_NAME, "select n from things order by n") == [(1,), (2,)]
    publish_to = Tables(Disk(tmp_path / "link"))
    assert rows(build(publish_to), "select n from things order by n") == [(1,), (2,)]


# What is refused

W, OUT = "{warehouse}", "{out}"
NOT_QUERIES = {
    "writes": [
        "create table x as select 1", "create temp table x as select 1", "create or replace view things as select 1",
        "create macro m() as 1", "create sequence s", "create type t as enum ('a')", "create schema s",
        "insert into etl_runs default values", "update etl_runs set version = 'x'", "delete from etl_runs",
        "truncate etl_runs", "merge into etl_runs using things on false when not matched then insert default values",
        "drop view things", "drop table etl_runs", "alter table etl_runs rename to r",
        "comment on table etl_runs is 'x'",
    ],
    "writes inside a query": [
        "with a as (insert into etl_runs default values returning *) from a",
        "with a as (delete from etl_runs returning *) select 1",
        "with a as (update etl_runs set version = 'x' returning *) from a",
        f"with a as (copy (select 1) to {W}) select * from a",
        f"with a as (with b as (copy (select 1) to {W}) from b) from a",
        f"select (with a as (copy (select 1) to {W}) select 1 from a)",
    ],
    "attach": [
        f"attach {OUT} as a", f"attach {W} as a", "attach ':memory:' as a", "detach warehouse", "use memory",
    ],
    "extensions": [
        "install httpfs", "force install httpfs", "install httpfs from 'http://127.0.0.1:1/'", "load httpfs",
        f"load {W}", "update extensions",
    ],
    "copy": [
        f"copy (select 1) to {W}", f"copy (select 1) to {OUT}", f"copy things to {W} (format parquet)",
        f"copy etl_runs from {W}", "copy from database warehouse to memory", f"export database {W}",
        f"import database {W}",
    ],
    "settings": [
        "set enable_external_access = true", "set global allowed_directories = ['/']", "set lock_configuration = false",
        "reset lock_configuration", "set memory_limit = '1TB'", "set TimeZone = 'Asia/Tokyo'", "set variable x = 1",
    ],
    "pragmas and calls": [
        "pragma database_size", "pragma enable_profiling", "pragma table_info('things')", "call pragma_version()",
        "call checkpoint()", "checkpoint", "force checkpoint", "vacuum", "analyze",
    ],
    "transactions and statements": [
        "begin", "commit", "rollback", "prepare p as select 1", "execute p", "deallocate p",
        "create secret s (type http, bearer_token 'x')",
    ],
    "explained": [
        "explain create table x as select 1", "explain analyze delete from etl_runs",
        f"explain analyze copy (select 1) to {W}", f"EXPLAIN (analyze) copy (select 1) to {W}",
        f"/* c */ explain analyze copy (select 1) to {W}", f"explain analyze /* c */ copy (select 1) to {W}",
        f"explain explain analyze copy (select 1) to {W}", f"explain (format json) copy (select 1) to {W}",
    ],
    "none or several": [
        "", ";", "-- nothing", "select 1; select 2", "select 1; drop view things", f"select 1; copy (select 1) to {W}",
        f"select 1\0; copy (select 1) to {W}; --", "pivot things on n using count(*)",
    ],
    "no SQL": ["selec 1", "select from where", "hello", ".tables", "select '", "select '\udc80'"],
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_QUERIES)
def test_fault_57_anything_but_one_query_is_refused_and_changes_nothing(place, catalog, kind):
    before = everything(place)
    names = {"warehouse": quoted(place / "warehouse" / "new"), "out": quoted(place / "new")}
    for statement in NOT_QUERIES[kind]:
        with pytest.raises(ConfigError):
            ask(Disk(catalog.parent), statement.format(**names))
    assert everything(place) == before


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("drop view things", "found DROP; expected one query, such as `from streaming_sessions`"),
        ("select 1; select 2", "found 2 statements; expected one query"),
        ("with a as (delete from etl_runs returning *) select 1", "found DELETE_QUERY inside a query; expected"),
        ("from query('select 1')", "found the table function query, which does not only read; expected"),
        ("selec n from things", 'syntax error at or near "selec"'),
        ("select m from things", 'Referenced column "m" not found'),
        ("select cast('x' as int)", "Could not convert string 'x'"),
        ("select $x", "Values were not provided for the following parameters: x"),
    ],
)
def test_refusal_says_what_was_found(catalog, statement, says):
    with pytest.raises(ConfigError) as caught:
        ask(Disk(catalog.parent), statement)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        "query('select 1')", "query('copy (select 1) to ''x''')", "QUERY('select 1')", "system.main.query('select 1')",
        "json_execute_serialized_sql(json_serialize_sql('select 1'))", "checkpoint()", "force_checkpoint()",
        "enable_logging()", "truncate_duckdb_logs()", "enable_profiling()", "which_secret('s3://x', 's3')",
        "arrow_scan(1, 2, 3)", "pandas_scan(1)", "python_map_function(1)", "seq_scan('things')",
        "register_external_resource('x')", "sqlite_scan('x', 'y')", "postgres_scan('', '', '')",
        "load_aws_credentials()", "repeat_row(1, num_rows = 1)", "sniff_csv('x')", "test_all_types()",
    ],
)  # fmt: skip
def test_fault_57_table_function_that_does_more_than_read_is_refused(catalog, call):
    with pytest.raises(ConfigError, match="which does not only read"):
        ask(Disk(catalog.parent), f"from {call}")


@pytest.mark.parametrize(
    "statement",
    [
        "select * from things, query('select 1')",
        "select * from things where n in (select 1 from query('select 1'))",
        "with a as (from query('select 1')) select 1",
        "select 1 union all from query('select 1')",
        "explain analyze from query('select 1')",
        "select * from things order by (select 1 from query('select 1'))",
        "from things pivot (count(*) for n in (1)) union all by name from query('select 1')",
        "from \"query\"('select 1')",
    ],
)
def test_fault_57_table_function_that_does_more_than_read_is_refused_wherever_it_stands(catalog, statement):
    with pytest.raises(ConfigError, match="the table function query, which does not only read"):
        ask(Disk(catalog.parent), statement)


def test_fault_57_every_table_function_that_is_let_through_is_known_to_read(catalog):
    """A new version of DuckDB may bring new ones: a person looks at them first."""
    names = rows(catalog, "select distinct function_name from duckdb_functions() where function_type = 'table'")
    allowed = {name for (name,) in names if _TABLE_FUNCTIONS.fullmatch(name)}
    readers = {name for name in allowed if name.startswith(("read_", "parquet_", "duckdb_", "pragma_"))}
    assert allowed - readers == {
        "generate_series", "glob", "json_each", "json_tree", "query_table", "range", "repeat", "summary", "unnest",
    }  # fmt: skip
    verbs = ("write", "create", "delete", "execute", "drop", "enable", "disable", "register", "truncate", "attach")
    assert not [name for name in readers if any(verb in name for verb in verbs)]


READS = [
    "read_csv({})", "read_csv_auto({})", "read_text({})", "read_blob({})", "read_json({})", "read_ndjson({})",
    "read_parquet({})", "parquet_scan({})", "parquet_metadata({})", "parquet_schema({})", "parquet_kv_metadata({})",
    "parquet_file_metadata({})", "glob({})", "query_table({})", "query_table([{}])", "read_text([{}])",
    "read_csv([{}])", "{}", "read_duckdb({}, table_name = 'words')",
]  # fmt: skip


@pytest.mark.parametrize("call", READS)
def test_fault_57_files_outside_the_warehouse_are_not_read(place, catalog, call):
    for path in (place / "secret.csv", place / "warehouse" / "link.csv"):
        with pytest.raises(ConfigError, match="Permission Error"):
            ask(Disk(catalog.parent), f"from {call.format(quoted(path))}")


@pytest.mark.parametrize(
    "path",
    [
        "{}/*.csv", "{}/warehouse/../secret.csv", "{}/warehouse/things/../../secret.csv", "{}/warehouse-2/secret.csv",
        "{}/warehouse/*/../../secret.csv", "{}/secret.duckdb", "/etc/passwd", "file:///etc/passwd",
        "/proc/self/environ", "http://127.0.0.1:1/x", "s3://bucket/x",
    ],
)  # fmt: skip
def test_fault_57_no_path_leads_out_of_the_warehouse(place, catalog, path):
    for call in ("read_text({})", "glob({})"):
        with pytest.raises(ConfigError, match="Permission Error"):
            ask(Disk(catalog.parent), f"from {call.format(quoted(path.format(place)))}")


@pytest.mark.parametrize(
    "statement",
    [
        "select (select content from read_text({}))",
        "select n in (select length(content) from read_text({})) from things",
        "select list_transform([1], x -> (select content from read_text({})))",
        "select * from things order by (select content from read_text({}))",
        "with a as (from read_text({})) from a",
        "explain analyze from read_text({})",
        "select content from read_text([{}, {}])",
    ],
)
def test_fault_57_files_outside_are_not_read_from_inside_a_query_either(place, catalog, statement):
    with pytest.raises(ConfigError, match="Permission Error"):
        ask(Disk(catalog.parent), statement.replace("{}", quoted(place / "secret.csv")))


def test_files_inside_the_warehouse_are_read(place, catalog):
    """So the refusals above are not for another reason."""
    inside = quoted(place / "warehouse" / "inside.csv")
    for call in (f"read_csv({inside})", inside, f"query_table([{inside}])"):
        assert rows(catalog, f"from {call}") == [("open",)]
    assert rows(catalog, f"select count(*) from glob({quoted(place / 'warehouse' / 'inside.*')})") == [(1,)]


def test_fault_57_objects_of_this_process_are_not_tables(catalog):
    """DuckDB looks up unknown tables among the variables of Python, unless it is kept from that."""
    words = pa.table({"word": [SECRET]})
    with duckdb.connect() as connection:
        assert connection.execute("select count(*) from words").fetchall() == [(words.num_rows,)]
    for name in ("words", "parameters", "catalog", "_QUERY_NODES"):
        with pytest.raises(ConfigError, match="does not exist"):
            ask(Disk(catalog.parent), f"from {name}")


def test_fault_57_settings_are_those_of_the_query_and_cannot_be_seen_to_change(catalog):
    names = "'enable_external_access', 'lock_configuration', 'access_mode'"
    found = rows(catalog, f"select name, value from duckdb_settings() where name in ({names}) order by name")
    assert dict(found) == {"access_mode": "read_only", "enable_external_access": "false", "lock_configuration": "true"}


# Parameters


@settings(deadline=None, max_examples=15)
@given(text=TEXT, number=st.integers(-(2**63), 2**63 - 1))
def test_fault_54_parameter_is_data_whatever_it_holds(catalog, text, number):
    assert rows(catalog, "select $text as text, $number as number", text=text, number=number) == [(text, number)]


@pytest.mark.parametrize("text", ["'; drop view things; --", "a' or '1'='1", '" ; select 1', "$n", "a\0b", "%'"])
def test_fault_54_quotes_and_semicolons_in_a_parameter_find_nothing_and_change_nothing(place, catalog, text):
    before = everything(place)
    assert rows(catalog, "select n from things where text = $text", text=text) == []
    assert everything(place) == before


def test_parameter_that_the_statement_does_not_have_is_refused(catalog):
    with pytest.raises(ConfigError, match=r"[Pp]arameter"):
        ask(Disk(catalog.parent), "select 1", {"n": 1})


def query_of(kind, default="1"):
    return SqlFile("nightly", {}, (Parameter("p", kind, default),), "select $p as p")


@settings(deadline=None, max_examples=15)
@given(st.integers(-(2**31), 2**31 - 1), TEXT)
def test_fault_54_text_of_a_value_becomes_the_value(number, text):
    assert bind(query_of("INTEGER"), {"p": str(number)}) == {"p": number}
    assert bind(query_of("VARCHAR"), {"p": text}) == {"p": text}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("INTEGER", "abc"), ("INTEGER", ""), ("INTEGER", "1; drop table x"), ("INTEGER", "99999999999"),
        ("INTEGER", "12.5"), ("INTEGER", "1e-1"), ("INTEGER", "NaN"), ("INTEGER", "\udc80"), ("BIGINT", "0.5"),
        ("DATE", "2026-13-01"), ("DATE", "soon"), ("BOOLEAN", "perhaps"), ("DOUBLE", "x"), ("VARCHAR", "\udc80"),
    ],
)  # fmt: skip
def test_fault_54_value_of_another_type_is_refused_with_what_was_found_and_expected(kind, text):
    with pytest.raises(ConfigError) as caught:
        bind(query_of(kind), {"p": text})
    assert str(caught.value) == f"query nightly: p is {text!r}; expected {kind}"


def test_a_value_that_is_too_small_is_refused():
    query = SqlFile("nightly", {}, (Parameter("p", "INTEGER", "1", "1"),), "select $p as p")
    assert bind(query, {"p": "1"}) == {"p": 1}
    with pytest.raises(ConfigError, match=r"query nightly: p is 0; expected at least 1$"):
        bind(query, {"p": "0"})


@pytest.fixture
def of_tags():
    """A query with a parameter that should be one of the values of a column."""
    headers = {"Reads": "things, tags"}
    parameters = (Parameter("key", "VARCHAR", "Color", None, "tags.key"),)
    return SqlFile("of_tags", headers, parameters, "select n from things join tags on key = $key where things.n = 1")


def test_an_answer_says_that_it_is_empty_and_which_values_there_are(tmp_path, of_tags):
    with duckdb.connect(tmp_path / CATALOG_NAME) as connection:
        connection.execute("create table things as select 1 as n")
        connection.execute("create table tags as select unnest(['Color', 'Colour', null, 'Owner']) as key")
    assert answer(Disk(tmp_path), of_tags, {"key": "Color"}).rows.to_pylist() == [{"n": 1}]
    assert answer(Disk(tmp_path), of_tags, {"key": "Color"}).notes == ()
    found = answer(Disk(tmp_path), of_tags, {"key": "Ownr"})
    assert found.rows.num_rows == 0
    meant = " (did you mean Owner?); there are Color, Colour, Owner"
    assert found.notes == ("no rows", f"--key Ownr: is no key of tags{meant}")


def test_a_query_whose_tables_are_not_there_names_them(tmp_path, of_tags):
    with duckdb.connect(tmp_path / CATALOG_NAME) as connection:
        connection.execute("create table things as select 1 as n")
    with pytest.raises(ConfigError, match=r"query of_tags: reads tags, and this warehouse has no such table; is the"):
        answer(Disk(tmp_path), of_tags, {"key": "Color"})


def test_default_is_used_where_nothing_is_given():
    assert bind(query_of("INTEGER", "12"), {}) == {"p": 12}
    assert bind(query_of("VARCHAR", "Project"), {}) == {"p": "Project"}


def test_unknown_parameter_is_refused_and_the_known_ones_named():
    with pytest.raises(ConfigError, match=r"query nightly: unknown parameter q, r; it takes --p INTEGER$"):
        bind(query_of("INTEGER"), {"r": "1", "q": "1"})
    with pytest.raises(ConfigError, match=r"it takes none$"):
        bind(SqlFile("nightly", {}, (), "select 1"), {"q": "1"})


def test_named_query_is_found_and_an_unknown_one_told_from_those_that_exist():
    names = list(sql_files("queries"))
    assert [named_query(name).name for name in names] == names
    with pytest.raises(ConfigError) as caught:
        named_query("../views/snapshots")
    assert str(caught.value) == f"query '../views/snapshots' does not exist; there are {', '.join(names)}"


@pytest.mark.parametrize("name", sql_files("queries"))
def test_every_named_query_is_allowed_to_run(tmp_path, name):
    """It passes the same check as what a person types; here on tables without rows."""
    query = named_query(name)
    with duckdb.connect(tmp_path / CATALOG_NAME) as connection:
        connection.execute("create table empty (x integer)")
    with pytest.raises(ConfigError, match="Catalog Error"):  # parsed and let through: only the tables are missing
        ask(Disk(tmp_path), query.text, bind(query, {}))


# What cannot be asked


def test_missing_catalog_says_what_makes_it(tmp_path):
    with pytest.raises(WarehouseError, match=r"warehouse\.duckdb: there is no catalog yet; `nimble-etl run` makes it"):
        ask(Disk(tmp_path), "select 1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"hello" * 1000])
def test_fault_52_catalog_that_is_none_is_a_warehouse_error(tmp_path, content):
    (tmp_path / CATALOG_NAME).write_bytes(content)
    with pytest.raises(WarehouseError, match=r"warehouse\.duckdb: .*`nimble-etl catalog` builds it anew"):
        ask(Disk(tmp_path), "select 1")
    assert (tmp_path / CATALOG_NAME).read_bytes() == content


def test_fault_39_missing_data_file_is_named(tmp_path):
    tables = Tables(Disk(tmp_path / "warehouse"))
    publish(tables, {"a": [1]})
    catalog = build(tables)
    ((file,),) = tables.read("things").files.values()
    (tables.store.path / file).unlink()
    with pytest.raises(WarehouseError, match=r"verify. says what is damaged") as caught:
        ask(Disk(catalog.parent), "from things_history")
    assert file in str(caught.value)


def test_catalog_that_another_program_writes_into_says_so(tmp_path):
    catalog = tmp_path / "warehouse.duckdb"
    program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('there', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(catalog)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "there\n"
        with pytest.raises(WarehouseError, match=r"another program has it open for writing: end that program"):
            ask(Disk(catalog.parent), "select 1")
        other.stdin.close()


def test_catalog_beside_what_another_program_has_written_says_what_helps(tmp_path):
    catalog, newer = tmp_path / "warehouse.duckdb", tmp_path / "newer.duckdb"
    program = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); c.execute('create table t as select 1'); os._exit(0)"
    )
    for path in (catalog, newer):
        subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    with duckdb.connect(newer) as connection:
        connection.execute("create table u as select 1")
    newer.rename(catalog)
    assert Path(f"{catalog}.wal").exists(), "what the program wrote into the catalog of before"

    with pytest.raises(WarehouseError, match=r"left warehouse\.duckdb\.wal: `nimble-etl catalog` builds a new one"):
        ask(Disk(catalog.parent), "select 1")


def test_a_catalog_with_a_flipped_bit_is_damaged_and_no_statement_is_to_blame(tmp_path):
    publish(Tables(Disk(tmp_path / "warehouse")), {"a": [1]})
    catalog = build(Tables(Disk(tmp_path / "warehouse")))
    content = catalog.read_bytes()
    catalog.chmod(0o644)
    for place in (100, 4100, 12_300):
        catalog.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(WarehouseError, match=r"Corrupt database file.*`nimble-etl catalog` builds it anew"):
            ask(Disk(catalog.parent), "select 1")


def test_catalog_of_a_warehouse_that_was_moved_says_so_where_it_names_packs(tmp_path, monkeypatch):
    monkeypatch.setattr(packs, "_FEWEST_FILES", 1)
    before, after = tmp_path / "before", tmp_path / "after"
    for month in (9, 10):
        publish(Tables(Disk(before)), {"a": [month]}, date=dt.date(2026, month, 1), run=f"run-{month}")
    build(Tables(Disk(before)))
    before.rename(after)
    with pytest.raises(WarehouseError, match=r"was the warehouse moved\? `nimble-etl catalog` builds it anew"):
        ask(Disk(after), "select n from things_history")
