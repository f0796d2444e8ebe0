"""Iceberg tables equal the Delta tables, whatever happens to these, and are changed no more than they must be."""

import datetime as dt
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import EqualTo, GreaterThan
from support.cloud import KEY, REGION, Cloud
from support.iceberg import (
    NAMESPACE,
    asked_of_duckdb,
    assert_equal,
    by_duckdb,
    by_polars,
    by_pyiceberg,
    changed,
    load,
    needs_duckdb,
    of_delta,
    properties,
    registry_in,
)
from support.rest_catalog import TOKEN, rest_catalog
from support.shapes import ARRIVED, DATE
from support.warehouse import NEXT_DATE, THINGS, WIDE, publish, publish_slices, rows_of

from etl.errors import CommitConflictError, ConfigError, DeniedError, StorageError, WarehouseError
from etl.load.delta.stage import Stage
from etl.load.delta.tables import Replacement, Tables
from etl.load.delta.upkeep import vacuum
from etl.load.iceberg import Registry
from etl.storage.disk import Disk
from etl.transform.schema import SNAPSHOT_DATE


@pytest.fixture(autouse=True)
def _polars_plans_as_pyiceberg_does(monkeypatch):
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # it warns that its own package is quicker


@pytest.fixture
def lake(tmp_path):
    """A directory for a catalog, with what makes paths hard: a blank, and a letter that is not ASCII."""
    return tmp_path / "a läke"


@pytest.fixture
def registry(lake):
    return registry_in(lake)


def place(tables, name="things"):
    return tables.store.local / name


def live(tables, name="things"):
    return {file for files in tables.read(name).files.values() for file in files}


def compact(tables):
    Stage(tables, "things", tables.read("things").schema, Replacement(DATE, "slice_id", ()), "compact").commit("c", 1)


def forget(tables):
    for date in tables.dates("things"):
        Stage(tables, "things", tables.read("things").schema, Replacement(date, "slice_id", ("a", "b")), "f").commit(
            f"forget {date}", 1
        )


STEPS = {
    "first": lambda tables: publish(tables, {"a": [1, 2, 3], "b": [4]}),
    "another date": lambda tables: publish(tables, {"a": [5, 6]}, date=NEXT_DATE, number=2),
    "replacement": lambda tables: publish(tables, {"a": [1, 7]}, number=3),
    "repetition": lambda _: None,
    "more columns": lambda tables: publish(
        tables, {"b": [8, 9]}, number=4, date=NEXT_DATE, schema=WIDE, colour=["red", None], weight=[0.5, None]
    ),
    "compaction": compact,
    "nothing left": forget,
}


def test_pyiceberg_and_polars_see_what_delta_shows_after_each_change(tables, registry, lake):
    for step, change in STEPS.items():
        change(tables)
        registry.register(tables)
        assert_equal(load(lake), place(tables))
        dates = {row["snapshot_date"] for row in load(lake).scan().to_arrow().to_pylist()}
        assert dates == {*tables.dates("things")}, step


@needs_duckdb
def test_duckdb_sees_what_is_in_the_files_after_each_change(tables, registry, lake):
    asked = []
    for change in STEPS.values():
        change(tables)
        registry.register(tables)
        asked.append(asked_of_duckdb(load(lake), tables.read("things")))
    read = by_duckdb(*asked)
    assert [iceberg for iceberg, _ in read] == [files for _, files in read]
    assert [len(iceberg) for iceberg, _ in read] == [4, 6, 5, 5, 7, 7, 0]


ALL = {
    "text": (pa.string(), ["", "ä 🎬", None]),
    "int32": (pa.int32(), [-(2**31), 2**31 - 1, None]),
    "int64": (pa.int64(), [-(2**63), 2**63 - 1, None]),
    "double": (pa.float64(), [math.nan, -math.inf, None]),
    "boolean": (pa.bool_(), [True, False, None]),
    "instant": (pa.timestamp("us", tz="UTC"), [ARRIVED, dt.datetime(1969, 1, 1, 0, 0, 0, 1, dt.UTC), None]),
    "blob": (pa.binary(), [b"", b"\x00\xff", None]),
    "texts": (pa.list_(pa.string()), [[], ["a", None], None]),
    "structures": (
        pa.list_(pa.struct([("name", pa.string()), ("sizes", pa.list_(pa.int64()))])),
        [[], [{"name": "a", "sizes": [1, None]}, {"name": None, "sizes": None}], None],
    ),
    "tags": (pa.map_(pa.string(), pa.string()), [[], [("k", "v"), ("n", None)], None]),
    "lists_by_key": (pa.map_(pa.string(), pa.list_(pa.string())), [[], [("k", ["v"])], None]),
}
"""Each type that `etl.transform.schema` makes a column of -> values of it."""


