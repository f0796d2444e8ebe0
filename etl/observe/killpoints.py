"""Kills the job at a step, for tests.

NIMBLE_ETL_FAILPOINT=table.committed:3 sends SIGKILL when the job reaches that step for the third time.
NIMBLE_ETL_WORKER_FAILPOINT does so in each process that does tasks for a job, and not in the job.
"""

import os
import signal
from itertools import count

from etl.events import Event, Listener, Reached

VARIABLE = "NIMBLE_ETL_FAILPOINT"
WORKER_VARIABLE = "NIMBLE_ETL_WORKER_FAILPOINT"


def kill_point(text: str) -> Listener:
    """Return a listener that kills this process at a step such as `table.committed:3`; default: the first time."""
    step, _, time = text.partition(":")
    reached = count(1)

    def on_event(event: Event) -> None:
        if isinstance(event, Reached) and event.step == step and next(reached) == int(time or 1):
            os.kill(os.getpid(), signal.SIGKILL)

    return on_event
