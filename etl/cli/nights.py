"""Commands that publish: run, replay, import, demo. And the command that serves the embedded studio."""

import datetime as dt
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl import interpreter
from etl.cli.completion import datasets
from etl.cli.options import (
    CONFIG,
    DEMO,
    AcceptSource,
    AllowFall,
    Config,
    Json,
    Parent,
    PublishPartial,
    SnapshotDate,
    StudioId,
    date_of,
    parents_of,
    settings_of,
    shard_of,
)
from etl.cli.output import FINDINGS, Facts, Output
from etl.cli.process import lost_output, progress, stopped_by_signals
from etl.errors import ConfigError, EtlError, shortened
from etl.events import Ended, listening, tell

if TYPE_CHECKING:
    from etl.config import Settings
    from etl.jobs.night import Request
    from etl.outcome import Outcome


def run_command(  # noqa: PLR0913, PLR0917  one parameter per flag
    config: Config = CONFIG,
    snapshot_date: SnapshotDate = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Export only this dataset. Repeatable.", autocompletion=datasets)
    ] = None,
    studio_id: Annotated[list[str] | None, typer.Option(help="Export only this studio. Repeatable.")] = None,
    created_by: Annotated[str | None, typer.Option(help="Export only sessions created by this user.")] = None,
    owned_by: Annotated[str | None, typer.Option(help="Export only sessions owned by this user.")] = None,
    session_ids: Annotated[str | None, typer.Option(help="Export only these sessions; the API's sessionIds.")] = None,
    max_items: Annotated[int | None, typer.Option(min=1, help="Stop each slice after N more records.")] = None,
    starting_token: Annotated[str | None, typer.Option(help="Begin at this token; needs exactly one slice.")] = None,
    max_duration: Annotated[str | None, typer.Option(help="Stop the run after this time, such as 3h.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin a new run instead of resuming one.")] = False,
    publish_partial: PublishPartial = False,
    allow_fall: AllowFall = False,
    accept_model: Annotated[bool, typer.Option("--accept-model", help="Accept lost or changed API members.")] = False,
    unless_published: Annotated[
        bool, typer.Option("--unless-published", help="Do nothing for a date that the same request has published.")
    ] = False,
    accept_source: AcceptSource = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Publish the I-th of N parts; the last shard builds the catalog.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the slices; only what tells of slices is listed.")
    ] = False,
    engine: Annotated[
        str | None, typer.Option(help="Who walks the slices: threads, processes or spark; see `engine` in config.yaml.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Export every page, publish the snapshot and rebuild the catalog. The next run continues a stopped one."""
    from etl.configfile import Overrides, load_settings  # noqa: PLC0415
    from etl.extract.tokens import check_starting_token  # noqa: PLC0415
    from etl.jobs.night import Request, run  # noqa: PLC0415
    from etl.jobs.warehouse import pages_of_last_night  # noqa: PLC0415
    from etl.observe.attempts import attempt_noter  # noqa: PLC0415
    from etl.observe.notify import notifier  # noqa: PLC0415

    filters = {"created_by": created_by, "owned_by": owned_by, "session_ids": session_ids}
    overrides = Overrides(dataset, studio_id, filters, max_items, max_duration, engine=engine)
    settings = load_settings(config, overrides)
    if settings.engine.kind == "spark":
        interpreter.show_pandas()
    date = date_of("--snapshot-date", snapshot_date)
    token = check_starting_token(starting_token) if starting_token else None
    if shard and token:
        raise ConfigError("--starting-token: a token belongs to one slice, and --shard divides many; leave out one")
    request = Request(
        date,
        token,
        fresh=fresh,
        publish_partial=publish_partial,
        allow_fall=allow_fall,
        accept_model=accept_model,
        unless_published=unless_published,
        accept_source=accept_source,
        shard=shard_of("--shard", shard),
    )
    if dry_run:
        _show_rehearsal(settings, request, Output(as_json=as_json))
        return
    with listening(attempt_noter(settings.state_dir), notifier(settings.on_finish)):
        try:
            with stopped_by_signals() as stop, progress(partial(pages_of_last_night, settings)):
                outcomes = run(settings, request, stop)
        except Exception as exc:
            tell(Ended(exc.exit_code if isinstance(exc, EtlError) else 1, str(exc)))
            raise
        exit_code = _show(outcomes, Output(as_json=as_json))
        tell(Ended(exit_code, None, tuple(outcome.report() for outcome in outcomes)))
    raise typer.Exit(exit_code)


def _show_rehearsal(settings: "Settings", request: "Request", output: Output) -> None:
    """Show the slices that a run would walk, and raise what ended a listing that tells of slices."""
    from etl.errors import SourceError  # noqa: PLC0415
    from etl.jobs.rehearsal import rehearse  # noqa: PLC0415

    with stopped_by_signals() as stop:
        found = rehearse(settings, request.target, request.shard, stop)
    rows = [
        {
            "dataset": one.facts.slice.dataset,
            "account_id": one.facts.slice.account_id,
            "region": one.facts.slice.region,
            "parameters": dict(one.facts.slice.parameters),
            "pages_last_time": one.pages,
            "operation": one.operation,
        }
        for one in found
    ]
    known = [one.pages for one in found if one.pages is not None]
    new = len(found) - len(known)
    total = f"{len(found)} slices, {sum(known):,} pages last time, {new} slices new; nothing was written"
    output.show(Facts("slices", rows), notes=[total])
    if failed := [one.facts.error for one in found if one.facts.error]:
        raise SourceError("\n".join(shortened(failed)))


def replay_command(
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Rewrite the date of this run.")] = None,
    config: Config = CONFIG,
    since: Annotated[str | None, typer.Option(help="Rewrite this date, YYYY-MM-DD, and all later ones.")] = None,
    allow_fall: AllowFall = False,
    as_json: Json = False,
) -> None:
    """Write the rows of past runs again, from their ledgers. Sends no requests to the source."""
    from etl.jobs.replay import Selection, replay  # noqa: PLC0415

    if (run_id is None) == (since is None):
        raise ConfigError("replay: expected either a RUN, which `nimble-etl status` shows, or --since DATE")
    outcomes = replay(settings_of(config), Selection(run_id, date_of("--since", since), allow_fall))
    raise typer.Exit(_show(outcomes, Output(as_json=as_json)))


def import_command(  # noqa: PLR0913, PLR0917  one parameter per flag
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="JSON output of `aws … list-…`: plain, gzip or zstd; - reads stdin."),
    ],
    snapshot_date: Annotated[str, typer.Option(help="UTC date on which the output was saved, YYYY-MM-DD.")],
    config: Config = CONFIG,
    dataset: Annotated[
        str, typer.Option(help="The dataset that was listed.", autocompletion=datasets)
    ] = "streaming_sessions",
    studio_id: StudioId = None,
    parent: Parent = None,
    account_id: Annotated[str | None, typer.Option(help="AWS account, if no ARN in the files names it.")] = None,
    region: Annotated[str | None, typer.Option(help="AWS Region, if no ARN in the files names it.")] = None,
    publish_partial: PublishPartial = False,
    allow_fall: AllowFall = False,
    accept_source: AcceptSource = False,
    as_json: Json = False,
) -> None:
    """Publish saved AWS CLI output as a slice's snapshot. Sends no requests to AWS."""
    from etl.jobs.dumps import ImportRequest, import_dump  # noqa: PLC0415

    date = date_of("--snapshot-date", snapshot_date)
    assert date is not None
    parents = parents_of(parent or [], studio_id)
    request = ImportRequest(
        files,
        dataset,
        date,
        parents,
        account_id,
        region,
        publish_partial=publish_partial,
        allow_fall=allow_fall,
        accept_source=accept_source,
    )
    with progress():
        outcome = import_dump(settings_of(config), request)
    raise typer.Exit(_show([outcome], Output(as_json=as_json)))


