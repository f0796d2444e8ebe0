"""What messages advise is done, as they say it, and it helps.

Each test brings about a trouble, reads the command out of the message, runs it, and looks whether it has helped.
`follows` names the messages by a part of their text; at the end, no message of the package that names a command is
without a test.
"""

import datetime as dt
import functools
import re
import shlex
import subprocess
import sys

import duckdb
import pyarrow.parquet as pq
import pytest
from support.damage import flip_byte
from support.job import DATE, NIGHT, RUN, finished
from support.remedies import advising_texts
from support.studios import LIST, fired

from etl.ledger.directory import forget_note, ledger_paths
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME
from etl.storage.disk import Disk

SECOND = DATE + dt.timedelta(days=1)
FOLLOWED = set()
"""Parts of the messages that tests follow."""
SAID = []
"""What the commands of the present test have said."""


def follows(*parts):
    """Say which messages a test follows; the test fails if one of them was not said."""
    FOLLOWED.update(parts)

    def decorate(test):
        @functools.wraps(test)
        def wrapped(*arguments, **named):
            SAID.clear()
            test(*arguments, **named)
            said = "\n".join(SAID)
            assert [part for part in parts if part not in said] == []

        return wrapped

    return decorate


def advised(text):
    """Return the commands that a text names, as words."""
    quoted = re.findall(r"`nimble-etl ([^`]+)`", text)
    bare = re.findall(r"(?::|\brun) nimble-etl ([^`\n;.]+)", text)
    return [shlex.split(found.strip()) for found in (*quoted, *bare)]


def say(job, *arguments):
    """Run a command; return its exit code and all that it has said."""
    ended = job.cli(*arguments)
    assert "Traceback" not in ended.stderr
    SAID.append(ended.stdout + ended.stderr)
    return ended.returncode, SAID[-1]


def follow(job, text, command):
    """Run the advised command that begins with a word, with its flags; `DATE` stands for the first night."""
    words = next(words for words in advised(text) if words[0] == command)
    return say(job, *[str(DATE) if word == "DATE" else word for word in words])


def data_file(job, table="streaming_sessions", date=DATE):
    return Tables(Disk(job.directory / "warehouse")).read(table).files[date][0]


@follows("No run yet.", "there is no catalog yet;")
def test_no_run_yet_run(job):
    for asking in (
        ("status",),
        ("sql", "from streaming_sessions"),
        ("report", "--output", str(job.directory / "r.html")),
    ):
        _, text = say(job, *asking)
        assert ["run"] in advised(text), text
    assert follow(job, text, "run")[0] == 0
    assert say(job, "sql", "from streaming_sessions")[0] == 0


@pytest.mark.parametrize("what", ["a file", "a log"])
def test_damage_is_replayed_from_the_date_that_the_message_says(job, what):
    job.run()
    job.run(SECOND)
    right = job.exported_rows()
    if what == "a file":
        flip_byte(data_file(job), 5000)
    else:
        newest = max((job.directory / "warehouse/streaming_sessions/_delta_log").glob("*.json"))
        newest.unlink()

    code, text = say(job, "verify")
    assert code == 5
    assert follow(job, text, "replay")[0] in {0, 5}
    code, text = say(job, "verify")
    assert code == 0, text
    assert say(job, "sql", "from streaming_sessions_history")[0] == 0
    assert job.exported_rows() == right


@follows("writes it again if a ledger still has its pages")
def test_a_lost_table_is_replayed_from_the_date_that_status_says(job):
    job.run()
    right = job.exported_rows()
    table = job.directory / "warehouse" / "streaming_session_tags"
    table.rename(job.directory / "moved away")

    code, text = say(job, "status")
    assert code == 5
    assert follow(job, text, "replay")[0] == 0
    assert say(job, "status")[0] == 0
    assert job.exported_rows() == right


@follows("says what is damaged")
def test_a_file_that_is_gone_is_named_by_verify_as_the_query_says(job):
    job.run()
    (job.directory / "warehouse" / data_file(job)).unlink()

    code, text = say(job, "sql", "from streaming_sessions_history")
    assert code == 1
    code, text = follow(job, text, "verify")
    assert code == 5
    assert follow(job, text, "replay")[0] == 0
    assert say(job, "sql", "from streaming_sessions_history")[0] == 0


