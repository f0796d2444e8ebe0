"""What BI tools see: flat views that stay as they are, and connections that nobody blocks."""

import datetime as dt
import json
import re
import subprocess
import sys

import duckdb
import pandas as pd
import polars as pl
import pytest
import sqlalchemy
from support.job import DATE, NIGHT, RUN, job_at
from support.studios import studio_of
from support.tables_page import PAGE, page
from support.tables_page import everything as all_listings

from etl.emulator import World
from etl.jobs.workplace import content_of
from etl.model import CATALOG_NAME

NEXT = DATE + dt.timedelta(days=1)
NESTED = ("MAP", "STRUCT", "[]", "JSON", "UNION")

SESSIONS = """
snapshot_date DATE, account_id VARCHAR, region VARCHAR, studio_id VARCHAR, studio_name VARCHAR, arn VARCHAR,
automatic_termination_mode VARCHAR, backup_mode VARCHAR, created_at TIMESTAMP WITH TIME ZONE,
created_at_utc TIMESTAMP, created_by VARCHAR, ec2_instance_type VARCHAR, launch_profile_id VARCHAR,
launch_profile_name VARCHAR, max_backups_to_retain INTEGER, owned_by VARCHAR, session_id VARCHAR,
session_persistence_mode VARCHAR, started_at TIMESTAMP WITH TIME ZONE, started_at_utc TIMESTAMP, started_by VARCHAR,
started_from_backup_id VARCHAR, state VARCHAR, status_code VARCHAR, status_message VARCHAR,
stop_at TIMESTAMP WITH TIME ZONE, stop_at_utc TIMESTAMP, stopped_at TIMESTAMP WITH TIME ZONE,
stopped_at_utc TIMESTAMP, stopped_by VARCHAR, streaming_image_id VARCHAR, streaming_image_name VARCHAR, tags VARCHAR,
terminate_at TIMESTAMP WITH TIME ZONE, terminate_at_utc TIMESTAMP, updated_at TIMESTAMP WITH TIME ZONE,
updated_at_utc TIMESTAMP, updated_by VARCHAR, volume_configuration_iops INTEGER, volume_configuration_size INTEGER,
volume_configuration_throughput INTEGER, volume_retention_mode VARCHAR, extra VARCHAR, run_id VARCHAR,
slice_id VARCHAR, page_number INTEGER, extracted_at TIMESTAMP WITH TIME ZONE, extracted_at_utc TIMESTAMP,
tag_project VARCHAR, tag_artist_level VARCHAR, tag_nobody_has_it VARCHAR
"""
"""The contract: dashboards name these columns, and some of them go by position."""


@pytest.fixture(scope="module")
def studio():
    with studio_of(World(sessions_per_studio=80), page_size=40) as studio:
        yield studio


@pytest.fixture(scope="module")
def everything(tmp_path_factory, studio):
    """A job with all ten listings and three pinned tags, after one night."""
    job = all_listings(tmp_path_factory.mktemp("bi") / "job", studio)
    job.configure("bi: {pinned_tags: [Project, Artist level, Nobody has it]}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIMBLE_ETL_PRIVACY__KEY", "key")
        ended = job.cli(*RUN)
    assert ended.returncode == 0, ended.stderr
    return job


def test_bi_sessions_has_the_columns_of_the_contract_in_their_order(everything):
    found = everything.ask("select column_name, column_type from (describe bi.sessions)")
    assert ", ".join(f"{name} {kind}" for name, kind in found) == " ".join(SESSIONS.split())


def test_no_flat_view_has_anything_nested_and_every_dataset_has_one(everything):
    listed = everything.ask(
        "select table_name, column_name, data_type from information_schema.columns where table_schema = 'bi'"
    )
    tables = {table for table, _, _ in listed}
    assert [row for row in listed if any(word in row[2] for word in NESTED)] == []
    assert {"sessions", "sessions_history", "sessions_versions", "sessions_changes", "sessions_tags"} <= tables
    assert {"studios", "session_backups", "images", "launch_profiles", "launch_profile_members"} <= tables
    assert {"studio_components", "studio_members", "eulas", "eula_acceptances"} <= tables


