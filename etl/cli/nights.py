"""Commands that publish: run, replay, import, demo; and the embedded studio by itself."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.options import CONFIG, AllowFall, Config, Json, PublishPartial, SnapshotDate, date_of, settings_of
from etl.cli.output import Facts, Output
from etl.cli.process import progress, stopped_by_signals
from etl.errors import ConfigError, EtlError
from etl.events import Ended, listening, tell

if TYPE_CHECKING:
    from etl.outcome import Outcome


def run_command(  # noqa: PLR0913, PLR0917  one parameter per flag
    config: Config = CONFIG,
    snapshot_date: SnapshotDate = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")] = None,
    studio_id: Annotated[list[str] | None, typer.Option(help="Only this studio; may be repeated.")] = None,
    created_by: Annotated[str | None, typer.Option(help="Only sessions created by this user.")] = None,
    owned_by: Annotated[str | None, typer.Option(help="Only sessions owned by this user.")] = None,
    session_ids: Annotated[str | None, typer.Option(help="Only these sessions, as the API's one string.")] = None,
    max_items: Annotated[
        int | None, typer.Option(min=1, help="Take so many records more of each slice, then stop resumable.")
    ] = None,
    starting_token: Annotated[str | None, typer.Option(help="Begin the only slice at this starting token.")] = None,
    max_duration: Annotated[str | None, typer.Option(help="Stop resumable after, for instance, 3h.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not resume; begin a new run.")] = False,
    publish_partial: PublishPartial = False,
    allow_fall: AllowFall = False,
    accept_model: Annotated[
        bool, typer.Option("--accept-model", help="Go on although a service model has lost or changed members.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Export: walk every page, publish the snapshot, rebuild the catalog. Resumes an unfinished run by itself."""
    from etl.configfile import Overrides, load_settings  # noqa: PLC0415
    from etl.extract.source import check_starting_token  # noqa: PLC0415
    from etl.jobs.night import Request, run  # noqa: PLC0415
    from etl.observe.notify import notifier  # noqa: PLC0415

    settings = load_settings(
        config,
        Overrides(
            datasets=dataset,
            studio_ids=studio_id,
            filters={"created_by": created_by, "owned_by": owned_by, "session_ids": session_ids},
            max_items=max_items,
            max_duration=max_duration,
        ),
    )
    request = Request(
        snapshot_date=date_of("--snapshot-date", snapshot_date),
        starting_token=check_starting_token(starting_token) if starting_token else None,
        fresh=fresh,
        publish_partial=publish_partial,
        allow_fall=allow_fall,
        accept_model=accept_model,
    )
    with listening(notifier(settings.on_finish)):
        try:
            with stopped_by_signals() as stop, progress():
                outcomes = run(settings, request, stop)
        except Exception as exc:
            tell(Ended(exc.exit_code if isinstance(exc, EtlError) else 1, str(exc)))
            raise
        exit_code = _show(outcomes, Output(as_json=as_json))
        tell(Ended(exit_code, None, tuple(outcome.report() for outcome in outcomes)))
    raise typer.Exit(exit_code)


def replay_command(
    run_id: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run; its whole date is written anew.")
    ] = None,
    config: Config = CONFIG,
    since: Annotated[str | None, typer.Option(help="Every date from this one on, YYYY-MM-DD.")] = None,
    allow_fall: AllowFall = False,
    as_json: Json = False,
) -> None:
    """Write the rows of past runs anew from their ledgers. Asks nothing of the source."""
    from etl.jobs.replay import Selection, replay  # noqa: PLC0415

    if (run_id is None) == (since is None):
        raise ConfigError("replay: expected a RUN, as `status` shows them, or --since DATE")
    outcomes = replay(settings_of(config), Selection(run_id, date_of("--since", since), allow_fall))
    raise typer.Exit(_show(outcomes, Output(as_json=as_json)))


def import_command(  # noqa: PLR0913, PLR0917  one parameter per flag
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="JSON that `aws … list-…` printed, plain, gzip or zstd; - reads stdin."),
    ],
    snapshot_date: Annotated[str, typer.Option(help="UTC date on which it was saved, YYYY-MM-DD.")],
    config: Config = CONFIG,
    dataset: Annotated[str, typer.Option(help="What it lists.")] = "streaming_sessions",
    studio_id: Annotated[str | None, typer.Option(help="The studio that was listed: --parent studioId=ID.")] = None,
    parent: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the listing; may be repeated.")
    ] = None,
    account_id: Annotated[str | None, typer.Option(help="The account, where no ARN says it.")] = None,
    region: Annotated[str | None, typer.Option(help="The Region, where no ARN says it.")] = None,
    publish_partial: PublishPartial = False,
    allow_fall: AllowFall = False,
    as_json: Json = False,
) -> None:
    """Publish what the AWS CLI printed and someone saved, as the snapshot of one slice. Asks nothing of AWS."""
    from etl.jobs.dumps import ImportRequest, import_dump  # noqa: PLC0415

    date = date_of("--snapshot-date", snapshot_date)
    assert date is not None
    request = ImportRequest(
        files=files,
        dataset=dataset,
        snapshot_date=date,
        parents=_parents(parent or [], studio_id),
        account_id=account_id,
        region=region,
        publish_partial=publish_partial,
        allow_fall=allow_fall,
    )
    with progress():
        outcome = import_dump(settings_of(config), request)
    raise typer.Exit(_show([outcome], Output(as_json=as_json)))


