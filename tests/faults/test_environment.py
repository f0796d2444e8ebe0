"""What surrounds the job: directories, memory, clocks, zones, ports, terminals, locales, networks."""

import datetime as dt
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.dataset  # noqa: F401  it cannot be imported while `clock` replaces the class
import pytest
from support.job import _FORKS, AS_NOBODY, DATE, EXPORTED, NIGHT, RUN, Job, finished, job_at
from support.studios import listed_sessions, studio_of

from etl.emulator import EmbeddedStudio, StudioSettings, World


def child_of(job, program, *arguments, **options):
    """Run a program that ends as a command of a job, in a process of its own; return how it ended."""
    return finished(job.start_program(program, *(arguments or RUN), **options))


# Fault 45


@pytest.mark.parametrize("what", ["state_dir", "warehouse"])
@pytest.mark.parametrize(
    "place", ["/proc/nimble-etl", "/sys/nimble-etl", "{directory}/a file", "{directory}/a file/below"]
)
def test_fault_45_a_directory_that_cannot_be_made_is_found_before_the_first_request(place, what, job, studio):
    (job.directory / "a file").write_text("not a directory")
    path = place.format(directory=job.directory)
    setting = f"state_dir: '{path}'" if what == "state_dir" else f"warehouse: {{path: '{path}'}}"
    job.configure(setting)

    assert job.finish(*RUN) == 2
    assert f"nimble-etl: {path}" in job.log
    assert f"{what}" in job.log
    assert "must be a directory that can be written" in job.log
    assert "Traceback" not in job.log
    assert studio.requests == []
    assert (job.directory / "a file").read_text() == "not a directory"


@pytest.mark.parametrize("what", ["state", "warehouse"])
def test_fault_45_a_directory_of_somebody_else_is_found_before_the_first_request(what, small_studio):
    asked = len(small_studio.requests)
    with tempfile.TemporaryDirectory() as directory:  # pytest's own may be entered by nobody else
        job = job_at(Path(directory), small_studio)
        for path in (job.directory, job.directory / "state", job.directory / "warehouse", job.directory / "log"):
            path.touch() if path.name == "log" else path.mkdir(exist_ok=True)
            path.chmod(0o555 if path.name == what else 0o777)

        exit_code = child_of(job, AS_NOBODY)

        assert exit_code == 2, job.log
        assert f"{job.directory / what}" in job.log
        assert "Permission denied" in job.log
        assert "must be a directory that can be written" in job.log
    assert len(small_studio.requests) == asked


# Fault 46


@dataclass(frozen=True)
class Heavy(World):
    """Sessions with a long message, those of the first page apart."""

    message: str = ""

    def page(self, operation, parameters, at, position, size):
        page = super().page(operation, parameters, at, position, size)
        if operation != "ListStreamingSessions" or not position:
            return page
        return page._replace(records=[{**record, "statusMessage": self.message} for record in page.records])


MEASURED = """
import ctypes
import etl.load.changes
import etl.pipeline.ahead
import etl.transform.batches
import support.job

MMAP_THRESHOLD = -3
ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 2**20)
etl.pipeline.ahead.BATCH_RECORDS = etl.pipeline.ahead._FEW_RECORDS = {batch_records}
etl.transform.batches.BATCH_RECORDS = etl.load.changes._BATCH_ROWS = {batch_records}
try:
    support.job._child(arguments, environment, log)
finally:
    (peak,) = [line.split() for line in open("/proc/self/status") if line.startswith("VmHWM:")]
    peak_kib.value = int(peak[1])
"""
"""A job with batches of so many records; it tells how much memory it had at most.

Without the threshold, glibc keeps more of the pages that were freed the longer it runs.
"""