def test_flat_views_say_the_same_as_the_tables_and_have_no_row_more(everything):
    (same,) = everything.ask(
        "select count(*) = (select count(*) from streaming_sessions)"
        " and bool_and(flat.created_at_utc = timezone('UTC', wide.created_at))"
        " and bool_and(flat.tags::json::map(varchar, varchar) is not distinct from wide.tags)"
        " and bool_and(tag_project is not distinct from wide.tags['Project'])"
        " and bool_and(tag_artist_level is not distinct from wide.tags['Artist level'])"
        " and count(tag_project) > 0 and count(tag_nobody_has_it) = 0"
        " from bi.sessions as flat join streaming_sessions as wide using (studio_id, session_id)"
    )
    assert same == (True,)


def test_names_stand_beside_ids(everything, studio):
    expected = {
        (studio_id, record["launchProfileId"]): record["name"]
        for studio_id in studio.world.studio_ids
        for record in studio.world.records("ListLaunchProfiles", {"studioId": studio_id}, NIGHT)
    }
    found = everything.ask("select distinct studio_id, launch_profile_id, launch_profile_name from bi.sessions")
    assert {(studio_id, profile): name for studio_id, profile, name in found}.items() <= expected.items()
    assert len(found) > 2
    names = everything.ask("select distinct studio_name, streaming_image_name is null from bi.sessions order by all")
    assert names == [("blueharbor", False), ("nightfall", False)]


def test_the_dictionary_has_no_blank_and_is_what_duckdb_shows(everything):
    blanks = everything.ask(
        "select table_name, column_name from etl_columns where trim(coalesce(meaning, '')) = '' or data_type = ''"
    )
    assert blanks == []
    listed = "select {}, table_name, column_name from {} order by all"
    assert everything.ask(listed.format("schema_name", "etl_columns")) == everything.ask(
        listed.format("table_schema", "information_schema.columns where table_catalog = 'warehouse'")
    )
    sensitive = everything.ask("select distinct column_name from etl_columns where is_sensitive order by all")
    assert ("configuration_compute_farm_configuration_endpoint",) in sensitive
    assert everything.ask(
        "select unit, api_path, null_rate > 0 and null_rate < 1, first_date, last_date from etl_columns"
        " where table_name = 'streaming_sessions' and column_name = 'volume_configuration_size'"
    ) == [("GiB", "sessions[].volumeConfiguration.size", True, DATE, DATE)]
    assert everything.ask(
        "select null_rate = (select 1 - count(stop_at) / count(*) from streaming_sessions) from etl_columns"
        " where table_name = 'streaming_sessions' and column_name = 'stop_at'"
    ) == [(True,)]
    (values,) = everything.ask(
        "select allowed_values from etl_columns where table_name = 'streaming_sessions' and column_name = 'state'"
    )
    assert "READY" in values[0]


def test_describe_shows_what_the_catalog_has(everything):
    shown = json.loads(everything.cli("describe", "--json").stdout)
    assert {"streaming_sessions", "daily_hours", "bi.sessions", "etl_columns", "current_slices"} <= shown.keys()
    assert [row for rows in shown.values() for row in rows if not row["meaning"]] == []
    ended = everything.cli("describe", "storage_held", "--format", "markdown")
    assert "| volume_gib | BIGINT | their volumes together | GiB |" in ended.stdout


def test_types_before_the_first_export_are_those_of_the_catalog_after_it(everything, tmp_path, monkeypatch):
    exported = json.loads(everything.cli("describe", "--json").stdout)
    monkeypatch.setenv("NIMBLE_ETL_WAREHOUSE__PATH", str(tmp_path / "nothing"))
    derived = json.loads(everything.cli("describe", "--json").stdout)
    assert len(derived) > 20
    for table, columns in derived.items():
        there = {row["column"]: row["type"] for row in exported[table]}
        assert {row["column"]: row["type"] for row in columns}.items() <= there.items(), table


def test_the_page_of_tables_is_what_the_dictionary_says(everything):
    assert page(everything) == PAGE.read_text(encoding="utf-8"), "`make docs` writes it anew"