@follows("builds it anew")
def test_a_catalog_that_was_written_into_is_built_anew(job):
    job.run()
    right = job.exported_rows()
    catalog = job.directory / "warehouse" / CATALOG_NAME
    catalog.chmod(0o644)
    flip_byte(catalog, 100)

    code, text = say(job, "sql", "from studios")
    assert code == 1
    assert follow(job, text, "catalog")[0] == 0
    assert say(job, "sql", "from studios")[0] == 0
    assert job.exported_rows() == right


@follows("If the new number is right")
def test_a_fall_that_is_right_is_published_with_the_command_that_the_message_says(job, studio):
    job.run()
    first = studio.world.studio_ids[0]
    studio.set_instant(NIGHT + dt.timedelta(days=1))
    studio.set_faults([f"empty-list:{LIST},studio={first},times=ever"])

    code, text = say(job, "run", "--snapshot-date", str(SECOND))
    assert (code, fired(studio)) == (5, {"empty-list"})
    code, _ = follow(job, text, "replay")
    assert code == 0
    assert job.ask("select count(*) from streaming_sessions where studio_id = $first", first=first) == [(0,)]


@follows("is not a setting")
def test_what_is_wrong_with_a_setting_is_seen_in_the_schema(job):
    job.configure("runn: {}")
    code, text = say(job, "status")
    assert code == 2
    code, schema = follow(job, text, "config")
    assert (code, '"concurrency"' in schema) == (0, True)


@follows("replay: expected either a RUN")
def test_replay_of_nothing_says_where_runs_are(job):
    job.run()
    code, text = say(job, "replay")
    assert code == 2
    code, text = follow(job, text, "status")
    assert code == 0
    run_id = ledger_paths(job.directory / "state")[0].stem
    assert run_id in text
    assert say(job, "replay", run_id)[0] == 0


@follows("forget: nothing is there of this dataset")
def test_forget_of_nothing_says_how_to_see_what_there_is(job):
    job.run()
    code, text = say(job, "forget", "--slice-id", "nothing")
    assert code == 2
    code, text = follow(job, text, "sql")
    assert code == 0
    ((slice_id,),) = job.ask("select distinct slice_id from etl_slices where dataset = 'studios'")
    assert slice_id in text
    assert say(job, "forget", "--slice-id", slice_id)[0] == 0


@follows("Forgotten.", "deletes the replaced files once warehouse.vacuum_grace has passed")
def test_what_is_forgotten_leaves_the_disk_with_the_commands_that_forget_says(job):
    job.run()
    file = job.directory / "warehouse" / data_file(job)
    ((owner,), *_) = job.ask("select owned_by from streaming_sessions order by all")
    code, text = say(job, "forget", "--where", f"owned_by={owner}", "--yes")
    assert code == 0
    assert ["vacuum"] in advised(text)
    assert follow(job, text, "vacuum")[0] == 0
    assert file.exists(), "readers may still use it"
    words = next(words for words in advised(text) if words == ["vacuum", "--now"])
    assert say(job, *words)[0] == 0
    assert not file.exists()


@follows("this note about what is to be forgotten is damaged")
def test_a_note_that_is_damaged_is_removed_and_forget_said_again(job):
    job.run()
    note = forget_note(job.directory / "state")
    note.write_text("{")
    assert "`nimble-etl forget` again" in say(job, "compact")[1]
    note.unlink()
    assert say(job, "forget", "--dataset", "studios", "--yes")[0] == 0
    assert say(job, "compact")[0] == 0


@follows("move the table away; then")
def test_a_table_whose_log_names_no_dates_is_moved_away_and_replayed(job):
    job.run()
    right = job.exported_rows()
    flip_byte(data_file(job, "studios"), 200)
    table = job.directory / "warehouse" / "studios"
    for entry in (table / "_delta_log").glob("*.json"):
        entry.write_text(entry.read_text().replace(f"snapshot_date={DATE}/", "snapshot_date=never/"))

    code, text = say(job, "verify")
    assert code == 5
    table.rename(job.directory / "moved away")
    assert follow(job, text, "replay")[0] in {0, 5}
    assert say(job, "verify")[0] == 0
    assert job.exported_rows() == right


