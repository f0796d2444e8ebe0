"""Commands for the configuration: init, config, datasets, prices."""

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from etl.cli.options import CONFIG, Config, Json, command, settings_of
from etl.cli.output import Facts, Output

log = logging.getLogger(__name__)


def init_command(
    config: Config = CONFIG,
    aws: Annotated[
        bool, typer.Option("--aws", help="For AWS instead of the embedded studio; name datasets later.")
    ] = False,
    inventory: Annotated[
        str | None,
        typer.Option(metavar="SERVICE,…", help="For AWS, with all that these boto3 services list; such as ec2,s3,iam."),
    ] = None,
    region: Annotated[str | None, typer.Option(help="AWS Region to list.")] = None,
) -> None:
    """Write a commented configuration file to begin with."""
    from etl.configfile import append_datasets  # noqa: PLC0415
    from etl.configinit import first_text, new_file  # noqa: PLC0415

    services = [name.strip() for name in (inventory or "").split(",") if name.strip()]
    left_out = list[str]()
    with new_file(config, first_text(for_aws=aws or bool(services), region=region)) as draft:
        settings_of(draft)
        for service in services:
            from etl.jobs.propose import as_yaml, propose_service  # noqa: PLC0415  boto3

            drafts, reasons = propose_service(settings_of(draft), service)
            left_out += reasons or ([] if drafts else [f"{service} has no operation that lists something"])
            if drafts:
                append_datasets(draft, as_yaml(drafts), [one.definition for one in drafts])
        count = len(settings_of(draft).datasets)
    for reason in left_out:
        log.warning("%s", reason)
    print(f"{config}: written; it exports {count} datasets")
    if not count:
        print(f"next: {command(config, 'datasets', 'add', 'SERVICE', 'OPERATION', '--write')}")
    else:
        print(f"next: {command(config, 'doctor')}")


def datasets_command(
    context: typer.Context,
    config: Config = CONFIG,
    service: Annotated[str | None, typer.Option(help="Show instead what this boto3 service can list.")] = None,
    as_json: Json = False,
) -> None:
    """Show the datasets: their operations, the parents of their slices, and whether they are configured."""
    from etl.jobs.describe import list_datasets  # noqa: PLC0415
    from etl.jobs.propose import exportable  # noqa: PLC0415

    context.obj = config
    if context.invoked_subcommand:
        return
    rows = exportable(service) if service else list_datasets(settings_of(config))
    notes = [] if rows else [f"{service} has no operation that lists something."]
    Output(as_json=as_json).show(Facts("operations" if service else "datasets", rows), notes=notes)


def datasets_add(  # noqa: PLR0913, PLR0917  one parameter per flag
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="Name of the service in boto3, such as ec2.")],
    operation: Annotated[
        str | None,
        typer.Argument(help="Name of the method in boto3, such as describe_volumes; none: all that it lists."),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="The configuration file.")] = None,
    result_key: Annotated[str | None, typer.Option(help="Which list to take if a response has several.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the dataset.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Append to the configuration file; comments stay.")] = False,
    as_json: Json = False,
) -> None:
    """Propose entries of `datasets` that export an operation and the parents that its parameters come from."""
    from etl.configfile import append_datasets  # noqa: PLC0415
    from etl.jobs.propose import as_yaml, propose, propose_service  # noqa: PLC0415

    path, left_out = config or context.obj, list[str]()
    if operation:
        drafts = propose(settings_of(path), service, operation, result_key, name)
    elif result_key or name:
        raise typer.BadParameter("--result-key and --name belong to one operation; name it after the service")
    else:
        drafts, left_out = propose_service(settings_of(path), service)
    for reason in left_out:
        log.warning("%s", reason)
    if write and drafts:
        append_datasets(path, as_yaml(drafts), [draft.definition for draft in drafts])
    added = [
        f"{path}: added {', '.join(draft.name for draft in drafts) or 'nothing'}",
        *(f"{draft.name}: fill in {', '.join(draft.blanks)}" for draft in drafts if draft.blanks),
    ]
    Output(as_json=as_json).show(
        Facts("datasets", [{**draft.settings, "comments": draft.comments} for draft in drafts], columns=()),
        notes=added if write else as_yaml(drafts).splitlines(),
    )


def prices_command(
    file: Annotated[Path, typer.Argument(help="JSON price list of a service, such as AmazonEC2, saved from AWS.")],
    region: Annotated[str | None, typer.Option(help="Only prices of this Region.")] = None,
    operating_system: Annotated[str, typer.Option(help="Of the instances: Linux, Windows, RHEL or SUSE.")] = "Linux",
    output: Annotated[Path, typer.Option(help="The new file; - for standard output.")] = Path("prices.csv"),
) -> None:
    """Write a price table for `marts.prices` from a saved price list of AWS. Sends no requests."""
    from etl.jobs.prices import price_table, save_table  # noqa: PLC0415

    text, found = price_table(file, region, operating_system)
    for reason in found.left_out:
        log.warning("left out: %s", reason)
    if output == Path("-"):
        print(text, end="")
        return
    save_table(text, output)
    regions = len({price.region for price in found.prices})
    print(f"{output}: {len(found.prices)} prices, {regions} {'Region' if regions == 1 else 'Regions'}")


def config_check(config: Config = CONFIG) -> None:
    """Validate the configuration and the dataset definitions. Sends no requests."""
    from etl.jobs.describe import check  # noqa: PLC0415

    tables, doubts = check(settings_of(config))
    for doubt in doubts:
        log.warning("%s", doubt)
    print(f"{config}: valid; fills {', '.join(tables)}")


def config_schema() -> None:
    """Print the JSON schema of the configuration."""
    from etl.config import Settings  # noqa: PLC0415

    print(json.dumps(Settings.model_json_schema(), indent=2))


def config_show(config: Config = CONFIG, as_json: Json = False) -> None:
    """Print every setting with its value, and the line of the file or the variable that it comes from."""
    from etl.configfile import list_settings  # noqa: PLC0415

    rows = list_settings(config)
    texts = [{**row, "value": json.dumps(row["value"], ensure_ascii=False)} for row in rows]
    Output(as_json=as_json).show(Facts("settings", rows if as_json else texts))
