"""Flags that several commands share, and how their values are read."""

import datetime as dt
import logging
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.output import Format, Reader
from etl.errors import ConfigError

if TYPE_CHECKING:
    from etl.config import Settings
    from etl.model import Shard

log = logging.getLogger(__name__)

Config = Annotated[Path, typer.Option("--config", help="The configuration file.")]
CONFIG = Path("config.yaml")
DEMO = Path("nimble-etl-demo")
"""The directory of the demonstration."""
_MOST_SHARDS = 10_000
"""The largest array of AWS Batch has so many children. Source: AWS Batch User Guide, "Array jobs"."""
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Form = Annotated[Format, typer.Option("--format", help="Form of the answer.")]
For = Annotated[
    Reader | None,
    typer.Option("--for", help="With --format csv: write it for this program, whose formulas no text may become."),
]
SnapshotDate = Annotated[str | None, typer.Option(help="UTC date of the snapshot, YYYY-MM-DD; default: today.")]
PublishPartial = Annotated[
    bool, typer.Option("--publish-partial", help="Also publish incomplete listings, as partial.")
]
StudioId = Annotated[str | None, typer.Option(help="Studio that was listed; means --parent studioId=ID.")]
Parent = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter of the listing. Repeatable.")]
AcceptSource = Annotated[
    bool, typer.Option("--accept-source", help="Let another account or endpoint fill this warehouse too.")
]
AllowFall = Annotated[bool, typer.Option("--allow-fall", help="Also publish slices that lost many records.")]


def settings_of(config: Path) -> "Settings":
    """Return the settings of a configuration file."""
    from etl.configfile import load_settings  # noqa: PLC0415

    return load_settings(config)


def settings_to_ask(config: Path) -> "Settings":
    """Return the settings of a configuration file; if there is none by the usual name, those of the demonstration."""
    of_demo = DEMO / CONFIG
    if config == CONFIG and not config.exists() and of_demo.exists():
        log.info("%s is not here: asking the demonstration, %s", config, of_demo)
        config = of_demo
    return settings_of(config)


def command(config: Path, *words: str) -> str:
    """Return a command of this program as it can be typed in the shell that has called it."""
    called, found = Path(sys.argv[0]), shutil.which("nimble-etl")
    is_found = not os.access(called, os.X_OK) or (found is not None and called.samefile(found))
    name = "nimble-etl" if is_found else str(called)
    flags = [] if config == CONFIG else ["--config", str(config)]
    return shlex.join([name, *words, *flags])


def date_of(flag: str, text: str | None) -> dt.date | None:
    """Return the date of a flag; None if it was not given.

    Raises:
        ConfigError: the text is not a date.
    """
    try:
        return None if text is None else dt.date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{flag}: found {text!r}; expected a date such as 2026-11-23") from None


def shard_of(flag: str, text: str | None) -> "Shard":
    """Return the shard of a flag; the whole night if it was not given.

    Raises:
        ConfigError: the text is not a shard.
    """
    from etl.model import WHOLE, Shard  # noqa: PLC0415  `--help` is quicker without it

    if text is None:
        return WHOLE
    found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
    shard = Shard(*map(int, found.groups())) if found else Shard(0)
    if not 1 <= shard.number <= shard.count <= _MOST_SHARDS:
        raise ConfigError(
            f"{flag}: found {text!r}; expected I/N with I from 1 to N and N up to {_MOST_SHARDS}, such as 2/8; "
            "if the scheduler counts from 0, add 1"
        )
    return shard


def parents_of(pairs: list[str], studio_id: str | None) -> dict[str, str]:
    """Return the parameters of a slice, by name."""
    found: dict[str, str] = {}
    for pair in [*pairs, *([f"studioId={studio_id}"] if studio_id is not None else [])]:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"--parent: found {pair!r}; expected NAME=VALUE, such as studioId=us-west-2-abc")
        if name in found:
            raise ConfigError(f"--parent: {name} is given twice; keep one")
        found[name] = value
    return found
