"""Named steps at which a test may kill the job. Without the environment variable they do nothing.

NIMBLE_ETL_FAILPOINT=table.committed:3      die, by SIGKILL, when that step is reached for the third time
"""

import os
import signal
from itertools import count
from typing import Literal, get_args

Step = Literal[
    "ledger.created", "page.received", "page.stored", "slice.walked", "publication.planned", "table.staged",
    "table.synced", "table.committed", "table.durable", "snapshot.read_back", "publication.marked",
    "facts.published", "catalog.built", "catalog.swapped", "run.closed",
]  # fmt: skip
STEPS: tuple[Step, ...] = get_args(Step)

_STEP, _, _TIME = os.environ.get("NIMBLE_ETL_FAILPOINT", "").partition(":")
_reached = count(1)


def reach(step: Step) -> None:
    """Pass a step; or die there without notice, where the environment says so."""
    if step == _STEP and next(_reached) == int(_TIME or 1):
        os.kill(os.getpid(), signal.SIGKILL)
