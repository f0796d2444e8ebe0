"""Jobs whose warehouse is registered in Iceberg: after each job, every table equals its Delta table, or it fails."""

import datetime as dt
import json
import re
import signal

import polars as pl
import pytest
from pyiceberg.catalog import load_catalog
from support.buckets import BUCKET, KEY, REGION, running
from support.iceberg import NAMESPACE, asked_of_duckdb, assert_equal, by_duckdb, load, needs_duckdb, properties
from support.job import DATE, NIGHT, RUN, job_at
from support.programs import run_code

from etl.errors import ConfigError, StorageError
from etl.jobs.forget import forget
from etl.jobs.replay import Selection as Dates
from etl.jobs.replay import replay
from etl.jobs.upkeep import compact, show, vacuum
from etl.load.delta.tables import Tables
from etl.pipeline.forget_plan import Selection

NEXT = DATE + dt.timedelta(days=1)

pytestmark = pytest.mark.on_disk


@pytest.fixture(autouse=True)
def _polars_plans_as_pyiceberg_does(monkeypatch):
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # it warns that its own package is quicker


@pytest.fixture
def lake(tmp_path):
    return tmp_path / "lake"


@pytest.fixture
def registered(job, lake):
    """A job whose tables are registered."""
    job.configure(settings_of(properties(lake)))
    return job


@pytest.fixture
def few(registered):
    """The same with fewer tables."""
    registered.configure("datasets: [studios]")
    return registered


def settings_of(catalog):
    return f"iceberg: {{namespace: {NAMESPACE}, catalog: {json.dumps(catalog)}}}"


def names_in(lake):
    return {name for _, name in load_catalog("nimble-etl", **properties(lake)).list_tables(NAMESPACE)}


def assert_all_equal(job, lake, *, with_duckdb=False):
    """Compare every table of a warehouse with Iceberg's; return how many rows they have."""
    tables, asked, rows = Tables(job.store), [], {}
    for name in tables.names():
        table = load(lake, name)
        assert_equal(table, job.directory / "warehouse" / name)
        asked.append(asked_of_duckdb(table, tables.read(name)))
        rows[name] = table.scan().to_arrow().num_rows
    assert names_in(lake) == rows.keys()
    if with_duckdb:
        read = by_duckdb(*asked)
        assert [iceberg for iceberg, _ in read] == [files for _, files in read]
        assert [len(files) for _, files in read] == [*rows.values()]
    return rows


@needs_duckdb
def test_every_table_equals_delta_after_every_job(registered, studio, lake):
    registered.run()
    first = assert_all_equal(registered, lake)
    studio.set_instant(NIGHT + dt.timedelta(days=1))
    registered.run(NEXT)
    registered.run(NEXT)
    replay(registered.settings(), Dates(since=DATE))
    rows = assert_all_equal(registered, lake, with_duckdb=True)
    assert rows["streaming_sessions"] > 1.5 * first["streaming_sessions"]
    dates = pl.scan_iceberg(load(lake, "streaming_sessions")).select("snapshot_date").unique().collect()
    assert {*dates["snapshot_date"]} == {DATE, NEXT}
    compact(registered.settings())
    assert assert_all_equal(registered, lake, with_duckdb=True) == rows


def test_what_is_forgotten_is_gone_from_iceberg_and_after_vacuum_from_its_metadata(registered, lake):
    registered.run()
    before = assert_all_equal(registered, lake)
    ((session,),) = registered.ask("select min(session_id) from streaming_sessions")
    chosen = Selection.parse(where=[f"session_id={session}"])
    assert forget(registered.settings(), chosen, confirmed=True).touched

    after = assert_all_equal(registered, lake)
    assert after["streaming_sessions"] == before["streaming_sessions"] - 1
    old = load(lake, "streaming_sessions")
    assert len(old.snapshots()) == 2
    former = {one.manifest_list for one in old.snapshots()} - {old.current_snapshot().manifest_list}

    vacuum(registered.settings(), at_once=True)

    assert assert_all_equal(registered, lake) == after
    assert len(load(lake, "streaming_sessions").snapshots()) == 1
    assert not {f"file://{path}" for path in lake.rglob("*.avro")} & former


def test_a_job_without_anything_new_changes_nothing(few, lake):
    few.run()
    before = {path: path.stat().st_mtime_ns for path in lake.rglob("*.*")}
    show(few.settings())
    few.run(unless_published=True)
    assert {path: path.stat().st_mtime_ns for path in lake.rglob("*.*")} == before


@pytest.mark.parametrize(("step", "registered_before"), [("tables.whole", 0), ("iceberg.registered:3", 3)])
def test_fault_93_the_next_job_registers_what_a_killed_one_has_published(few, lake, step, registered_before):
    assert few.finish(*RUN, NIMBLE_ETL_FAILPOINT=step) == -signal.SIGKILL
    assert len(names_in(lake) if registered_before else ()) == registered_before

    few.run(unless_published=True)

    assert_all_equal(few, lake)


