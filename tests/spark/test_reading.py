"""What Spark and Sail read with `spark.read.format("aws_list")` is what a night exports.

`make test` asks Sail; `make spark` also a real Spark, which takes half a gigabyte and needs Java.
"""

import re

import pytest
from support.engines import ROOT, Engine, EngineError, content, exported, need
from support.job import job_at
from support.studios import LIST, asked_for_sessions, studio_of
from support.thorough import THOROUGH

from etl.emulator import World

KEY = "a-key-of-hashes"
_IS_THERE = THOROUGH and (ROOT / ".venv-spark" / "run").exists()
_SPARK = pytest.param("spark", marks=pytest.mark.skipif(not _IS_THERE, reason="`make spark` asks a real Spark too"))


@pytest.fixture(scope="module")
def listed():
    """Two studios of 120 sessions, six pages each."""
    with studio_of(World(sessions_per_studio=120)) as studio:
        yield studio


@pytest.fixture(scope="module")
def of_many(listed, tmp_path_factory):
    """The job whose configuration the engines read, and that has published a night."""
    job = job_at(tmp_path_factory.mktemp("job"), listed)
    with pytest.MonkeyPatch.context() as patch:
        job.lend_credentials(patch)
        assert job.run()[0].exit_code == 0
    return job


@pytest.fixture(scope="module", params=["sail", _SPARK])
def engine(request, of_many, tmp_path_factory):
    need(request.param)
    engine = Engine(
        request.param, tmp_path_factory.mktemp(request.param), {**of_many.environment, "NIMBLE_ETL_PRIVACY__KEY": KEY}
    )
    yield engine
    engine.close()


@pytest.fixture
def read(engine, of_many, listed):
    """Read sessions with a running engine."""
    yield lambda *query, **options: engine.read(
        *query, **{"config": of_many.config, "dataset": "streaming_sessions", **options}
    )
    listed.set_faults([])


def test_rows_are_those_of_a_night_and_each_slice_is_a_partition(read, listed, of_many):
    before = len(listed.requests)
    found = read("select *, spark_partition_id() as partition from listed")

    night = exported(of_many, "streaming_sessions")
    assert content(found.drop_columns(["partition"])) == content(night)
    assert night.num_rows > 200
    of_partition = set(zip(found["partition"].to_pylist(), found["slice_id"].to_pylist(), strict=True))
    assert len(of_partition) == len(listed.world.studio_ids)
    assert len({partition for partition, _ in of_partition}) == len(of_partition)
    assert len(set(found["run_id"].to_pylist())) == 1
    tokens = asked_for_sessions(listed, before)
    assert len(tokens) == len(set(zip(night["slice_id"].to_pylist(), night["page_number"].to_pylist(), strict=True)))


def test_a_parent_is_a_dataset_like_any_other(read, of_many):
    assert content(read(dataset="studios")) == content(exported(of_many, "studios"))


def test_sql_sees_maps_lists_and_instants(read, of_many):
    """The session of the engine is in New York; instants are UTC, whatever clock shows them."""
    found = read("""
        select count(*), count(tags['Project']), sum(size(map_keys(tags))), unix_micros(min(created_at)),
            unix_micros(max(created_at)), max(volume_configuration_size)
        from listed where created_at < timestamp'2026-11-19 02:00:00Z'""")
    wanted = of_many.ask("""
        select count(*), count(tags['Project']), sum(cardinality(tags)), epoch_us(min(created_at)),
            epoch_us(max(created_at)), max(volume_configuration_size)
        from streaming_sessions where created_at < timestamptz '2026-11-19 02:00:00Z'""")
    assert [tuple(row.values()) for row in found.to_pylist()] == wanted
    sessions, with_project, tags, *_ = wanted[0]
    assert tags > sessions > with_project > 0


