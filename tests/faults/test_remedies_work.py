"""What messages advise is done, as they say it, and it helps. `tests/cli/test_remedies.py` knows all of them.

Each test brings about a trouble, reads the command out of the message, runs it, and looks whether it has helped.
"""

import datetime as dt
import re
import shlex

import pytest
from support.damage import flip_byte
from support.job import DATE, NIGHT, RUN
from support.studios import LIST, fired

from etl.ledger.directory import forget_note, ledger_paths
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME

SECOND = DATE + dt.timedelta(days=1)


def advised(text):
    """Return the commands that a text names, as words."""
    quoted = re.findall(r"`nimble-etl ([^`]+)`", text)
    bare = re.findall(r"(?::|\brun) nimble-etl ([^`\n;.]+)", text)
    return [shlex.split(found.strip()) for found in (*quoted, *bare)]


def say(job, *arguments):
    """Run a command; return its exit code and all that it has said."""
    ended = job.cli(*arguments)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout + ended.stderr


def follow(job, text, command):
    """Run the advised command that begins with a word, with its flags; `DATE` stands for the first night."""
    words = next(words for words in advised(text) if words[0] == command)
    return say(job, *[str(DATE) if word == "DATE" else word for word in words])


def data_file(job, table="streaming_sessions", date=DATE):
    return Tables(job.directory / "warehouse").read(table).files[date][0]


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


def test_a_file_that_is_gone_is_named_by_verify_as_the_query_says(job):
    job.run()
    (job.directory / "warehouse" / data_file(job)).unlink()

    code, text = say(job, "sql", "from streaming_sessions_history")
    assert code == 1
    code, text = follow(job, text, "verify")
    assert code == 5
    assert follow(job, text, "replay")[0] == 0
    assert say(job, "sql", "from streaming_sessions_history")[0] == 0


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


def test_what_is_wrong_with_a_setting_is_seen_in_the_schema(job):
    job.configure("runn: {}")
    code, text = say(job, "status")
    assert code == 2
    code, schema = follow(job, text, "config")
    assert (code, '"concurrency"' in schema) == (0, True)


def test_replay_of_nothing_says_where_runs_are(job):
    job.run()
    code, text = say(job, "replay")
    assert code == 2
    code, text = follow(job, text, "status")
    assert code == 0
    run_id = ledger_paths(job.directory / "state")[0].stem
    assert run_id in text
    assert say(job, "replay", run_id)[0] == 0


def test_forget_of_nothing_says_how_to_see_what_there_is(job):
    job.run()
    code, text = say(job, "forget", "--slice-id", "nothing")
    assert code == 2
    code, text = follow(job, text, "sql")
    assert code == 0
    ((slice_id,),) = job.ask("select distinct slice_id from etl_slices where dataset = 'studios'")
    assert slice_id in text
    assert say(job, "forget", "--slice-id", slice_id)[0] == 0


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


def test_a_note_that_is_damaged_is_removed_and_forget_said_again(job):
    job.run()
    note = forget_note(job.directory / "state")
    note.write_text("{")
    assert "`nimble-etl forget` again" in say(job, "compact")[1]
    note.unlink()
    assert say(job, "forget", "--dataset", "studios", "--yes")[0] == 0
    assert say(job, "compact")[0] == 0


def test_a_table_of_another_type_is_moved_away_and_replayed(job):
    job.run()
    right = job.exported_rows()
    flip_byte(data_file(job, "studios"), 200)
    table = job.directory / "warehouse" / "studios"
    for entry in (table / "_delta_log").glob("*"):
        entry.write_text("no log\n")

    assert say(job, "verify")[0] == 5
    table.rename(job.directory / "moved away")
    assert say(job, "replay", "--since", str(DATE))[0] in {0, 5}
    assert say(job, "verify")[0] == 0
    assert job.exported_rows() == right


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