@needs_duckdb
def test_every_type_of_a_column_is_read_as_it_was_written(tables, registry, lake):
    schema = pa.schema([SNAPSHOT_DATE, ("slice_id", pa.string()), *((name, kind) for name, (kind, _) in ALL.items())])
    values = {name: list(found) for name, (_, found) in ALL.items()}
    batch = pa.RecordBatch.from_pydict({"snapshot_date": [DATE] * 3, "slice_id": ["a"] * 3, **values}, schema=schema)
    staged = Stage(tables, "kinds", schema, Replacement(DATE, "slice_id", ("a",)), "run-1")
    staged.write(batch)
    staged.commit("run-1", 1)

    registry.register(tables)

    table = load(lake, "kinds")
    arrow, polars = of_delta(place(tables, "kinds"))
    assert by_polars(table) == polars
    # https://github.com/apache/iceberg-python/issues/3833: pyiceberg 0.12 reads null as no structures.
    assert by_pyiceberg(table) == [row.replace("('structures', None)", "('structures', [])") for row in arrow]
    ((iceberg, files),) = by_duckdb(asked_of_duckdb(table, tables.read("kinds")))
    assert iceberg == files
    assert len(files) == 3
    assert table.scan().to_arrow()["instant"].type == pa.timestamp("us", tz="UTC")


def test_a_snapshot_removes_and_adds_exactly_what_left_and_came(tables, registry, lake):
    publish(tables, {"a": [1], "b": [2]})
    publish(tables, {"a": [3]}, date=NEXT_DATE, number=2)
    registry.register(tables)
    before = live(tables)
    publish(tables, {"a": [4]}, number=3)

    registry.register(tables)

    table = load(lake)
    assert changed(table) == (live(tables) - before, before - live(tables))
    assert len(table.snapshots()) == 2
    assert table.current_snapshot().summary["nimble-etl.delta-version"] == str(tables.read("things").version)
    assert table.properties["nimble-etl.delta-version"] == str(tables.read("things").version)


def test_a_repetition_changes_nothing(tables, registry, lake):
    publish(tables, {"a": [1]})
    registry.register(tables)
    before = load(lake).metadata

    registry.register(tables)
    registry_in(lake).register(Tables(Disk(tables.store.local)))

    assert load(lake).metadata == before
    assert len(list(lake.rglob("*.metadata.json"))) == 1


def test_versions_of_the_log_that_change_no_file_make_no_snapshot(tables, registry, lake):
    publish(tables, {"a": [1]})
    publish(tables, {"a": [2]}, number=2)
    registry.register(tables)
    before = load(lake).current_snapshot()
    vacuum(tables, "things", dt.timedelta(0))
    assert tables.read("things").version > 2

    registry.register(tables)

    assert load(lake).current_snapshot() == before
    assert load(lake).properties["nimble-etl.delta-version"] == str(tables.read("things").version)


def test_a_table_without_rows_is_registered_with_its_columns(tables, registry, lake):
    publish(tables, {"a": []})
    registry.register(tables)
    assert load(lake).current_snapshot() is None
    assert load(lake).scan().to_arrow().column_names == THINGS.names
    publish(tables, {"a": [1]}, number=2)
    registry.register(tables)
    assert_equal(load(lake), place(tables))


def test_readers_leave_out_files_that_cannot_have_a_row(tables, registry, lake):
    publish(tables, {"a": [1, 2]})
    publish(tables, {"b": [30]}, number=2)
    publish(tables, {"a": [3]}, date=NEXT_DATE, number=3)
    registry.register(tables)

    def planned(condition):
        return len([*load(lake).scan(row_filter=condition).plan_files()])

    assert len(live(tables)) == 3
    assert planned(EqualTo("snapshot_date", NEXT_DATE)) == 1
    assert planned(GreaterThan("n", 29)) == 1
    assert planned(EqualTo("slice_id", "b")) == 1
    (file,) = [one.file for one in load(lake).scan(row_filter=GreaterThan("n", 29)).plan_files()]
    assert file.record_count == 1
    assert file.file_size_in_bytes == Path(file.file_path.removeprefix("file://")).stat().st_size