def test_fault_46_an_export_needs_memory_for_some_pages_and_not_for_the_listing(tmp_path):
    """Twenty times the sessions, 128 MiB of pages: batches of a page make little of it, one batch of all shows it."""
    page_size, message = 100, "x" * 2**15

    def peak_kib(pages, pages_per_batch):
        world = Heavy(studios=1, sessions_per_studio=pages * page_size, message=message)
        measured = _FORKS.Value("l", 0)
        with studio_of(world, page_size=page_size) as studio:
            job = job_at(tmp_path / f"{pages} pages by {pages_per_batch}", studio)
            program = MEASURED.format(batch_records=pages_per_batch * page_size)
            assert child_of(job, program, names={"peak_kib": measured}) == 0, job.log
        assert job.ask("select max(page_number) from streaming_sessions") == [(pages,)]
        return measured.value

    few, many, at_once = peak_kib(2, 1), peak_kib(40, 1), peak_kib(40, 40)

    some_pages = 16 * page_size * len(message) / 1024
    assert many - few < some_pages < at_once - few, (few, many, at_once)


STARVED = """
import os
import resource
import support.job

def kill(_pid, _number):
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * resource.getpagesize() + 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print("1 MiB is left", flush=True)

os.kill = kill
support.job._child(arguments, environment, log)
"""
"""A job that is not killed at its failpoint, but gets next to no memory from there on."""


def test_fault_46_a_run_that_gets_no_memory_fails_and_the_next_one_is_whole(tmp_path):
    """Its limit is set when one page is stored; the next has 20 MiB."""
    world = Heavy(studios=1, sessions_per_studio=60, message="x" * 2**20)
    with studio_of(world) as studio:
        job = job_at(tmp_path, studio)

        exit_code = child_of(job, STARVED, NIMBLE_ETL_FAILPOINT="page.stored:2")

        assert "1 MiB is left" in job.log
        assert "MemoryError" in job.log
        assert exit_code == 1
        asked = len(studio.requests)
        assert job.finish(*RUN) == 0, job.log
        tokens = [request.token for request in studio.requests[asked:] if request.operation != "GetCallerIdentity"]
        assert len(tokens) == 2, "two pages were stored"
        assert None not in tokens
        assert job.ask("select count(*), max(length(status_message)) from streaming_sessions") == [
            (len(list(listed_sessions(world))), 2**20)
        ]


# Fault 47


@pytest.fixture
def clock(monkeypatch):
    """What `datetime.now` says, until it is set anew. There is no other way to step the clock of one process."""

    class Clock(dt.datetime):
        at = NIGHT

        @classmethod
        def now(cls, tz=None):
            return cls.at.astimezone(tz)

    # DuckDB remembers what it takes for an instant from the first one that it is given: not one of these.
    duckdb.execute("select $at", {"at": NIGHT})
    monkeypatch.setattr(dt, "datetime", Clock)
    return Clock


@pytest.fixture
def job_by(clock, tmp_path, monkeypatch):
    """A job and its studio, whose clocks go alike."""
    settings = StudioSettings(page_size=20, instant=NIGHT, now=lambda: clock.at)
    with EmbeddedStudio(World(sessions_per_studio=40), settings) as studio:
        yield job_at(tmp_path / "job", studio, rest="run: {concurrency: 1}").lend_credentials(monkeypatch)


MIDNIGHT = NIGHT.replace(hour=0) + dt.timedelta(days=1)
SECOND, HOUR = dt.timedelta(seconds=1), dt.timedelta(hours=1)


def stepping(clock, at):
    """Return what sets the clock once the first page of sessions is stored."""

    def step(part, page):
        if part.dataset == "streaming_sessions" and page.number == 1:
            clock.at = at

    return step


@pytest.mark.parametrize(
    ("begins_at", "then"), [(MIDNIGHT - SECOND, MIDNIGHT + SECOND), (MIDNIGHT - 12 * HOUR, MIDNIGHT - 36 * HOUR)]
)
def test_fault_47_the_date_of_a_run_is_frozen_whatever_day_the_clock_says_later(begins_at, then, job_by, clock):
    clock.at = begins_at

    (outcome,) = job_by.run(None, on_page=stepping(clock, then))

    assert clock.at == then
    assert outcome.exit_code == 0
    assert outcome.run.snapshot_date == DATE
    for table in EXPORTED:
        assert job_by.ask(f"select distinct snapshot_date from {table}") == [(DATE,)]


