"""Commands that look after the warehouse and the way to it: doctor, status, verify, compact, vacuum, forget."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.completion import datasets
from etl.cli.options import CONFIG, Config, Json, Parent, StudioId, date_of, parents_of, settings_of
from etl.cli.output import FINDINGS, Facts, Output, one_line
from etl.errors import EtlError

if TYPE_CHECKING:
    from etl.jobs.upkeep import Upkeep


def status_command(
    config: Config = CONFIG,
    last: Annotated[int, typer.Option(min=1, help="Number of runs to show.")] = 7,
    max_age: Annotated[str | None, typer.Option(help="Limit to use instead of status.max_age, such as 26h.")] = None,
    as_json: Json = False,
) -> None:
    """Show the last runs, what is unfinished or lost, and the age of each snapshot. Exit 5 if too old or lost."""
    from etl.configfile import Overrides, load_settings  # noqa: PLC0415
    from etl.jobs.status import status  # noqa: PLC0415

    found = status(load_settings(config, Overrides(max_age=max_age)), last)
    facts = []
    for name, rows, title in (
        ("attempts", found.attempts, "Last attempt"),
        ("runs", found.runs, "Last runs"),
        ("unfinished", found.unfinished, "Unfinished"),
        ("snapshots", found.snapshots, "Newest complete snapshots"),
        ("losses", found.losses, "Lost: published, and not there"),
    ):
        hidden = {"error"} if any(row.get("shard") for row in rows) else {"error", "shard"}
        facts.append(Facts(name, rows, [column for column in next(iter(rows), ()) if column not in hidden], title))
    errors = [row["error"] for row in (*found.attempts, *found.unfinished, *found.snapshots) if row["error"]]
    notes = [*found.notes, *dict.fromkeys(errors)]
    if not (found.attempts or found.runs or found.unfinished or found.losses):
        notes.append("No run yet. `nimble-etl run` makes the first.")
    Output(as_json=as_json).show(*facts, notes=notes)
    if found.is_stale or found.losses:
        raise typer.Exit(FINDINGS)


def doctor_command(config: Config = CONFIG, as_json: Json = False) -> None:
    """Look whether a night could work here: machine, directories, way to AWS, permissions. Exit 5 if not."""
    from etl.jobs.doctor import Diagnosis, Verdict, diagnose, versions  # noqa: PLC0415

    def tell(found: Diagnosis) -> None:
        told.append(found)
        if not as_json:
            print(f"{found.verdict:8} {one_line(found.about)}: {one_line(found.found)}", flush=True)

    told = list[Diagnosis]()
    tell(versions())
    try:
        settings = settings_of(config)
    except EtlError as exc:
        tell(Diagnosis("configuration", Verdict.PROBLEM, str(exc)))
    else:
        tell(Diagnosis("configuration", Verdict.OK, f"{config}: is valid"))
        for found in diagnose(settings):
            tell(found)
    Output(as_json=as_json).show(Facts("diagnoses", [asdict(one) for one in told], columns=()))
    if any(one.verdict is Verdict.PROBLEM for one in told):
        raise typer.Exit(FINDINGS)


def verify_command(
    config: Config = CONFIG,
    snapshot_date: Annotated[str | None, typer.Option(help="Check only this date, YYYY-MM-DD.")] = None,
    as_json: Json = False,
) -> None:
    """Check that the published rows are complete. Compares data files with ledgers. Exit 5 if they differ."""
    from etl.jobs.verify import unread, verify  # noqa: PLC0415

    settings = settings_of(config)
    findings = [asdict(finding) for finding in verify(settings, date_of("--snapshot-date", snapshot_date))]
    problems = [finding for finding in findings if finding["problem"]]
    total = f"{len(findings) - len(problems)} snapshots complete, {len(problems)} problems"
    if not (problems or as_json):
        for finding in findings:
            del finding["problem"]
    denied = unread(settings)
    nothing = "No file is damaged, no log differs." if denied else "Nothing is published yet."
    notes = [total if findings else nothing, *([denied] if denied else [])]
    Output(as_json=as_json).show(Facts("findings", findings), notes=notes)
    if problems:
        raise typer.Exit(FINDINGS)


def catalog_command(config: Config = CONFIG, as_json: Json = False) -> None:
    """Build the catalog anew, if it was deleted, damaged or changed. Exit 5 if a check of severity error fails."""
    from etl.jobs.upkeep import show  # noqa: PLC0415
    from etl.jobs.warehouse import store_of  # noqa: PLC0415
    from etl.model import CATALOG_NAME  # noqa: PLC0415

    settings = settings_of(config)
    failed = show(settings)
    Output(as_json=as_json).show(
        Facts("failed_checks", [asdict(check) for check in failed], ("name", "severity", "failures", "meaning")),
        notes=[f"{store_of(settings).at(CATALOG_NAME)}: built from all that is committed"],
    )
    if failed:
        raise typer.Exit(FINDINGS)


def compact_command(config: Config = CONFIG, as_json: Json = False) -> None:
    """Merge the data files of each date into one."""
    from etl.jobs.upkeep import compact  # noqa: PLC0415

    _show(compact(settings_of(config)), as_json=as_json)


def vacuum_command(
    config: Config = CONFIG,
    now: Annotated[bool, typer.Option("--now", help="Also delete younger ones, which readers may still use.")] = False,
    as_json: Json = False,
) -> None:
    """Delete files that no table refers to. Younger ones than warehouse.vacuum_grace stay."""
    from etl.jobs.upkeep import vacuum  # noqa: PLC0415

    _show(vacuum(settings_of(config), at_once=now), as_json=as_json)


def forget_command(  # noqa: PLR0913, PLR0917  one parameter per flag
    config: Config = CONFIG,
    dataset: Annotated[
        str | None, typer.Option(help="Forget only slices of this dataset.", autocompletion=datasets)
    ] = None,
    account_id: Annotated[str | None, typer.Option(help="Forget only slices of this AWS account.")] = None,
    slice_id: Annotated[str | None, typer.Option(help="Forget only this slice: see etl_slices.")] = None,
    studio_id: StudioId = None,
    parent: Parent = None,
    since: Annotated[str | None, typer.Option(help="Forget only this date and later ones, YYYY-MM-DD.")] = None,
    until: Annotated[str | None, typer.Option(help="Forget only this date and earlier ones, YYYY-MM-DD.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Forget each record that ever had this value. Repeatable."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Forget it. Otherwise only show what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a dataset, account, studio, dates or a person from tables, change logs, rejects and ledgers."""
    from etl.jobs.forget import forget  # noqa: PLC0415
    from etl.pipeline.forget_plan import Selection  # noqa: PLC0415

    selection = Selection.parse(
        dataset=dataset,
        account_id=account_id,
        slice_id=slice_id,
        parents=parents_of(parent or [], studio_id),
        since=date_of("--since", since),
        until=date_of("--until", until),
        where=where or [],
    )
    settings = settings_of(config)
    found = forget(settings, selection, confirmed=yes)
    if not found.touched:
        notes = ["Nothing of that is there."]
    elif yes:
        later = "`nimble-etl vacuum` deletes the replaced files once warehouse.vacuum_grace has passed"
        notes = [f"Forgotten. {later}; `nimble-etl vacuum --now` deletes them at once."]
    else:
        notes = ["Nothing was removed. With --yes, all of that is forgotten; nothing brings it back."]
    notes += [f"{path}: this damaged ledger cannot be searched; remove it" for path in found.unsearched]
    facts = [
        Facts("touched", [asdict(touched) for touched in found.touched]),
        Facts(
            "left", [asdict(left) for left in found.left], title="Still there, in columns that --where does not name"
        ),
    ]
    Output(as_json=as_json).show(*facts, notes=notes)
    if found.unsearched or found.failed_checks:
        raise typer.Exit(FINDINGS)


def _show(done: "list[Upkeep]", *, as_json: bool) -> None:
    Output(as_json=as_json).show(Facts("tables", [asdict(upkeep) for upkeep in done]))