def test_metadata_name_no_values_of_texts_that_could_be_of_a_person(tables, registry, lake):
    publish(tables, {"a": [1]})
    registry.register(tables)
    table = load(lake)
    (file,) = [one.file for one in table.scan().plan_files()]
    types = {field.field_id: field for field in table.schema().fields}
    bounds = {types[key].name: from_bytes(types[key].field_type, value) for key, value in file.lower_bounds.items()}
    assert bounds.keys() == {"slice_id", "n", "at"}
    assert (bounds["slice_id"], bounds["n"]) == ("a", 1)
    assert {types[key].name for key in file.null_value_counts if key in types} >= {"text", "n", "at"}


def test_descriptions_of_columns_come_along(tables, registry, lake):
    publish(tables, {"a": [1]})
    registry.register(tables)
    assert load(lake).schema().find_field("at").doc == "an instant"


# Others at the same time


class Meanwhile(Disk):
    """A disk on which something happens as the first data file is read: between looking at a table and changing it."""

    def __init__(self, path, what):
        super().__init__(path)
        self.what = [what]

    def opened(self, name):
        if self.what:
            self.what.pop()()
        return super().opened(name)


@pytest.mark.parametrize("is_new", [True, False], ids=["a new table", "a table"])
def test_fault_93_of_two_registrations_at_once_one_does_the_work(tables, lake, is_new):
    publish(tables, {"a": [1, 2]})
    if not is_new:
        registry_in(lake).register(tables)
        publish(tables, {"b": [3]}, number=2)
    late = Tables(Meanwhile(tables.store.local, lambda: registry_in(lake).register(tables)))

    registry_in(lake).register(late)

    assert_equal(load(lake), place(tables))
    assert len(load(lake).snapshots()) == (1 if is_new else 2)


def test_fault_93_whoever_is_late_does_not_bring_an_older_version_back(tables, lake):
    publish(tables, {"a": [1]})
    registry_in(lake).register(tables)
    publish(tables, {"b": [2]}, number=2)

    def overtake():
        publish(tables, {"a": [3]}, number=3)
        registry_in(lake).register(tables)

    late = Tables(Meanwhile(tables.store.local, overtake))
    late.freeze()
    registry_in(lake).register(late)
    assert_equal(load(lake), place(tables))

    registry_in(lake).register(late)
    assert_equal(load(lake), place(tables))
    assert load(lake).properties["nimble-etl.delta-version"] == str(tables.read("things").version)


def test_a_conflict_each_time_ends_with_an_error_that_says_so(tables, lake):
    publish(tables, {"a": [1]})
    registry_in(lake).register(tables)
    publish(tables, {"a": [2]}, number=2)

    class Restless(Disk):
        def opened(self, name):
            load(lake).append(pa.Table.from_batches([rows_of("z", [9])]))
            return super().opened(name)

    with pytest.raises(CommitConflictError, match=r"table nimble\.things: another writer was first: .*; run again"):
        registry_in(lake).register(Tables(Restless(tables.store.local)))
    assert len(load(lake).snapshots()) == 6
    registry_in(lake).register(tables)
    assert_equal(load(lake), place(tables))


def test_many_tables_are_registered_by_many_at_once(tables, lake):
    names = [f"things_{number}" for number in range(3)]
    for name in names:
        publish(tables, {"a": [1, 2]}, table=name)
    registry_in(lake).check()  # pyiceberg makes its tables in SQLite
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: registry_in(lake).register(Tables(Disk(tables.store.local))), range(3)))
    for name in names:
        assert_equal(load(lake, name), place(tables, name))
        assert len(load(lake, name).snapshots()) == 1


# What others have changed


def test_rows_that_another_program_has_added_or_removed_are_put_right(tables, registry, lake):
    publish(tables, {"a": [1, 2]})
    registry.register(tables)
    load(lake).delete(EqualTo("n", 1))
    assert len(by_pyiceberg(load(lake))) == 1

    registry.register(tables)

    assert_equal(load(lake), place(tables))


def test_a_table_of_another_warehouse_is_refused_and_the_others_are_registered(tables, lake, tmp_path):
    other = Tables(Disk(tmp_path / "other"))
    publish(other, {"a": [1]})
    registry_in(lake).register(other)
    for name in ("stuff", "things", "zoo"):
        publish(tables, {"a": [2]}, table=name)
    publish_slices(tables, ["a"])

    with pytest.raises(ConfigError) as caught:
        registry_in(lake).register(tables)

    assert str(caught.value) == (
        f"iceberg.catalog: the table nimble.things shows {place(other)}; expected one that shows {place(tables)}. "
        "Choose another iceberg.namespace, or drop that table from the catalog without its files"
    )
    assert_equal(load(lake), place(other))
    assert_equal(load(lake, "zoo"), place(tables, "zoo"))
    names = {name for _, name in Registry(properties(lake), NAMESPACE)._catalog().list_tables(NAMESPACE)}
    assert names == {"things", "stuff", "zoo"}  # facts would say that all tables are whole


