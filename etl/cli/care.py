"""Commands that look after the warehouse: status, verify, compact, vacuum."""

from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.options import CONFIG, Config, Json, date_of, settings_of
from etl.cli.output import FINDINGS, Facts, Output

if TYPE_CHECKING:
    from etl.jobs.upkeep import Upkeep


def status_command(
    config: Config = CONFIG,
    last: Annotated[int, typer.Option(min=1, help="How many runs to show.")] = 7,
    max_age: Annotated[str | None, typer.Option(help="Instead of status.max_age, for instance 26h.")] = None,
    as_json: Json = False,
) -> None:
    """Show the last runs, what is unfinished, and how old each studio's snapshot is. Exit 5 if one is too old."""
    from etl.configfile import Overrides, load_settings  # noqa: PLC0415
    from etl.jobs.status import status  # noqa: PLC0415

    settings = load_settings(config, Overrides(max_age=max_age))
    found = status(settings, last)
    listed = (
        ("runs", found.runs, "Last runs"),
        ("unfinished", found.unfinished, "Unfinished: the next run goes on"),
        ("snapshots", found.snapshots, "Newest complete snapshots"),
    )
    errors = [row["error"] for row in (*found.unfinished, *found.snapshots) if row["error"]]
    none_yet = [] if found.runs or found.unfinished else ["No run yet. `nimble-etl run` makes the first."]
    Output(as_json=as_json).show(
        *(
            Facts(name, rows, [column for column in (rows[0] if rows else ()) if column != "error"], title)
            for name, rows, title in listed
        ),
        notes=[*errors, *none_yet],
    )
    if found.is_stale:
        raise typer.Exit(FINDINGS)


def verify_command(
    config: Config = CONFIG,
    snapshot_date: Annotated[str | None, typer.Option(help="Only this date, YYYY-MM-DD.")] = None,
    as_json: Json = False,
) -> None:
    """Recompute from ledgers and data files that what is published is complete. Exit 5 if it is not."""
    from dataclasses import asdict  # noqa: PLC0415

    from etl.jobs.verify import verify  # noqa: PLC0415

    findings = [asdict(finding) for finding in verify(settings_of(config), date_of("--snapshot-date", snapshot_date))]
    problems = [finding for finding in findings if finding["problem"]]
    total = f"{len(findings) - len(problems)} snapshots complete, {len(problems)} problems"
    shown = findings if as_json else [{**finding, "problem": finding["problem"] or "complete"} for finding in findings]
    Output(as_json=as_json).show(Facts("findings", shown), notes=[total if findings else "Nothing is published yet."])
    if problems:
        raise typer.Exit(FINDINGS)


def compact_command(config: Config = CONFIG, as_json: Json = False) -> None:
    """Write the data files of each date into one."""
    from etl.jobs.upkeep import compact  # noqa: PLC0415

    _show(compact(settings_of(config)), Output(as_json=as_json))


def vacuum_command(config: Config = CONFIG, as_json: Json = False) -> None:
    """Remove data files that no table names any more, after warehouse.vacuum_grace."""
    from etl.jobs.upkeep import vacuum  # noqa: PLC0415

    _show(vacuum(settings_of(config)), Output(as_json=as_json))


def _show(done: "list[Upkeep]", output: Output) -> None:
    from dataclasses import asdict  # noqa: PLC0415

    output.show(Facts("tables", [asdict(upkeep) for upkeep in done]))