def test_fault_47_a_run_resumed_after_midnight_keeps_its_date_and_the_new_day_gets_its_own(job_by, clock):
    clock.at = MIDNIGHT - SECOND
    (stopped,) = job_by.run(None, overrides={"max_items": 30})
    clock.at = MIDNIGHT + SECOND

    resumed, new = job_by.run(None)

    assert resumed.run.run_id == stopped.run.run_id
    assert (resumed.run.snapshot_date, new.run.snapshot_date) == (DATE, MIDNIGHT.date())
    counts = dict(job_by.ask("select snapshot_date, count(*) from streaming_sessions_history group by all"))
    assert counts.keys() == {DATE, MIDNIGHT.date()}
    assert len(set(counts.values())) == 1, "the listing stands still"


@pytest.mark.parametrize("step", [-3 * HOUR, 3 * HOUR], ids=["back", "forward"])
def test_fault_47_durations_do_not_come_from_a_clock_that_is_set(step, job_by, clock):
    clock.at = NIGHT + 4 * HOUR

    (outcome,) = job_by.run(None, on_page=stepping(clock, clock.at + step))

    assert outcome.exit_code == 0
    assert 0 < outcome.seconds < HOUR.total_seconds()
    assert 0 < outcome.run.seconds < HOUR.total_seconds()
    ((seconds, in_order),) = job_by.ask(
        "select (select seconds from etl_runs), (select bool_and(observed_from <= observed_until) from etl_slices)"
    )
    assert 0 < seconds < HOUR.total_seconds()
    assert in_order


# Rules of the zones as POSIX writes them: they need no zone files.
NEW_YORK, KIRITIMATI, BAKER_ISLAND = "EST5EDT,M3.2.0,M11.1.0", "<+14>-14", "<-12>12"


IN_ZONE = """
import os
import time
import support.job

os.environ.update(environment)
time.tzset()
support.job._child(arguments, environment, log)
"""


@pytest.mark.parametrize("zone", [KIRITIMATI, BAKER_ISLAND])
def test_fault_47_today_is_the_date_in_utc_wherever_the_machine_stands(zone, small_studio, tmp_path):
    """At any time of the day, it is another date in one of the two zones."""
    job = job_at(tmp_path, small_studio)
    before = dt.datetime.now(dt.UTC).date()

    assert child_of(job, IN_ZONE, "run", TZ=zone) == 0

    ((date,),) = job.ask("select distinct snapshot_date from streaming_sessions_history")
    assert date in {before, dt.datetime.now(dt.UTC).date()}
    assert f"{zone[1:4]}00 INFO" in job.log, "the log is in local time, with its offset"


@pytest.mark.parametrize(
    "instant",
    [dt.datetime(2026, 3, 8, 7, 0, 5, tzinfo=dt.UTC), dt.datetime(2026, 11, 1, 6, 30, tzinfo=dt.UTC)],
    ids=["an hour that does not exist", "an hour that comes twice"],
)
def test_fault_47_instants_are_the_same_in_a_zone_that_changes_its_clocks_that_night(instant, tmp_path):
    with studio_of(World(sessions_per_studio=40), at=instant) as studio:
        job = job_at(tmp_path, studio)

        assert child_of(job, IN_ZONE, "run", "--snapshot-date", str(instant.date()), TZ=NEW_YORK) == 0

    expected = {record["sessionId"]: record["updatedAt"] for record in listed_sessions(studio.world, instant)}
    assert re.search(r"-0[45]00 INFO", job.log), "the zone is in effect"
    found = dict(job.ask("select session_id, epoch(updated_at)::bigint from streaming_sessions"))
    assert found == {name: int(at.timestamp()) for name, at in expected.items()}
    (job.directory / "log").unlink()
    question = "select session_id, updated_at from streaming_sessions"
    assert child_of(job, IN_ZONE, "sql", question, "--json", TZ=NEW_YORK) == 0
    answers = json.loads(job.log)["rows"]
    assert {row["session_id"]: row["updated_at"] for row in answers} == {
        name: at.isoformat() for name, at in expected.items()
    }


