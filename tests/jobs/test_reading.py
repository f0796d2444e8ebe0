"""A reading has the rows of a night, without its warehouse: what Spark's workers do, in this process.

That Spark and Sail do it is tested in tests/spark.
"""

import datetime as dt
import pickle
import tempfile

import pyarrow as pa
import pytest
from support.engines import content, exported
from support.programs import start_code
from support.studios import LIST, asked_for_sessions

from etl.errors import ConfigError, RecordError, SourceError
from etl.jobs.reading import Reading
from etl.ledger.ledger import Ledger


@pytest.fixture
def reading(job):
    """Return a reading of that job's settings."""

    def start(dataset="streaming_sessions", *, leaves_out_misfits=False, **overrides):
        return Reading.of(job.settings(datasets=[dataset], **overrides), leaves_out_misfits=leaves_out_misfits)

    return start


def sent(value):
    """Return what a worker gets: everything that travels is pickled."""
    return pickle.loads(pickle.dumps(value))


def rows(reading):
    """Return all that the workers of an engine read."""
    parts = [sent(part) for part in reading.parts()]
    return pa.Table.from_batches([batch for part in parts for batch in sent(reading).read(part)], reading.schema)


@pytest.mark.parametrize("dataset", ["streaming_sessions", "studios"])
def test_a_reading_has_the_columns_and_rows_of_a_night(job, reading, dataset):
    (outcome,) = job.run()
    assert outcome.exit_code == 0

    found = rows(reading(dataset))

    assert content(found) == content(exported(job, dataset))
    assert found.num_rows >= (2 if dataset == "studios" else 200)
    assert found.schema.names == exported(job, dataset).schema.names


def test_each_slice_is_a_part_and_only_its_reader_asks_for_it(studio, reading):
    wanted = reading()
    parts = wanted.parts()
    assert [part.slice.parents["studioId"] for part in parts] == list(studio.world.studio_ids)
    assert asked_for_sessions(studio) == []
    before = len(studio.requests)

    for part in parts:
        (found,) = wanted.read(part)
        assert set(found["slice_id"].to_pylist()) == {part.slice.slice_id}
        assert set(found["run_id"].to_pylist()) == {wanted.run_id}

    tokens = asked_for_sessions(studio, before)
    assert len(tokens) == len(studio.requests) - before
    assert tokens.count(None) == len(parts)


def test_a_worker_loads_credentials_once_for_all_parts_of_a_reading(reading, monkeypatch):
    wanted = reading()
    parts, made = wanted.parts(), []
    monkeypatch.setattr("etl.jobs.reading.source_of", lambda *given: made.append(given) or _real_source(*given))

    for part in parts:
        assert list(sent(wanted).read(part))
    assert len(made) == 1
    list(reading().read(parts[0]))
    assert len(made) == 2, "another reading may have other settings"


def _real_source(*given):
    from etl.jobs.origin import source_of  # noqa: PLC0415  the name in `reading` is another one now

    return source_of(*given)


def test_limits_of_a_night_do_not_cut_a_reading_short(job, reading):
    job.configure("run: {max_items: 5, max_duration: 1s}")
    assert rows(reading()).num_rows > 200


def test_a_token_that_expires_and_a_session_that_moves_cost_and_double_nothing(job, studio, reading):
    job.run()
    expected = exported(job, "streaming_sessions")
    studio.set_faults([f"expired-token:{LIST},request=9", f"duplicate:{LIST},request=5", f"throttle:{LIST},request=3"])

    found = rows(reading())

    assert len(studio.fired) >= 3
    kept = [name for name in found.schema.names if name != "page_number"]
    assert content(found.select(kept)) == content(expected.select(kept))


def test_a_record_that_does_not_fit_ends_the_reading_or_is_left_out(studio, reading, caplog):
    studio.set_faults([f"bad-timestamp:{LIST},page=2,times=ever"])
    with pytest.raises(
        RecordError, match=r"streaming_sessions\[studioId='.*'\], page 2, record 0: createdAt is 'soon'; "
    ):
        rows(reading())

    whole = reading(leaves_out_misfits=True)
    found = rows(whole)

    left_out = [line for line in caplog.messages if line.startswith("1 records do not fit and are left out")]
    assert len(left_out) == len(whole.parts())
    studio.set_faults([])
    assert found.num_rows == rows(reading()).num_rows - len(left_out)


