"""Flags that several commands take, and how their values are read."""

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.output import Format
from etl.errors import ConfigError

if TYPE_CHECKING:
    from etl.config import Settings

Config = Annotated[Path, typer.Option("--config", help="The configuration file.")]
CONFIG = Path("config.yaml")
Json = Annotated[bool, typer.Option("--json", help="Print facts as one JSON object.")]
Form = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
SnapshotDate = Annotated[str | None, typer.Option(help="UTC date of the snapshot, YYYY-MM-DD; default today.")]
PublishPartial = Annotated[
    bool, typer.Option("--publish-partial", help="Publish incomplete listings too, marked as partial.")
]
AllowFall = Annotated[
    bool, typer.Option("--allow-fall", help="Publish slices that have far fewer records than before.")
]


def settings_of(config: Path) -> "Settings":
    """Return the settings of a configuration file."""
    from etl.configfile import load_settings  # noqa: PLC0415

    return load_settings(config)


def date_of(flag: str, text: str | None) -> dt.date | None:
    """Return the date that a flag says; None if it was not given.

    Raises:
        ConfigError: it says no date.
    """
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{flag}: found {text!r}; expected a date such as 2026-11-23") from None
