"""Where pages come from: the job's clock agrees with that of the embedded studio."""

import datetime as dt

import pytest

from etl.jobs.origin import source_of
from etl.jobs.warehouse import store_of
from etl.pipeline.walks import Stop
from etl.read.query import ask

CONFIG = "source: {endpoint_url: embedded}\nemulator: {studios: 2, sessions_per_studio: 300}\n"


@pytest.mark.parametrize("days_ago", [0, 2])
def test_pages_are_received_when_the_world_shows_them_and_sessions_are_idle_since_their_last_update(job, days_ago):
    """A clock that is 20 hours ahead of the world makes every running session of a demonstration look idle."""
    job.config.write_text(CONFIG)
    date = dt.datetime.now(dt.UTC).date() - dt.timedelta(days_ago)
    job.run(date)

    statement = f"""
        select min(idle_seconds) >= 0 as is_past, min(idle_seconds) < 3600 * 8 as is_recent,
            (select bool_and(received_at between '{date} 00:00:00Z' and '{date} 00:05:00Z') from etl_pages) as is_night
        from idle_times
    """
    assert ask(store_of(job.settings()), statement).to_pylist() == [
        {"is_past": True, "is_recent": True, "is_night": True}
    ]


def test_a_run_against_the_embedded_studio_is_resumed_although_its_pages_are_old(job):
    """The age of a checkpoint is that of the run where the studio's clock is behind."""
    job.config.write_text(f"{CONFIG}run: {{max_items: 100, max_checkpoint_age: 10m}}\n")
    date = dt.datetime.now(dt.UTC).date() - dt.timedelta(2)
    (first,) = job.run(date)
    assert first.exit_code == 3
    job.config.write_text(f"{CONFIG}run: {{max_checkpoint_age: 10m}}\n")
    (second,) = job.run(date)
    assert second.exit_code == 0
    assert second.run.run_id == first.run.run_id


def test_the_clock_of_other_endpoints_is_ours(job):
    settings = job.settings()
    with source_of(settings.source, settings.emulator, dt.date(2026, 11, 20), Stop()) as source:
        assert source.endpoint.url.startswith("http")
        assert source.endpoint.clock_ahead == dt.timedelta(0)
