"""Imported by a process that does not start at the command line, and is to die where NIMBLE_ETL_FAILPOINT says."""

import os

from etl import events
from etl.observe.killpoints import VARIABLE, kill_point

if VARIABLE in os.environ:
    events._LISTENERS.append(kill_point(os.environ[VARIABLE]))