# Fault 59


def test_fault_59_the_embedded_studio_takes_a_port_that_is_free(tmp_path, studio):
    with closing(socket.socket()) as taken:
        with suppress(OSError):  # whoever has it, it is taken
            taken.bind(("127.0.0.1", 8790))
            taken.listen()
        job = Job(tmp_path, "embedded", studio.credentials, rest="emulator: {sessions_per_studio: 20}")

        exit_code = job.finish(*RUN)

    assert exit_code == 0, job.log
    assert studio.requests == [], "it asked its own"


def test_fault_59_a_port_that_is_in_use_is_a_clear_error(studio, job):
    port = studio.endpoint_url.rpartition(":")[2]

    ended = job.cli("--log-level", "info", "emulator", "--port", port)

    assert ended.returncode == 2
    assert ended.stderr == f"nimble-etl: --port: port {port} of 127.0.0.1 is in use; choose another, or 0 for any\n"
    assert ended.stdout == ""


def test_fault_59_a_studio_that_dies_in_mid_run_leaves_it_resumable(tmp_path, monkeypatch):
    requests = tmp_path / "requests"
    died = emulator(requests, port=0)
    job = Job(tmp_path / "job", died.url, EmbeddedStudio.credentials, rest="run: {concurrency: 1}")
    job.lend_credentials(monkeypatch)

    def die(part, page):
        if part.dataset == "streaming_sessions" and page.number == 3:
            died.kill()
            died.wait()

    (stopped,) = job.run(on_page=die)

    assert died.returncode == -signal.SIGKILL
    assert stopped.exit_code == 3
    assert [facts.pages for facts in stopped.slices] == [1, 3, 0]
    assert all(str(facts.slice) in facts.error for facts in stopped.slices[1:])
    requests.unlink()
    again = emulator(requests, port=int(died.url.rpartition(":")[2]))
    try:
        (resumed,) = job.run()
    finally:
        again.kill()
        again.wait()
    assert resumed.exit_code == 0
    assert resumed.run.run_id == stopped.run.run_id
    asked = [json.loads(line)["operation"] for line in requests.read_text().splitlines()]
    assert asked.count("ListStreamingSessions") == resumed.counts["pages"] - stopped.counts["pages"]
    assert "ListStudios" not in asked


class Emulator(subprocess.Popen):
    """`nimble-etl emulator` as a process of its own."""

    url = None


def emulator(request_log, port):
    """Return an emulator that answers."""
    command = [
        "emulator",
        "--port",
        str(port),
        "--sessions",
        "120",
        "--page-size",
        "20",
        "--instant",
        NIGHT.isoformat(),
    ]
    process = Emulator(
        [sys.executable, "-m", "etl", *command, "--request-log", request_log], stdout=subprocess.PIPE, text=True
    )
    process.url = process.stdout.readline().split("answers at ")[1].partition(";")[0]
    process.stdout.close()
    return process


# Fault 60


def ended(job, *arguments, **options):
    """Run the command line without a terminal, without HOME, and with nothing else of this environment."""
    environment = {**job.environment, **options.pop("environment", {})}
    return subprocess.run(
        [sys.executable, "-m", "etl", *arguments, *job._config(arguments)],
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        check=False,
        **{"capture_output": not options, "text": not options, **options},
    )