@follows("cannot be applied to its former rows")
def test_a_dataset_that_a_rule_cannot_reach_is_forgotten_as_replay_says(job):
    mine = "{name: my_studios, service: nimble, operation: list_studios, key: [studio_id], result_key: studios}"
    job.configure(f"datasets: [{mine}]")
    job.run()
    ledger_paths(job.directory / "state")[0].unlink()
    job.config.write_text(job.config.read_text().replace(mine, "studios"))
    job.run(SECOND)
    job.configure("privacy: {rules: {'*': {display_name: drop}}}")

    code, text = say(job, "replay", "--since", str(DATE))
    assert code == 5
    words = next(words for words in advised(text) if words[0] == "forget")
    assert words == ["forget", "--dataset", "my_studios"]
    assert say(job, *words, "--yes")[0] == 0
    code, text = say(job, "replay", "--since", str(DATE))
    assert code == 0, text


@follows("puts back what a dead one has left")
def test_a_half_published_night_of_a_dead_job_is_put_back_as_verify_says(job):
    job.run()
    right = job.exported_rows()
    assert job.finish("run", "--snapshot-date", str(SECOND), NIMBLE_ETL_FAILPOINT="table.committed:3") == -9

    code, text = say(job, "verify")
    assert code == 4
    assert follow(job, text, "catalog")[0] in {0, 5}
    assert say(job, "verify")[0] == 0
    assert job.exported_rows()[0][: len(right[0])] == right[0]
    assert job.finish(*RUN[:1], "--snapshot-date", str(SECOND)) == 0


@follows("writes it again from the ledgers")
def test_a_damaged_file_is_replayed_from_the_date_that_verify_says(job):
    job.run()
    right = job.exported_rows()
    flip_byte(data_file(job), 5000)

    code, text = say(job, "verify")
    assert code == 5
    assert follow(job, text, "replay")[0] == 0
    assert say(job, "verify")[0] == 0
    assert job.exported_rows() == right


@follows("follow from the ledger")
def test_rows_that_are_not_those_of_the_ledger_are_rewritten(job):
    job.run()
    right = job.exported_rows()
    file = data_file(job)
    rows = pq.ParquetFile(file).read()
    state = rows.schema.get_field_index("owned_by")
    changed = rows.set_column(state, rows.schema.field(state), [["nobody"] * len(rows)])
    write_in_place(job, file, changed)

    code, text = say(job, "verify")
    assert code == 5
    assert follow(job, text, "replay")[0] == 0
    assert say(job, "verify")[0] == 0
    assert job.exported_rows() == right


@follows("the catalog shows other rows than the table has")
def test_a_catalog_that_shows_other_rows_is_built_anew(job):
    job.run()
    right = job.exported_rows()
    catalog = job.directory / "warehouse" / CATALOG_NAME
    catalog.chmod(0o644)
    with duckdb.connect(catalog) as connection:
        connection.execute("create or replace view studios_history as from studios limit 0")
        connection.execute("create or replace view streaming_sessions_history as from streaming_sessions limit 0")

    code, text = say(job, "verify")
    assert code == 5
    assert follow(job, text, "catalog")[0] == 0
    assert say(job, "verify")[0] == 0
    assert job.exported_rows() == right


@follows("is gone; `nimble-etl catalog` builds it", "the catalog is gone; ")
def test_a_catalog_that_is_gone_is_built(job):
    job.run()
    (job.directory / "warehouse" / CATALOG_NAME).unlink()

    code, text = say(job, "status")
    assert code == 5
    assert ["catalog"] in advised(text)
    code, text = say(job, "sql", "from studios")
    assert code == 1
    assert follow(job, text, "catalog")[0] == 0
    assert say(job, "status")[0] == 0
    assert say(job, "sql", "from studios")[0] == 0


