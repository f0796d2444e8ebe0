"""Where the pages of a job come from: AWS, another server, or the embedded studio, which is started for the job."""

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from etl.config import EMBEDDED, Emulator, SourceSettings
from etl.errors import ConfigError
from etl.extract.clients import Endpoint
from etl.extract.source import Source


def instant_of(snapshot_date: dt.date, now: dt.datetime) -> dt.datetime:
    """Return the instant (UTC) at which the world of the embedded studio stands still.

    It is the instant as of which the warehouse takes the rows of that date: the end of a date that is over, and the
    present one, in whole hours, for today. So idle times are right, and a run that is resumed lists the same.
    """
    if snapshot_date == now.date():
        return now.replace(minute=0, second=0, microsecond=0)
    return dt.datetime.combine(snapshot_date + dt.timedelta(days=1), dt.time(), dt.UTC)


@contextmanager
def source_of(
    settings: SourceSettings,
    emulator: Emulator,
    snapshot_date: dt.date,
    stop: threading.Event,
    now: dt.datetime | None = None,
) -> Iterator[Source]:
    """Yield where pages come from. The embedded studio is started for this, and stopped afterwards.

    Several of them list the same if they are given the same instant as `now`; None is that of the call.

    Raises:
        ConfigError: the AWS configuration is invalid, or the embedded studio is not installed.
    """
    if settings.endpoint_url != EMBEDDED:
        yield Source(settings, Endpoint(settings.endpoint_url), stop)
        return
    try:
        # It is an extra, because an export from AWS needs no web server.
        from etl.emulator import EmbeddedStudio, Organization, StudioSettings, World  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        raise ConfigError(
            "source.endpoint_url is 'embedded', but the embedded studio is not installed; "
            "install nimble-etl[emulator], or set endpoint_url to null for AWS"
        ) from exc
    world = World(emulator.seed, emulator.studios, emulator.sessions_per_studio, region=settings.region)
    answers = StudioSettings(
        page_size=emulator.page_size,
        latency_s=emulator.latency_ms / 1000,
        instant=instant_of(snapshot_date, now or dt.datetime.now(dt.UTC)),
    )
    organization = None
    if settings.has_places:
        named = [account.id for account in settings.accounts if account.id != world.account_id]
        organization = Organization(tuple(named)) if named else Organization.of(emulator.accounts)
    with EmbeddedStudio(world, answers, organization=organization) as studio:
        yield Source(settings, Endpoint(studio.endpoint_url, studio.credentials), stop)