def demo_command(config: Config = CONFIG) -> None:
    """Export three consecutive nights of the embedded studio, then ask the warehouse three questions."""
    from etl.cli.demo import demo  # noqa: PLC0415

    with stopped_by_signals() as stop:
        raise typer.Exit(demo(settings_of(config), stop, lambda outcome: print(*_closing_lines(outcome), sep="\n")))


def emulator_command(  # noqa: PLR0913, PLR0917  one parameter per flag
    port: Annotated[int, typer.Option(help="0: any that is free.")] = 8790,
    studios: Annotated[int, typer.Option(min=1)] = 2,
    sessions: Annotated[int, typer.Option(min=0, help="Live sessions per studio.")] = 1500,
    seed: int = 7,
    page_size: Annotated[int, typer.Option(min=1)] = 100,
    latency_ms: Annotated[float, typer.Option(min=0)] = 0,
    token_lifetime: Annotated[float | None, typer.Option(min=0, help="Seconds until a page token expires.")] = None,
    instant: Annotated[
        str | None, typer.Option(help="Stand still at this ISO-8601 instant; default: now, moving.")
    ] = None,
    request_log: Annotated[Path | None, typer.Option(help="Append each request as a line of JSON.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="Misbehave, such as throttle:request=3,times=5; may be repeated. See the README."),
    ] = None,
) -> None:
    """Serve the embedded studio by itself, until interrupted."""
    from etl.emulator import EmbeddedStudio, FaultSpecError, PortInUseError, StudioSettings, World, serve  # noqa: PLC0415

    def ready(url: str) -> None:
        key_id, secret = EmbeddedStudio.credentials
        print(f"The embedded studio answers at {url}; sign requests with", flush=True)
        print(f"AWS_ACCESS_KEY_ID={key_id} AWS_SECRET_ACCESS_KEY={secret}", flush=True)

    try:
        at = dt.datetime.fromisoformat(instant) if instant else None
        if at is not None and at.tzinfo is None:
            at = at.replace(tzinfo=dt.UTC)
        settings = StudioSettings(
            page_size=page_size,
            latency_s=latency_ms / 1000,
            token_lifetime_s=token_lifetime,
            instant=at,
            request_log=request_log,
        )
        world = World(seed=seed, studios=studios, sessions_per_studio=sessions)
        serve(world, settings, port=port, faults=fault or (), on_ready=ready)
    except (ValueError, FaultSpecError) as exc:
        raise ConfigError(str(exc)) from exc
    except PortInUseError as exc:
        raise ConfigError(f"--port: {exc.strerror}") from exc
    except KeyboardInterrupt:
        pass


def _show(outcomes: "list[Outcome]", output: Output) -> int:
    """Print how runs stand; return the exit code of all."""
    from etl.outcome import exit_code_of  # noqa: PLC0415

    lines = [line for outcome in outcomes for line in _closing_lines(outcome)]
    output.show(Facts("runs", [outcome.report() for outcome in outcomes], columns=()), notes=lines)
    return exit_code_of(outcomes)


def _closing_lines(outcome: "Outcome") -> Iterator[str]:
    """Yield what the operator should know of the slices of a run, and its closing line."""
    from etl.model import SliceState  # noqa: PLC0415

    word = {0: "published", 1: "failed", 3: "incomplete, run again to go on", 5: "published, but not all is well"}
    if outcome.failure:
        yield f"run {outcome.run.run_id}: {outcome.failure}"
    for facts in outcome.slices:
        if facts.error:
            yield f"{'held back' if facts.state is SliceState.COMPLETE else facts.state.value}: {facts.error}"
        if facts.starting_token:
            yield f"{facts.slice}: stopped after {facts.records} records; StartingToken {facts.starting_token}"
        for drift in facts.drift:
            yield f"{facts.slice}: the service model does not know {drift}"
    counts = ", ".join(f"{count} {name}" for name, count in outcome.counts.items())
    yield (
        f"{outcome.run.snapshot_date}: {word[outcome.exit_code]}; {len(outcome.slices)} slices, {counts},"
        f" {outcome.seconds:.1f} seconds"
    )


def _parents(pairs: list[str], studio_id: str | None) -> dict[str, str]:
    """Return the parameters of a slice by name."""
    found: dict[str, str] = {}
    for pair in [*pairs, *([f"studioId={studio_id}"] if studio_id is not None else [])]:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"--parent: found {pair!r}; expected NAME=VALUE, such as studioId=us-west-2-abc")
        if name in found:
            raise ConfigError(f"--parent: {name} is given twice; keep one")
        found[name] = value
    return found