def test_fault_93_a_catalog_that_does_not_answer_costs_no_night_and_the_next_job_registers_it(few, lake, caplog):
    few.run()
    database = lake / "catalog.db"
    database.rename(lake / "away")
    database.mkdir()
    with pytest.raises(StorageError) as caught:
        few.run()
    assert caught.value.exit_code == 3
    assert re.match(
        r"iceberg\.catalog, nimble-etl: OperationalError: .*unable to open database file; what is published stays, and "
        "the next job registers it$",
        str(caught.value),
    )
    assert "It is asked again when this job has done its work" in caplog.text
    assert few.ask("select count(*) from etl_slices where is_published") == [(2,)]
    files = {*few.directory.glob("warehouse/*/snapshot*/*.parquet")}
    with pytest.raises(StorageError, match="OperationalError"):
        vacuum(few.settings(), at_once=True)
    assert {*few.directory.glob("warehouse/*/snapshot*/*.parquet")} == files  # a snapshot of Iceberg names some of them

    database.rmdir()
    (lake / "away").rename(database)
    assert few.run(unless_published=True) == []  # the night is not walked again

    assert_all_equal(few, lake)
    vacuum(few.settings(), at_once=True)
    assert {*few.directory.glob("warehouse/*/snapshot*/*.parquet")} < files
    assert_all_equal(few, lake)


def test_a_catalog_that_is_configured_wrongly_is_found_before_the_first_request(job, studio):
    job.configure(settings_of({"type": "sqll"}))
    with pytest.raises(ConfigError, match=r"iceberg\.catalog, nimble-etl: 'sqll' is not a valid CatalogType"):
        job.run()
    assert studio.requests == []


def test_without_the_extra_a_job_says_what_to_install(registered):
    code = (
        "import sys; sys.modules['pyiceberg'] = None; sys.modules['pyiceberg.catalog'] = None\n"
        "from etl.cli import main\n"
        f"sys.argv[1:] = ['run', '--config', {str(registered.config)!r}]\n"
        "main()"
    )
    done = run_code(code)
    assert done.returncode == 2
    assert "iceberg.catalog: needs pyiceberg.catalog; install nimble-etl[iceberg]" in done.stderr


def test_what_the_settings_of_a_catalog_say_is_shown_to_nobody(registered):
    shown = registered.cli("config", "show")
    assert "sqlite" not in shown.stdout
    assert re.search(r'iceberg.catalog +"\(hidden\)"', shown.stdout)


def test_secrets_come_from_the_variables_that_the_message_names(few, lake):
    wanted = properties(lake)
    few.config.write_text(few.config.read_text().replace(json.dumps(wanted), '{"type": "sql"}'))
    variables = {f"PYICEBERG_CATALOG__NIMBLE_ETL__{name.upper()}": wanted[name] for name in ("uri", "warehouse")}
    assert few.finish(*RUN, **variables) == 0, few.log
    assert_all_equal(few, lake)


def test_a_warehouse_in_a_bucket_is_registered_with_metadata_in_a_bucket(tmp_path, studio, monkeypatch, lake):
    job = job_at(tmp_path / "job", studio, kind="moto").lend_credentials(monkeypatch)
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")  # the test's server reads no chunked bodies
    in_bucket = {
        **properties(lake),
        "warehouse": f"s3://{BUCKET}/iceberg",
        "s3.endpoint": running("moto").url,
        "s3.region": REGION,
    }
    job.configure(f"{settings_of(in_bucket)}\ndatasets: [studios]")
    ended = job.cli(*RUN)  # as an operator does: Arrow's client of S3 must also end well
    assert ended.returncode == 0, ended.stderr
    studio.set_instant(NIGHT + dt.timedelta(days=1))
    job.run(NEXT)
    ended = job.cli("vacuum", "--now")
    assert ended.returncode == 0, ended.stderr

    keys = {"s3.access-key-id": KEY[0], "s3.secret-access-key": KEY[1]}
    catalog, tables = load_catalog("nimble-etl", **in_bucket, **keys), Tables(job.store)
    assert "studio_tags" in tables.names()
    for name in tables.names():
        table = catalog.load_table(f"{NAMESPACE}.{name}")
        files = {file for names in tables.read(name).files.values() for file in names}
        assert {one.file.file_path for one in table.scan().plan_files()} == files
        assert len(table.snapshots()) <= 1
    tags = catalog.load_table(f"{NAMESPACE}.studio_tags").scan().to_arrow()
    assert tags.num_rows == job.ask("select count(*) from studio_tags_history")[0][0]
    assert {*tags["snapshot_date"].to_pylist()} == {DATE, NEXT}