@follows("was the warehouse moved?")
def test_a_catalog_of_a_warehouse_that_was_moved_is_built_anew(job):
    job.run()
    (job.directory / "warehouse").rename(job.directory / "elsewhere")
    job.configure("warehouse: {path: elsewhere}")

    code, text = say(job, "sql", "from studios")
    assert code == 1
    assert follow(job, text, "catalog")[0] == 0
    assert say(job, "sql", "from studios")[0] == 0


@follows("another program has written into it and left")
def test_a_catalog_with_what_another_program_has_left_is_built_anew(job):
    job.run()
    catalog = job.directory / "warehouse" / CATALOG_NAME
    catalog.chmod(0o644)
    writes = "c.execute('create table mine (i int)'); c.execute('insert into mine values (1)'); os._exit(0)"
    program = f"import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); {writes}"
    subprocess.run([sys.executable, "-c", program, str(catalog)], check=True)
    flip_byte(catalog.with_name(f"{CATALOG_NAME}.wal"), 100)

    code, text = say(job, "sql", "from studios")
    assert code == 1
    assert follow(job, text, "catalog")[0] == 0
    assert say(job, "sql", "from studios")[0] == 0


@follows("the catalog cannot be built")
def test_a_file_that_keeps_the_catalog_from_being_built_is_named_by_verify(job):
    job.config.write_text(job.config.read_text().replace("build: false", "build: true"))
    job.run()
    file = job.directory / "warehouse" / data_file(job)
    content = file.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little")
    file.write_bytes(content[: -8 - footer] + b"\xff" * footer + content[-8:])  # its size is right

    code, text = say(job, "catalog")
    assert code == 1
    code, text = follow(job, text, "verify")
    assert code == 5
    assert follow(job, text, "replay")[0] == 0
    assert say(job, "catalog")[0] == 0


@follows("cannot find the changes since")
def test_a_damaged_file_of_the_night_before_is_replayed_as_the_next_night_says(job):
    job.run()
    flip_byte(data_file(job), 5000)

    code, text = say(job, "run", "--snapshot-date", str(SECOND))
    assert code in {1, 5}
    assert follow(job, text, "replay")[0] in {0, 5}
    assert say(job, "run", "--snapshot-date", str(SECOND))[0] == 0
    assert say(job, "verify")[0] == 0


@follows("rows of other slices would be lost")
def test_a_damaged_file_of_other_slices_is_replayed_as_a_run_of_one_slice_says(job, studio):
    job.run()
    flip_byte(data_file(job), 5000)
    one = ("--fresh", "--dataset", "streaming_sessions", "--studio-id", studio.world.studio_ids[0])

    code, text = say(job, *RUN, *one)
    assert code in {1, 5}
    assert follow(job, text, "replay")[0] in {0, 5}
    assert say(job, *RUN, *one)[0] == 0
    assert say(job, "verify")[0] == 0


@follows("its file has no ")
def test_a_file_of_etl_slices_without_a_column_is_written_again(job):
    job.run()
    file = data_file(job, "etl_slices")
    write_in_place(job, file, pq.ParquetFile(file).read().drop_columns(["is_published"]))

    code, text = say(job, "run", "--snapshot-date", str(SECOND))
    assert code in {1, 5}
    assert follow(job, text, "replay")[0] in {0, 5}
    assert say(job, "run", "--snapshot-date", str(SECOND))[0] == 0
    assert say(job, "verify")[0] == 0


@follows("this note about an unfinished publication is damaged")
def test_a_damaged_note_is_moved_away_and_the_dates_that_differ_are_replayed(job):
    job.run()
    right = job.exported_rows()
    (killed,) = {job.finish(*RUN, "--fresh", NIMBLE_ETL_FAILPOINT="table.committed:2")}
    note = job.directory / "warehouse" / ".unfinished.json"
    assert (killed, note.exists()) == (-9, True)
    note.write_text("{")

    code, text = say(job, *RUN)
    assert code == 1
    note.rename(job.directory / "moved away")
    assert follow(job, text, "verify")[0] == 5
    code, text = follow(job, text, "replay")
    assert (code, "incomplete, run again to go on" in text) == (3, True), "the night that was killed has not ended"
    assert say(job, *RUN)[0] == 0
    assert say(job, "verify")[0] == 0
    assert job.exported_rows() == right