def demo_command(
    config: Annotated[Path | None, typer.Option("--config", help="A configuration file instead of --into.")] = None,
    into: Annotated[Path, typer.Option(help="Directory of the demonstration; made if it is missing.")] = DEMO,
) -> None:
    """Export three nights of the embedded studio, ask three questions, write the report. Needs no configuration."""
    from etl.cli.demo import demo  # noqa: PLC0415

    with stopped_by_signals() as stop:
        raise typer.Exit(demo(config, into, stop, lambda outcome: print(*_closing_lines(outcome), sep="\n")))


def emulator_command(  # noqa: PLR0913, PLR0917  one parameter per flag
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free port.")] = 8790,
    studios: Annotated[int, typer.Option(min=1, help="Number of studios.")] = 2,
    sessions: Annotated[int, typer.Option(min=0, help="Live sessions in each studio.")] = 1500,
    accounts: Annotated[int, typer.Option(min=1, help="Accounts in the organization; each has as much.")] = 1,
    seed: Annotated[int, typer.Option(help="Another seed makes another world.")] = 7,
    page_size: Annotated[int, typer.Option(min=1, help="Records on a page.")] = 100,
    latency_ms: Annotated[float, typer.Option(min=0, help="Milliseconds added to each answer.")] = 0,
    token_lifetime: Annotated[float | None, typer.Option(min=0, help="Seconds until a page token expires.")] = None,
    instant: Annotated[str | None, typer.Option(help="Stop the clock at this ISO-8601 instant.")] = None,
    request_log: Annotated[Path | None, typer.Option(help="File that gets a line of JSON for each request.")] = None,
    fault: Annotated[list[str] | None, typer.Option(help="Rule, such as throttle:request=3. Repeatable.")] = None,
) -> None:
    """Serve the embedded studio until interrupted. docs/embedded-studio.md lists the fault rules."""
    from etl import emulator  # noqa: PLC0415
    from etl.emulator import FaultSpecError, PortInUseError  # noqa: PLC0415

    def ready(url: str) -> None:
        key_id, secret = emulator.EmbeddedStudio.credentials
        keys = f"AWS_ACCESS_KEY_ID={key_id} AWS_SECRET_ACCESS_KEY={secret}"
        print(f"The embedded studio answers at {url}; sign requests with\n{keys}", flush=True)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C is its usual end: requests in flight are done
    try:
        at = dt.datetime.fromisoformat(instant) if instant else None
    except ValueError:
        raise ConfigError(f"--instant: found {instant!r}; expected an instant such as 2026-11-23T02:00:00Z") from None
    try:
        if at is not None and at.tzinfo is None:
            at = at.replace(tzinfo=dt.UTC)
        latency_s = latency_ms / 1000
        settings = emulator.StudioSettings(page_size, latency_s, token_lifetime, instant=at, request_log=request_log)
        world = emulator.World(seed=seed, studios=studios, sessions_per_studio=sessions)
        organization = emulator.Organization.of(accounts) if accounts > 1 else None
        emulator.serve(world, settings, port=port, faults=fault or (), organization=organization, on_ready=ready)
    except (ValueError, FaultSpecError) as exc:
        raise ConfigError(str(exc)) from exc
    except PortInUseError as exc:
        raise ConfigError(f"--port: {exc.strerror}") from exc
    except KeyboardInterrupt:
        pass


