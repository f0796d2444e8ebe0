"""Steps at which a test may kill the job.

NIMBLE_ETL_FAILPOINT=table.committed:3 kills it, by SIGKILL, when that step is reached for the third time.
"""

import os
import signal
from itertools import count

from etl.events import Event, Listener, Reached

VARIABLE = "NIMBLE_ETL_FAILPOINT"


def kill_point(text: str) -> Listener:
    """Return the listener that kills this process at a step, such as `table.committed:3`."""
    step, _, time = text.partition(":")
    reached = count(1)

    def on_event(event: Event) -> None:
        if isinstance(event, Reached) and event.step == step and next(reached) == int(time or 1):
            os.kill(os.getpid(), signal.SIGKILL)

    return on_event
