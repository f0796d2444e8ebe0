"""Nights of the embedded studio, exported one after the other as a cron job would."""

import csv
import datetime as dt
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from etl.config import Settings
from etl.configfile import load_settings
from etl.emulator import EmbeddedStudio, Organization, StudioSettings, World
from etl.jobs.night import Request, run
from etl.pipeline.walks import Stop

HOUR = dt.time(2)
ELSEWHERE = "eu-central-1"
"""The second Region. Its prices are others, in another currency."""
CONFIG = """
source: {{endpoint_url: {url}, account_id: '{account_id}', regions: [{regions}]}}
datasets: [studios, streaming_sessions]
publish: {{max_fall: 1}}
run: {{keep_ledgers: 100000d}}
marts: {{build: {marts}, prices: prices.csv}}
"""


class Priced(NamedTuple):
    """A row of the price table. Empty texts: no instance type, every Region. No date: always."""

    item: str
    kind: str
    region: str
    since: dt.date | None
    price: str
    currency: str


@dataclass(frozen=True)
class Year:
    """What was built: the world of each Region, the nights, the prices, and the settings of the job."""

    worlds: Sequence[World]
    dates: Sequence[dt.date]
    prices: Sequence[Priced]
    settings: Settings
    page_size: int


def instant(date: dt.date) -> dt.datetime:
    """Return when the studios were listed on a date."""
    return dt.datetime.combine(date, HOUR, dt.UTC)


def prices_of(region: str, dates: Sequence[dt.date]) -> list[Priced]:
    """Return prices that change in the middle of the nights. Most instance types have none, nor have some volumes."""
    middle, later = dates[len(dates) // 2], dates[len(dates) * 2 // 3]
    return [
        Priced("instance_hour", "g5.xlarge", "", None, "1.006", "USD"),
        Priced("instance_hour", "g5.xlarge", "", middle, "1.2071", "USD"),
        Priced("instance_hour", "g5.xlarge", ELSEWHERE, None, "1.258", "EUR"),
        Priced("instance_hour", "g4dn.xlarge", region, middle, "0.526", "USD"),
        Priced("instance_hour", "g4dn.xlarge", ELSEWHERE, later, "0.65825", "EUR"),
        Priced("volume_gib_month", "", region, None, "0.08", "USD"),
        Priced("volume_gib_month", "", region, later, "0.0912", "USD"),
        Priced("volume_gib_month", "", ELSEWHERE, middle, "0.0952", "EUR"),
        Priced("volume_iops_month", "", region, None, "0.005", "USD"),
        Priced("volume_iops_month", "", ELSEWHERE, None, "0.006", "EUR"),
        Priced("volume_throughput_month", "", region, middle, "0.04", "USD"),
    ]


def build(directory: Path, world: World, dates: Sequence[dt.date], page_size: int = 100) -> Year:
    """Export every night of the world's Region and of a second one; marts are made with the last night."""
    directory.mkdir(parents=True, exist_ok=True)
    worlds = [world, replace(world, region=ELSEWHERE)]
    prices = prices_of(world.region, dates)
    with (directory / "prices.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("item", "ec2_instance_type", "region", "valid_from", "price", "currency"), *prices]
        )
    config = directory / "config.yaml"
    settings_of_studio = StudioSettings(page_size=page_size, instant=instant(dates[0]))
    organization = Organization(regions=(ELSEWHERE,))
    with EmbeddedStudio(world, settings_of_studio, organization=organization) as studio:
        key, secret = studio.credentials
        os.environ.update(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
        began = time.monotonic()
        for number, date in enumerate(dates, start=1):
            is_last = number == len(dates)
            config.write_text(
                CONFIG.format(
                    url=studio.endpoint_url,
                    account_id=world.account_id,
                    regions=", ".join(one.region for one in worlds),
                    marts=str(is_last).lower(),
                )
            )
            settings = load_settings(config)
            studio.set_instant(instant(date))
            for outcome in run(settings, Request(date), Stop()):
                assert outcome.exit_code == 0, outcome
            if is_last or number % 50 == 0:
                print(f"{number} nights in {time.monotonic() - began:.0f} s", flush=True)
    return Year(worlds, dates, prices, settings, page_size)