@follows("removes what workers have kept")
def test_what_workers_have_kept_and_the_store_did_not_remove_is_removed_by_vacuum(job):
    job.configure("engine: {kind: processes}")
    program = """
import support.job
from etl.storage.disk import Disk

remove = Disk.remove

def refuse(self, name):
    if "_tasks" in name:
        raise PermissionError(13, "refused", name)
    remove(self, name)

Disk.remove = refuse
support.job._child(arguments, environment, log)
"""
    assert finished(job.start_program(program, *RUN)) == 0
    SAID.append(job.log)
    assert job.store.listed(job.store.at("_tasks"))

    assert follow(job, job.log, "vacuum")[0] == 0
    assert job.store.listed(job.store.at("_tasks")) == {}


@follows("`nimble-etl init` writes one")
def test_a_configuration_that_is_not_there_is_written_by_init(job):
    job.config.unlink()
    code, text = say(job, "config", "check")
    assert code == 2
    assert follow(job, text, "init")[0] == 0
    assert say(job, "config", "check")[0] == 0


@follows("this warehouse has no such table")
def test_a_query_about_what_is_not_exported_is_answered_once_datasets_names_it(job):
    job.configure("datasets: [studios]")
    job.run()
    code, text = say(job, "query", "idle_sessions")
    assert code == 2
    code, text = follow(job, text, "datasets")
    assert (code, "streaming_sessions" in text) == (0, True)
    job.config.write_text(job.config.read_text().replace("[studios]", "[studios, streaming_sessions]"))
    assert say(job, *RUN)[0] == 0
    assert say(job, "query", "idle_sessions")[0] == 0


@follows("this data file is gone")
def test_a_file_that_is_gone_when_tables_are_put_back_is_named(job):
    job.run()
    gone = job.directory / "warehouse" / data_file(job, "studio_tags")
    assert job.finish(*RUN, "--fresh", NIMBLE_ETL_FAILPOINT="table.committed:2") == -9
    gone.unlink()
    ledger_paths(job.directory / "state")[-1].unlink()

    _, text = say(job, "compact")
    code, text = follow(job, text, "verify")
    assert code == 5
    assert follow(job, text, "replay")[0] in {0, 5}
    assert say(job, "verify")[0] == 0


@follows("privacy.key is another one")
def test_another_privacy_key_is_gone_over_to_as_the_message_says(job, monkeypatch):
    job.configure("privacy: {rules: {studios: {display_name: hash}}}")
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", "the first key of all")
    job.run()
    ((former,), *_) = job.ask("select display_name from studios order by all")
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", "another key")

    code, text = say(job, "run", "--snapshot-date", str(SECOND))
    assert code == 2
    assert follow(job, text, "replay")[0] == 0
    assert job.ask("select display_name from studios order by all")[0] != (former,)
    assert say(job, "run", "--snapshot-date", str(SECOND))[0] == 0


@follows("no night is published yet")
def test_a_report_without_a_night_says_how_to_get_one(job, studio):
    studio.set_faults([f"html:operation={LIST},times=ever", "html:operation=ListStudios,times=ever"])
    say(job, *RUN)
    say(job, "catalog")

    code, text = say(job, "report", "--output", str(job.directory / "r.html"))
    assert code == 1
    studio.set_faults([])
    assert follow(job, text, "run")[0] == 0
    assert say(job, "report", "--output", str(job.directory / "r.html"))[0] == 0


def write_in_place(job, file, rows):
    """Write other rows into a data file, and let the log know its size, so that nothing but the rows is wrong."""
    path = job.directory / "warehouse" / file
    size = path.stat().st_size
    pq.write_table(rows, path)
    for entry in path.parent.parent.glob("_delta_log/*.json"):
        entry.write_text(entry.read_text().replace(f'"size":{size},', f'"size":{path.stat().st_size},'))


NO_TROUBLE = ("--starting-token: this is not a starting token", "ask it with `nimble-etl sql`")
"""Where a message names a command without advising it, and the words at the end of the demo, which has its own test."""


def test_no_message_that_names_a_command_is_without_a_test():
    assert [text for text in advising_texts() if not any(part in text for part in (*FOLLOWED, *NO_TROUBLE))] == []
