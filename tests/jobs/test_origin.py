"""Where pages come from: the embedded studio's clock agrees with that of the job."""

import datetime as dt

import pytest

from etl.jobs.origin import instant_of
from etl.jobs.warehouse import store_of
from etl.read.query import ask


@pytest.mark.parametrize(
    ("date", "instant"),
    [
        (dt.date(2026, 11, 19), "2026-11-20T00:00:00+00:00"),
        (dt.date(2026, 11, 20), "2026-11-20T13:00:00+00:00"),
        (dt.date(2026, 11, 21), "2026-11-22T00:00:00+00:00"),
    ],
)
def test_the_world_stands_at_the_end_of_a_date_or_today_at_the_last_hour(date, instant):
    now = dt.datetime(2026, 11, 20, 13, 59, 58, 7, dt.UTC)
    assert instant_of(date, now).isoformat() == instant


@pytest.mark.parametrize("days_ago", [0, 1])
def test_sessions_of_the_embedded_studio_are_idle_since_their_last_update_and_no_longer(job, days_ago):
    """A studio that stands 22 hours behind the job makes every running session of a demonstration look idle."""
    job.config.write_text("source: {endpoint_url: embedded}\nemulator: {studios: 2, sessions_per_studio: 300}\n")
    today = dt.datetime.now(dt.UTC).date()
    job.run(today - dt.timedelta(days_ago))

    statement = """
        select min(idle_seconds) >= 0 as is_past, min(idle_seconds) < 3600 * 8 as is_recent
        from idle_times
    """
    assert ask(store_of(job.settings()), statement).to_pylist() == [{"is_past": True, "is_recent": True}]