def _show(outcomes: "list[Outcome]", output: Output) -> int:
    """Print the outcome of each run, and return the exit code of the invocation: 5 if it could not be printed."""
    from etl.outcome import exit_code_of  # noqa: PLC0415

    lines = [line for outcome in outcomes for line in _closing_lines(outcome)]
    output.show(Facts("runs", [outcome.report() for outcome in outcomes], columns=()), notes=lines)
    return exit_code_of(outcomes) or (FINDINGS if lost_output() else 0)


def _closing_lines(outcome: "Outcome") -> Iterator[str]:
    """Yield what the operator should know about the slices of a run, then its closing line."""
    from etl.model import SliceState  # noqa: PLC0415

    words = {0: "published", 1: "failed", 3: "incomplete, run again to go on", 5: "published, but not all is well"}
    if outcome.failure:
        yield f"run {outcome.run.run_id}: {outcome.failure}"
    for facts in outcome.told:
        if facts.error:
            yield f"{'held back' if facts.state is SliceState.COMPLETE else facts.state.value}: {facts.error}"
        if facts.starting_token:
            yield f"{facts.slice}: stopped after {facts.records} records; StartingToken {facts.starting_token}"
        for drift in shortened(facts.drift):
            yield f"{facts.slice}: the service model does not know {drift}"
    counts = ", ".join(f"{count} {name}" for name, count in outcome.counts.items())
    part = f", shard {outcome.run.shard.text}" if outcome.run.shard.text else ""
    yield (
        f"{outcome.run.snapshot_date}{part}: {words[outcome.exit_code]}; {len(outcome.told)} slices, {counts},"
        f" {outcome.seconds:.1f} seconds"
    )
