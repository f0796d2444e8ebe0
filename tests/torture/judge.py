"""Hostile cases, each decided by a kind and a seed: the job meets them in this process, and a model judges what comes.

responses   one walk whose responses are drawn; then verify, status and replay
dumps       some dumps, imported one after the other into one warehouse
damages     a damaged file below two good nights; then a run or an import, status, verify and replay
"""

import datetime as dt
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from support.answers import KEY, Answers
from support.job import DATE, EXPORTED, Job, job_at
from support.shapes import ACCOUNT, REGION
from support.studios import studio_of

from etl.configfile import load_settings
from etl.emulator import EmbeddedStudio, World
from etl.errors import EtlError
from etl.jobs.dumps import ImportRequest, import_dump
from etl.jobs.replay import Selection, replay
from etl.jobs.status import status
from etl.outcome import Outcome
from torture import hostile
from torture.play import ViolationError

SOURCE = f"  account_id: '{ACCOUNT}'\n  studio_ids: [s]"
ONE = "datasets: [streaming_sessions]"
DAY = dt.timedelta(days=1)
NEXT, THIRD = DATE + DAY, DATE + 2 * DAY

DUMPS = 5
"""How many one case imports."""

REMAINS = re.compile(r"is it a backup\?|the ledger is damaged")
"""What replay cannot mend: only ledgers could, and they are what is damaged."""


# Responses


def judge_responses(seed: int, directory: Path) -> int:
    """Export what drawn responses say; return the exit code.

    Raises:
        ViolationError: it is not what a model says.
    """
    responses = hostile.answers(Random(seed))
    expected = hostile.expected(responses)
    with Answers(*(response.wire for response in responses)) as server:
        job = Job(directory, server.url, KEY, source=SOURCE, rest=ONE)
        # STS is not asked: its answer would be the first of the responses.
        with patch.dict(os.environ, {**job.environment, "AWS_ACCOUNT_ID": ACCOUNT}):
            (outcome,) = job.run()
    story = "\n".join(f"{response.status} {response.body!r}" for response in responses)

    if expected.records is None:
        _hold(outcome.exit_code == 1, "a walk that must fail has another exit code", outcome.report(), story)
        published = job.ask("select 1 from etl_slices where is_published")
        _hold(not published, "a walk that must fail is published", outcome.report(), story)
    else:
        _hold(outcome.exit_code in {0, 5}, "a walk that must end well does not", outcome.report(), story)
        _hold(_facts(job) == (True, *[expected.records] * 2), "records are lost or doubled", _facts(job), story)
        ids = {name for (name,) in job.ask("select session_id from streaming_sessions")}
        _hold(ids >= expected.ids, "good records are no rows", expected.ids - ids, story)
        _hold((outcome.exit_code == 5) == bool(outcome.counts["rejects"]), "exit code", outcome.report(), story)
    _hold(not job.problems(), "verify finds problems", job.problems(), story)
    _hold(state_of(job) == 0, "status finds something lost or damaged", status(job.settings(), 3), story)
    before = shown_rows(job, [DATE])
    replayed = code_of(lambda: worst(replay(job.settings(), Selection(since=DATE))))
    _hold(replayed == outcome.exit_code, "replay ends otherwise than the run", replayed, story)
    _hold(shown_rows(job, [DATE]) == before, "replay changes what is shown", before, story)
    return outcome.exit_code


def _facts(job: Job) -> tuple[Any, ...] | None:
    found = job.ask("select is_published, records, rows + rejects + duplicates from etl_slices")
    return found[0] if found else None


# Dumps


def judge_dumps(seeds: range, directory: Path) -> list[int]:
    """Import drawn dumps, one for each seed; return the exit codes.

    Raises:
        ViolationError: a dump was neither read as a whole nor refused as a whole.
    """
    job = Job(directory, "http://127.0.0.1:9", KEY, rest=f"{ONE}\npublish: {{max_fall: 1.0, fall_tolerance: 1000}}")
    codes = []
    for seed in seeds:
        content = hostile.dump(Random(seed))
        file = directory / f"dump-{seed}"
        file.write_bytes(content)
        date = DATE - (seed - seeds.start) * DAY
        before = _snapshot_of(job, date)
        story = f"dump {seed}: {content!r}"
        outcome, code = import_file(job, file, date)
        if outcome:
            counts = outcome.counts
            _hold(code in {0, 5}, "an imported dump has another exit code", code, story)
            became = counts["rows"] + counts["rejects"] + counts["duplicates"]
            _hold(became == counts["records"], "records are lost or doubled", counts, story)
        else:
            _hold(code in {1, 2}, "a refused dump has another exit code", code, story)
            _hold(_snapshot_of(job, date) == before, "a refused dump changes what is shown", before, story)
        codes.append(code)
    _hold(not job.problems(), "verify finds problems", job.problems(), f"dumps {seeds}")
    return codes


def import_file(job: Job, file: Path, date: dt.date, studio_id: str = "s") -> tuple[Outcome | None, int]:
    """Import a file as the sessions of a studio; return how the run stands, if there is one, and the exit code."""
    request = ImportRequest(
        [file], "streaming_sessions", date, {"studioId": studio_id}, ACCOUNT, REGION, allow_fall=True
    )
    outcomes: list[Outcome] = []

    def command() -> int:
        outcomes.append(import_dump(load_settings(job.config), request))
        return outcomes[0].exit_code

    code = code_of(command)
    return (outcomes[0] if outcomes else None), code


def _snapshot_of(job: Job, date: dt.date) -> list[tuple[Any, ...]]:
    if not (job.directory / "warehouse/warehouse.duckdb").exists():
        return []
    statement = "select session_id, state from streaming_sessions_history where snapshot_date = $date order by all"
    return job.ask(statement, date=date)