HOLDER = """
import sys
import duckdb

connection = duckdb.connect(sys.argv[1], read_only=True)
while True:
    print(connection.execute("select max(snapshot_date)::varchar from bi.sessions").fetchall()[0][0], flush=True)
    if not sys.stdin.readline():
        break
"""


def test_tools_hold_their_connections_while_nights_are_published_and_nobody_waits(tmp_path, studio, monkeypatch):
    job = job_at(tmp_path, studio, marts=True).lend_credentials(monkeypatch)
    job.run(DATE)
    catalog = job.directory / "warehouse" / CATALOG_NAME
    newest = "select max(snapshot_date) from bi.sessions"
    url = f"duckdb:///{catalog}"

    with subprocess.Popen(
        [sys.executable, "-I", "-c", HOLDER, catalog], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline().strip() == DATE.isoformat()
        engine = sqlalchemy.create_engine(url, connect_args={"read_only": True})
        with engine.connect() as held:
            assert held.execute(sqlalchemy.text(newest)).scalar() == DATE
            before = pl.read_delta(str(job.directory / "warehouse" / "streaming_sessions"))

            assert [outcome.exit_code for outcome in job.run(NEXT)] == [0]

            other.stdin.write("again\n")
            other.stdin.flush()
            assert other.stdout.readline().strip() == DATE.isoformat(), "the night on which it connected"
            assert held.execute(sqlalchemy.text(newest)).scalar() == DATE
            assert before["snapshot_date"].max() == DATE
        engine.dispose()
        other.stdin.close()
    assert job.ask(newest) == [(NEXT,)]
    seen = pl.scan_delta(str(job.directory / "warehouse" / "streaming_sessions"))
    assert seen.select(pl.col("snapshot_date").max()).collect().item() == NEXT


@pytest.mark.on_disk
def test_sqlalchemy_lists_schemas_tables_and_columns_as_superset_does(everything):
    engine = sqlalchemy.create_engine(
        f"duckdb:///{everything.directory / 'warehouse' / CATALOG_NAME}", connect_args={"read_only": True}
    )
    found = sqlalchemy.inspect(engine)
    assert "warehouse.bi" in found.get_schema_names()
    assert "sessions" in found.get_view_names("bi")
    assert {"daily_hours", "etl_checks"} <= set(found.get_table_names("main"))
    kinds = {column["name"]: str(column["type"]) for column in found.get_columns("sessions", "bi")}
    assert (kinds["created_at_utc"], kinds["volume_configuration_size"]) == ("TIMESTAMP", "INTEGER")
    with engine.connect() as connection:
        frame = pd.read_sql(
            sqlalchemy.text("select session_id, state, created_at_utc, tag_project from bi.sessions"), connection
        )
    engine.dispose()
    assert len(frame) == everything.ask("select count(*) from streaming_sessions")[0][0]
    assert pd.api.types.is_datetime64_any_dtype(frame["created_at_utc"])


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # DuckDB's own use of pandas
def test_pandas_and_polars_read_what_duckdb_reads(everything):
    counts = dict(everything.ask("select state, count(*) from streaming_sessions group by all"))
    with duckdb.connect(everything.directory / "warehouse" / CATALOG_NAME, read_only=True) as connection:
        frame = connection.sql("select state, created_at from streaming_sessions").df()
    assert frame["state"].value_counts().to_dict() == counts
    assert str(frame["created_at"].dt.tz) in ("UTC", "Etc/UTC") or frame["created_at"].dt.tz is not None
    table = pl.scan_delta(str(everything.directory / "warehouse" / "streaming_sessions"))
    grouped = table.group_by("state").len().collect()
    assert dict(grouped.iter_rows()) == counts


def test_pinned_tags_that_would_share_a_column_are_refused(tmp_path, studio):
    ended = job_at(tmp_path, studio, rest="bi: {pinned_tags: [Name, name]}").cli("config", "check")
    assert ended.returncode == 2
    assert re.search(r"config.yaml, line \d+: bi.pinned_tags: ", ended.stderr)
    assert "whose columns would both be tag_name" in ended.stderr


def test_content_knows_the_datasets_that_are_not_configured_any_more(everything):
    assert {"launch_profiles", "eulas"} <= content_of(everything.settings(datasets=["studios"])).datasets.keys()