def test_what_cannot_be_walked_ends_the_reading_with_its_reason(studio, reading):
    studio.set_faults(["access-denied:operation=ListStudios,times=ever"])
    with pytest.raises(SourceError, match=r"studios\[us-west-2\], page 1: .*the credentials need nimble:ListStudios"):
        reading().parts()

    studio.set_faults([f"access-denied:{LIST},times=ever"])
    wanted = reading()
    with pytest.raises(SourceError, match=r"the credentials need nimble:ListStreamingSessions"):
        rows(wanted)

    studio.set_faults([f"vanish:{LIST},times=ever"])
    with pytest.raises(SourceError, match=r"what is listed no longer exists"):
        rows(reading(studio_ids=["gone"]))


def test_a_refusal_that_the_dataset_tolerates_is_a_part_without_rows(job, studio, reading):
    job.configure(
        "datasets:\n- {name: eulas, service: nimble, operation: list_eulas, key: [eula_id],"
        " tolerate: [AccessDeniedException]}"
    )
    studio.set_faults(["access-denied:operation=ListEulas,times=ever"])
    assert rows(reading("eulas")).num_rows == 0


def test_wrong_credentials_are_found_before_anything_is_planned(job, reading, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(job.directory))
    with pytest.raises(ConfigError, match=r"account: .*[Cc]redentials"):
        reading().parts()


def test_the_key_of_hashes_travels_only_where_a_rule_hashes_and_is_never_shown(job, reading, monkeypatch):
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", "a-key-of-hashes")
    assert b"a-key-of-hashes" not in pickle.dumps(reading())

    job.configure("privacy: {rules: {streaming_sessions: {owned_by: hash}}}")
    wanted = reading()
    assert b"a-key-of-hashes" in pickle.dumps(wanted)
    assert "a-key-of-hashes" not in repr(wanted)
    job.run()
    assert content(rows(wanted)) == content(exported(job, "streaming_sessions"))
    assert all(len(owner) == 64 for owner in rows(wanted)["owned_by"].to_pylist() if owner)


def test_the_embedded_studio_is_the_same_for_the_driver_and_every_worker(job, reading):
    job.config.write_text("source: {endpoint_url: embedded}\nemulator: {studios: 2, sessions_per_studio: 100}\n")
    wanted = reading()
    assert len(wanted.parts()) == 2
    assert content(rows(wanted)) == content(rows(reading()))


def test_the_pages_of_a_killed_worker_are_gone_with_it(tmp_path):
    """They are personal data, and nobody would come back for them."""
    process = start_code(
        """
        import datetime as dt
        from etl.ledger.ledger import Ledger
        from etl.extract.datasets import builtin_datasets
        from etl.extract.service_model import describe_operation, model_session
        from etl.model import Page, Slice

        ledger = Ledger.temporary("run", dt.date(2026, 11, 20))
        dataset = builtin_datasets()["streaming_sessions"]
        ledger.add_dataset(dataset, describe_operation(model_session(), dataset), published=True)
        slice_ = Slice(dataset.name, "1", "us-west-2")
        ledger.add_slice(slice_)
        import os
        for number in range(1, 60):
            page = Page(number, b'["' + os.urandom(60_000).hex().encode() + b'"]', 1, 0, 1, f"t{number}", "", 0,
                        dt.datetime.now(dt.UTC))
            ledger.store_page(slice_, page)
        assert [page.number for page in ledger.pages(slice_)] == list(range(1, 60))
        files = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
                 if os.path.islink(f"/proc/self/fd/{name}")]
        print([file for file in files if os.environ["SQLITE_TMPDIR"] in file], flush=True)
        input()
        """,
        environment={"SQLITE_TMPDIR": str(tmp_path)},
        stdin=-1,
    )
    found = process.stdout.readline()
    assert "(deleted)" in found, "the ledger is on disk, not in memory"
    assert list(tmp_path.iterdir()) == []
    process.kill()
    process.communicate()
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_ledger_is_like_any_other():
    with Ledger.temporary("one", dt.date(2026, 11, 20)) as ledger:
        assert (ledger.run().run_id, ledger.run().snapshot_date) == ("one", dt.date(2026, 11, 20))
        assert ledger.path.parent.samefile(tempfile.gettempdir())
        assert not ledger.path.exists()