def test_a_table_that_nimble_etl_has_not_made_is_refused(tables, registry):
    publish(tables, {"a": [1]})
    catalog = registry._catalog()
    catalog.create_namespace(NAMESPACE)
    catalog.create_table(f"{NAMESPACE}.things", pa.schema([("x", pa.int64())]))
    with pytest.raises(ConfigError, match=r"the table nimble\.things is not of nimble-etl; expected one that shows"):
        registry.register(tables)


def test_a_warehouse_that_has_moved_keeps_its_tables(tables, registry, lake, tmp_path):
    publish(tables, {"a": [1, 2]})
    registry.register(tables)
    moved = Tables(Disk(tmp_path / "moved"))
    shutil.move(tables.store.local, moved.store.local)

    registry.register(moved)
    assert_equal(load(lake), place(moved))
    publish(moved, {"a": [3]}, number=2)
    registry.register(moved)

    assert_equal(load(lake), place(moved))


def test_a_new_table_in_the_place_of_one_that_was_moved_away_is_shown(tables, registry, lake, tmp_path):
    publish(tables, {"a": [1]})
    publish(tables, {"a": [2]}, number=2)
    registry.register(tables)
    shutil.move(place(tables), tmp_path / "away")
    anew = Tables(Disk(tables.store.local))
    publish(anew, {"a": [9]})

    registry.register(anew)

    assert_equal(load(lake), place(anew))


def test_columns_of_another_type_are_refused_with_what_to_do(tables, registry, lake, tmp_path):
    publish(tables, {"a": [1]})
    registry.register(tables)
    shutil.move(place(tables), tmp_path / "away")
    anew = Tables(Disk(tables.store.local))
    texts = pa.schema([field.with_type(pa.string()) if field.name == "n" else field for field in THINGS])
    publish(anew, {"a": ["1"]}, schema=texts)
    with pytest.raises(ConfigError, match=r"the table nimble\.things has a column of another type: .*; drop it"):
        registry.register(anew)
    load(lake)
    registry._catalog().drop_table(f"{NAMESPACE}.things")
    registry.register(anew)
    assert_equal(load(lake), place(anew))


# Snapshots that nobody needs any more


def metadata_of(lake):
    return set(lake.rglob("*.avro"))


def test_former_snapshots_go_with_their_metadata(tables, registry, lake):
    for number in range(1, 4):
        publish(tables, {"a": [number]}, number=number)
        registry.register(tables)
    assert len(load(lake).snapshots()) == 3

    registry.expire(tables, dt.timedelta(days=1))
    assert len(load(lake).snapshots()) == 3

    registry.expire(tables, dt.timedelta(0))

    table = load(lake)
    assert len(table.snapshots()) == 1
    snapshot = table.current_snapshot()
    named = {snapshot.manifest_list, *(one.manifest_path for one in snapshot.manifests(table.io))}
    assert {f"file://{path}" for path in metadata_of(lake)} == named
    assert_equal(table, place(tables))
    registry.expire(tables, dt.timedelta(0))
    assert load(lake).metadata_location == table.metadata_location


def test_a_snapshot_with_a_tag_stays(tables, registry, lake):
    publish(tables, {"a": [1]})
    registry.register(tables)
    load(lake).manage_snapshots().create_tag(load(lake).current_snapshot().snapshot_id, "audit").commit()
    publish(tables, {"a": [2]}, number=2)
    registry.register(tables)
    registry.expire(tables, dt.timedelta(0))
    assert len(load(lake).snapshots()) == 2
    tagged = load(lake).scan(snapshot_id=load(lake).snapshot_by_name("audit").snapshot_id)
    assert [row["n"] for row in tagged.to_arrow().to_pylist()] == [1]


def test_former_snapshots_leave_what_the_newest_needs(tables, registry, lake):
    """Files of a date that stay are in the manifest of the snapshot that has added them."""
    for number, date in enumerate((DATE, NEXT_DATE), 1):
        publish(tables, {"a": [number]}, number=number, date=date)
        registry.register(tables)
    registry.expire(tables, dt.timedelta(0))
    assert len(load(lake).snapshots()) == 1
    assert_equal(load(lake), place(tables))


