"""Nights of the embedded studio, exported one after the other as a cron job would."""

import datetime as dt
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etl.config import Settings
from etl.configfile import load_settings
from etl.emulator import EmbeddedStudio, StudioSettings, World
from etl.jobs.night import Request, run
from etl.pipeline.walks import Stop

HOUR = dt.time(2)
CONFIG = """
source: {{endpoint_url: {url}, account_id: '{account_id}'}}
datasets: [studios, streaming_sessions]
publish: {{max_fall: 1}}
run: {{keep_ledgers: 100000d}}
marts: {{build: {marts}, prices: prices.csv}}
"""
PRICE_PER_HOUR = 0.75


@dataclass(frozen=True)
class Year:
    """What was built: the world, its nights, and the settings of the job."""

    world: World
    dates: Sequence[dt.date]
    settings: Settings
    page_size: int


def instant(date: dt.date) -> dt.datetime:
    """Return when the studios were listed on a date."""
    return dt.datetime.combine(date, HOUR, dt.UTC)


def build(directory: Path, world: World, dates: Sequence[dt.date], page_size: int = 100) -> Year:
    """Export every night; marts are made with the last one."""
    directory.mkdir(parents=True, exist_ok=True)
    prices = [f"{kind},{PRICE_PER_HOUR},USD" for kind in ("g5.xlarge", "g4dn.xlarge")]
    (directory / "prices.csv").write_text("\n".join(["ec2_instance_type,price_per_hour,currency", *prices]))
    config = directory / "config.yaml"
    with EmbeddedStudio(world, StudioSettings(page_size=page_size, instant=instant(dates[0]))) as studio:
        key, secret = studio.credentials
        os.environ.update(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
        began = time.monotonic()
        for number, date in enumerate(dates, start=1):
            is_last = number == len(dates)
            config.write_text(
                CONFIG.format(url=studio.endpoint_url, account_id=world.account_id, marts=str(is_last).lower())
            )
            settings = load_settings(config)
            studio.set_instant(instant(date))
            for outcome in run(settings, Request(date), Stop()):
                assert outcome.exit_code == 0, outcome
            if is_last or number % 50 == 0:
                print(f"{number} nights in {time.monotonic() - began:.0f} s", flush=True)
    return Year(world, dates, settings, page_size)