def test_options_narrow_a_reading_as_flags_narrow_a_run(read, listed):
    one, other = listed.world.studio_ids
    found = read("select distinct studio_id from listed", studio_id=other)
    assert found["studio_id"].to_pylist() == [other]
    assert read("select count(*) as n from listed", studio_id=f"{one}, {other}")["n"].to_pylist()[0] > 200
    (owner,) = read("select max(owned_by) as owner from listed")["owner"].to_pylist()
    assert read("select distinct owned_by as owner from listed", owned_by=owner)["owner"].to_pylist() == [owner]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dataset": "streaming_session"}, "'streaming_session' is not defined (did you mean streaming_sessions?); "),
        ({"config": "/nowhere.yaml"}, "option config: there is no /nowhere.yaml on the machine of the driver"),
        ({"studio": "x"}, "option studio: is none (did you mean studio_id?); expected config, dataset, "),
        ({"region": "here"}, "option region: found 'here'; expected a Region such as us-west-2"),
        ({"mode": "PERMISSIVE"}, "option mode: found 'PERMISSIVE'; expected FAILFAST or DROPMALFORMED"),
        ({"dataset": ""}, "option dataset: is missing"),
        ({"endpoint_url": "http://127.0.0.1:9"}, "Could not connect to the endpoint URL"),
    ],
)
def test_a_mistake_is_a_sentence_in_the_error_of_the_driver(read, options, sentence):
    with pytest.raises(EngineError) as refused:
        read(**options)
    assert sentence in str(refused.value)
    assert str(refused.value).count("\n  File ") <= 3, "where the mistake was found is of no use to who has made it"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("access-denied:operation=ListStudios,times=ever", "the credentials need nimble:ListStudios"),
        (f"access-denied:{LIST},times=ever", "the credentials need nimble:ListStreamingSessions"),
        (f"bad-timestamp:{LIST},page=2,times=ever", "page 2, record 0: createdAt is 'soon'; expected ISO-8601"),
    ],
    ids=["the parents are denied, on the driver", "the slices are denied, on workers", "a record does not fit"],
)
def test_what_fails_at_the_source_is_a_sentence_in_the_error_of_the_driver(read, listed, fault, sentence):
    listed.set_faults([fault])
    with pytest.raises(EngineError) as refused:
        read()
    assert sentence in str(refused.value)


def test_records_that_do_not_fit_are_left_out_where_that_is_said(read, listed):
    listed.set_faults([f"bad-timestamp:{LIST},page=2,times=ever"])
    found = read("select count(*) as n from listed", mode="DropMalformed")
    listed.set_faults([])
    assert found["n"].to_pylist()[0] == read("select count(*) as n from listed")["n"].to_pylist()[0] - 2


def test_without_slices_there_are_no_rows(read, listed):
    listed.set_faults(["empty-list:operation=ListStudios,times=ever"])
    assert read().num_rows == 0


def test_a_killed_worker_costs_its_slice_another_walk_and_no_row(engine, read, listed, of_many):
    if engine.kind == "sail":
        pytest.skip("Sail reads in its own process")
    mark = engine.directory / "killed"
    mark.touch()
    before = len(listed.requests)

    found = read(source="dying")

    assert not mark.exists()
    assert content(found) == content(exported(of_many, "streaming_sessions"))
    firsts = asked_for_sessions(listed, before).count(None)
    assert firsts >= len(listed.world.studio_ids) + 1, "what was read of the slice is gone, so it is walked again"


def test_no_plan_tells_the_key_of_hashes(engine, listed, tmp_path):
    """It goes to the workers, because they hash."""
    job = job_at(tmp_path / "job", listed, rest="privacy: {rules: {streaming_sessions: {owned_by: hash}}}")
    options = {"config": job.config, "dataset": "streaming_sessions"}
    owners = engine.read("select distinct owned_by as owner from listed", **options)["owner"].to_pylist()
    assert owners
    assert all(re.fullmatch("[0-9a-f]{64}", owner) for owner in owners if owner)
    assert {"spark": "BatchScan aws_list", "sail": "PythonDataSourceExec"}[engine.kind] in engine.explain(**options)
    assert KEY not in engine.explain(**options) + engine.log


def test_the_page_about_spark_runs_as_it_is_printed(engine):
    programs = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/spark.md").read_text(), re.DOTALL | re.MULTILINE)
    (program,) = (program for program in programs if "AwsList" in program)
    shown = engine.run(program.replace('"config.yaml"', repr(str(ROOT / "config.yaml"))))
    assert "STOPPED" in shown