# Damages


@dataclass(frozen=True)
class Template:
    """Two nights of a small studio, which a damage then hits in a copy.

    Attributes:
        directory: has `job`, both nights, and `yesterday`, a copy of the first.
        endpoint_url, credentials: of the studio, which still runs.
        rows: what readers see of both nights.
    """

    directory: Path
    endpoint_url: str
    credentials: tuple[str, str]
    rows: object


def make_template(directory: Path, studio: EmbeddedStudio) -> Template:
    """Export two nights of a running studio."""
    job = job_at(directory / "job", studio, rest=ONE)
    assert job.finish("run", "--snapshot-date", DATE.isoformat()) == 0, job.log
    shutil.copytree(directory / "job", directory / "yesterday")
    assert job.finish("run", "--snapshot-date", NEXT.isoformat()) == 0, job.log
    return Template(directory, studio.endpoint_url, studio.credentials, shown_rows(job))


@contextmanager
def template(directory: Path) -> Iterator[Template]:
    """Yield two nights of a studio of our own."""
    with studio_of(World(sessions_per_studio=40)) as studio:
        yield make_template(directory, studio)


def judge_damage(seed: int, source: Template, directory: Path) -> list[int]:
    """Damage a file of two nights, and let jobs meet it; return the exit codes of job, status and replay.

    Raises:
        ViolationError: other rows are shown, and nobody says so; or a replay that ends well does not mend it.
    """
    shutil.copytree(source.directory / "job", directory / "job", copy_function=shutil.copy2)
    job = Job(directory / "job", source.endpoint_url, source.credentials, rest=ONE)
    random = Random(seed)
    kinds = files_of(directory / "job")
    path = random.choice(kinds[random.choice(sorted(kinds))])
    how = random.choice(sorted(hostile.DAMAGES))
    former = source.directory / "yesterday" / path.relative_to(directory / "job")
    content = hostile.DAMAGES[how](path.read_bytes(), former.read_bytes() if former.exists() else None, random)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    imports = random.random() < 0.3
    story = f"{how} {path.relative_to(directory)}, then {'import' if imports else 'run'}"

    with patch.dict(os.environ, job.environment):
        if imports:
            dump = directory / "dump.json"
            dump.write_text(json.dumps({"sessions": [hostile.good(random, "one")]}))
            codes = [import_file(job, dump, THIRD)[1]]
        else:
            codes = [code_of(lambda: worst(job.run(THIRD)))]
        codes.append(code_of(lambda: state_of(job)))
        findings = problems(job)
        shown = shown_rows(job)
        if shown != source.rows:
            said = set(codes) & {1, 5} or findings
            _hold(said, "other rows are shown, and nobody says so", (codes, shown), story)
        replayed = code_of(lambda: worst(replay(job.settings(), Selection(since=DATE))))
        if replayed == 0:
            again = [finding for finding in problems(job) if not REMAINS.search(finding)]
            _hold(not again, "replayed, and still", again, story)
            shown = shown_rows(job)
            _hold(shown == source.rows, "replayed, and other rows are shown", shown, story)
    return [*codes, replayed]


def files_of(directory: Path) -> dict[tuple[str, str, str], list[Path]]:
    """Return the files of a job that damage can hit, the smaller kinds as likely as the larger ones."""
    kinds: dict[tuple[str, str, str], list[Path]] = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.parent != directory and path.name not in {"lock", ".lock"}:
            parts = path.relative_to(directory).parts
            kinds.setdefault((parts[0], path.suffix, parts[1] if len(parts) > 3 else ""), []).append(path)
    return kinds


# What commands say


def code_of(command: Callable[[], int]) -> int:
    """Return the exit code of a command; any other error than ours goes on."""
    try:
        return command()
    except EtlError as exc:
        return exc.exit_code


def worst(outcomes: list[Outcome]) -> int:
    """Return the highest exit code."""
    return max(outcome.exit_code for outcome in outcomes)


def state_of(job: Job) -> int:
    """Return 5 if `status` names anything that is lost or damaged."""
    found = status(job.settings(), 3)
    return 5 if found.losses or any(row["state"] == "damaged" for row in found.unfinished) else 0


def problems(job: Job) -> list[str]:
    """Return what `verify` finds, or why it cannot look."""
    try:
        return job.problems()
    except EtlError as exc:
        return [str(exc)]


def shown_rows(job: Job, dates: list[dt.date] | None = None) -> object:
    """Return the rows of some dates, the first two nights by default, as readers see them; else what they meet."""
    nights = ", ".join(f"'{date}'" for date in dates or [DATE, NEXT])
    try:
        return [job.rows(table, f"snapshot_date in ({nights})") for table in EXPORTED[1:]]
    except Exception as exc:  # noqa: BLE001  whatever a reader meets
        return str(exc)


def _hold(is_so: object, promise: str, found: object, story: str) -> None:
    if not is_so:
        raise ViolationError(f"{promise}: {found}\n{story}")


# Cases by name

KINDS = ("responses", "damages", "dumps")


def name_of(seed: int) -> str:
    """Return the name of a case: the kinds take turns."""
    return f"{KINDS[seed % len(KINDS)]}-{seed}"


def case(name: str, directory: Path, source: Template) -> list[int]:
    """Judge the case of a name; return the exit codes of its commands.

    Raises:
        ViolationError: a promise is broken.
    """
    kind, _, number = name.partition("-")
    seed = int(number)
    if kind == "responses":
        return [judge_responses(seed, directory)]
    if kind == "dumps":
        return judge_dumps(range(seed * DUMPS, (seed + 1) * DUMPS), directory)
    return judge_damage(seed, source, directory)
