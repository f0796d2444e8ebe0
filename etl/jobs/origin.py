"""Where the pages of a job come from: AWS, another server, or the embedded studio, which is started for the job."""

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from etl.config import EMBEDDED, Emulator, SourceSettings
from etl.extract.clients import Endpoint
from etl.extract.source import Source

_NIGHT = dt.time(0, 0)
"""Time of day (UTC) at which the world of the embedded studio stands still."""


@contextmanager
def source_of(
    settings: SourceSettings, emulator: Emulator, snapshot_date: dt.date, stop: threading.Event
) -> Iterator[Source]:
    """Yield where pages come from. The embedded studio is started for this, and stopped afterwards.

    Raises:
        ConfigError: the AWS configuration is invalid.
    """
    if settings.endpoint_url != EMBEDDED:
        yield Source(settings, Endpoint(settings.endpoint_url), stop)
        return
    from etl.emulator import EmbeddedStudio, Organization, StudioSettings, World  # noqa: PLC0415  AWS needs no server

    # The instant depends on the date only, so that every run for a date lists the same.
    instant = dt.datetime.combine(snapshot_date, _NIGHT, dt.UTC)
    world = World(emulator.seed, emulator.studios, emulator.sessions_per_studio, region=settings.region)
    answers = StudioSettings(
        page_size=emulator.page_size,
        latency_s=emulator.latency_ms / 1000,
        instant=instant,
    )
    organization = None
    if settings.has_places:
        named = [account.id for account in settings.accounts if account.id != world.account_id]
        organization = Organization(tuple(named)) if named else Organization.of(emulator.accounts)
    with EmbeddedStudio(world, answers, organization=organization) as studio:
        # Otherwise idle times would go up to the present, and every running session of the world would seem idle.
        clock_ahead = instant - dt.datetime.now(dt.UTC)
        yield Source(settings, Endpoint(studio.endpoint_url, studio.credentials, clock_ahead), stop)