@contextmanager
def closed_pipe():
    """Yield what nobody reads, as after `| head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


READING = {
    "--help": [],
    "status": [],
    "sql": ["from streaming_sessions"],
    "sql as parquet": ["from streaming_sessions", "--format", "parquet"],
    "describe": [],
    "query": ["idle_sessions"],
}


@pytest.mark.parametrize("command", READING)
def test_fault_60_a_reader_that_goes_away_is_no_error(command, undisturbed):
    with closed_pipe() as writer:
        done = ended(undisturbed, command.split()[0], *READING[command], stdout=writer, stderr=subprocess.PIPE)

    assert done.returncode == 0
    assert done.stderr == b""


def test_fault_60_the_first_line_is_enough_for_head(undisturbed):
    """As an operator writes it; of all pipes, the exit code is that of the job."""
    command = f"{sys.executable} -m etl sql 'from streaming_sessions' --config {undisturbed.config}"
    line = f"set -o pipefail; {command} | head -1"
    done = subprocess.run(["bash", "-c", line], env=undisturbed.environment, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("snapshot_date ")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


@pytest.mark.parametrize(("arguments", "exit_code"), [([], 0), (["--max-items", "5"], 3), (["--dataset", "none"], 2)])
def test_fault_60_a_run_that_nobody_reads_does_all_that_it_would(arguments, exit_code, small_studio, tmp_path):
    """Neither its output nor its log has a reader; who is to be told at the end is told."""
    job = job_at(tmp_path, small_studio, rest=f"on_finish: {{command: [cp, /dev/stdin, '{tmp_path}/told']}}")
    with closed_pipe() as writer:
        done = ended(job, *RUN, *arguments, stdout=writer, stderr=writer)

    assert done.returncode == exit_code
    if exit_code != 2:
        assert json.loads((tmp_path / "told").read_text())["exit_code"] == exit_code
    assert (job.directory / "warehouse" / "warehouse.duckdb").exists() == (exit_code != 2)


def test_fault_60_a_run_without_standard_streams_writes_into_no_other_file(small_studio, undisturbed, tmp_path):
    """Where they are closed, the next files to be opened get their numbers."""
    job = job_at(tmp_path, small_studio)
    command = f"exec {sys.executable} -m etl {' '.join(RUN)} --config {job.config} <&- >&- 2>&-"
    done = subprocess.run(["bash", "-c", command], env=job.environment, check=False)

    assert done.returncode == 0
    assert job.exported_rows() == undisturbed.exported_rows()
    written = [path for path in tmp_path.rglob("*") if path.is_file() and b" INFO run " in path.read_bytes()]
    assert written == []


ASKED = "select 'film ' || chr(127916) as title"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LANG": "tlh_QO.KLINGON"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "utf-16"},
    ],
    ids=lambda environment: " ".join(f"{name}={value}" for name, value in environment.items()) or "nothing",
)
def test_fault_60_any_locale_will_do(environment, undisturbed):
    done = ended(undisturbed, "sql", ASKED, "--json", environment=environment, stdout=subprocess.PIPE)

    assert done.returncode == 0
    found = json.loads(done.stdout.decode(environment.get("PYTHONIOENCODING", "utf-8")))
    assert found == {"rows": [{"title": "film 🎬"}]}


def test_fault_60_a_character_that_the_terminal_does_not_have_becomes_an_escape(undisturbed):
    done = ended(undisturbed, "sql", ASKED, environment={"PYTHONIOENCODING": "ascii"}, stdout=subprocess.PIPE)

    assert done.returncode == 0
    assert done.stdout.split() == [b"title", b"film", rb"\U0001f3ac"]


def test_fault_60_without_a_network_it_says_so_and_can_be_resumed(tmp_path):
    """AWS itself, through a proxy that is not there: nothing leaves this machine."""
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy = "http://127.0.0.1:{1}".format(*nobody.getsockname())
        job = Job(tmp_path, "null", ("AKIAIOSFODNN7EXAMPLE", "secret"), source="  account_id: '123456789012'")

        done = ended(job, *RUN, environment={"HTTPS_PROXY": proxy})

    assert done.returncode == 3
    assert f'Failed to connect to proxy URL: "{proxy}"' in done.stdout
    assert "incomplete, run again to go on" in done.stdout
    assert "Traceback" not in done.stderr
