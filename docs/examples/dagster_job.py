"""A night of nimble-etl as a job of Dagster. Exit codes 3 and 4 are tried again; 1, 2 and 5 are not."""

import subprocess

from dagster import Definitions, Failure, RetryRequested, ScheduleDefinition, job, op


@op
def run() -> None:
    """Export every page, publish the snapshot and rebuild the catalog."""
    command = ["/srv/nimble-etl/.venv/bin/nimble-etl", "run"]
    ended = subprocess.run(command, cwd="/srv/nimble-etl", check=False)
    if ended.returncode in {1, 2, 5}:
        raise Failure(f"nimble-etl ended with {ended.returncode}: its log says what to do", allow_retries=False)
    if ended.returncode:
        raise RetryRequested(max_retries=3, seconds_to_wait=3600)


@job
def nimble_etl() -> None:
    """A night."""
    run()


definitions = Definitions(
    schedules=[ScheduleDefinition(job=nimble_etl, cron_schedule="15 2 * * *", execution_timezone="UTC")]
)