def test_a_snapshot_stays_for_the_grace_after_another_took_its_place(tables, registry, lake):
    """However old it is: readers have used it until then."""
    publish(tables, {"a": [1]})
    registry.register(tables)
    publish(tables, {"a": [2]}, number=2)
    registry.register(tables)
    first, second = sorted(load(lake).snapshots(), key=lambda one: one.sequence_number)
    now = dt.datetime.now(dt.UTC)
    since_first = now - dt.datetime.fromtimestamp(first.timestamp_ms / 1000, dt.UTC)
    assert first.timestamp_ms < second.timestamp_ms
    registry.expire(tables, since_first)
    assert len(load(lake).snapshots()) == 2


@pytest.mark.parametrize("lost", ["manifests", "all"])
def test_what_a_killed_expiry_has_begun_is_finished(tables, registry, lake, lost):
    publish(tables, {"a": [1]})
    registry.register(tables)
    old = load(lake).current_snapshot()
    gone = [
        *(one.manifest_path for one in old.manifests(load(lake).io)),
        *([old.manifest_list] if lost == "all" else []),
    ]
    publish(tables, {"a": [2]}, number=2)
    registry.register(tables)
    for path in gone:
        Path(path.removeprefix("file://")).unlink()

    registry_in(lake).expire(tables, dt.timedelta(0))

    assert len(load(lake).snapshots()) == 1
    assert not Path(old.manifest_list.removeprefix("file://")).exists()
    assert_equal(load(lake), place(tables))


# What does not work


@contextmanager
def glue(lake):
    with Cloud() as cloud:
        keys = {"glue.access-key-id": KEY[0], "glue.secret-access-key": KEY[1]}
        where = {"glue.endpoint": cloud.url, "glue.region": REGION, "warehouse": f"file://{lake}"}
        yield {"type": "glue", **where, **keys}


@contextmanager
def rest(lake):
    with rest_catalog(**properties(lake)) as url:
        yield {"type": "rest", "uri": url, "token": TOKEN}


@pytest.mark.parametrize("kind", [glue, rest])
def test_tables_are_registered_in_other_catalogs(kind, tables, lake):
    with kind(lake) as catalog:
        for number in (1, 2):
            publish(tables, {"a": [number]}, number=number)
            Registry(catalog, NAMESPACE).register(tables)
        table = load_catalog("any", **catalog).load_table(f"{NAMESPACE}.things")
        assert_equal(table, place(tables))
        assert len(table.snapshots()) == 2
        overtaken = Tables(Meanwhile(tables.store.local, lambda: Registry(catalog, NAMESPACE).register(tables)))
        publish(tables, {"b": [3]}, number=3)
        Registry(catalog, NAMESPACE).register(overtaken)
        assert_equal(table.refresh(), place(tables))
        assert len(table.snapshots()) == 3


def test_a_token_that_a_catalog_refuses_is_a_right_that_is_missing(tables, lake):
    publish(tables, {"a": [1]})
    with rest(lake) as catalog, pytest.raises(DeniedError, match=r"no such token; this job needs the right to change"):
        Registry({**catalog, "token": "another"}, NAMESPACE).register(tables)


@pytest.mark.parametrize(
    ("catalog", "error", "says"),
    [
        ({"type": "sqll"}, ConfigError, "'sqll' is not a valid CatalogType; expected properties as pyiceberg"),
        ({"type": "sql"}, ConfigError, "nimble-etl: "),
        ({"type": "sql", "uri": "nosuchdb:///x"}, ConfigError, "Can't load plugin"),
        ({"type": "sql", "uri": "mysql+pymysql://h/d"}, ConfigError, "install what a catalog of this type needs"),
        ({"type": "sql", "uri": "sqlite:////nowhere/at/all/c.db"}, StorageError, "unable to open database file"),
        ({"type": "rest", "uri": "http://127.0.0.1:9/"}, StorageError, "ConnectionError"),
        ({"type": "hive", "uri": "thrift://127.0.0.1:9"}, ConfigError, "install what a catalog of this type needs"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_catalog_that_cannot_be_used_says_why(tables, catalog, error, says):
    publish(tables, {"a": [1]})
    with pytest.raises(error) as caught:
        Registry(catalog, NAMESPACE).register(tables)
    assert str(caught.value).startswith("iceberg.catalog, nimble-etl: ")
    assert says in str(caught.value)
    assert type(caught.value) is error


def test_a_damaged_data_file_is_named_and_nothing_is_registered(tables, registry, lake):
    publish(tables, {"a": [1]})
    registry.register(tables)
    publish(tables, {"a": [2]}, number=2)
    (file,) = live(tables)
    Path(file).write_bytes(b"PAR1 no more")
    with pytest.raises(WarehouseError, match=r"cannot be read"):
        registry.register(tables)
    assert len(load(lake).snapshots()) == 1
    assert len(metadata_of(lake)) == 2
