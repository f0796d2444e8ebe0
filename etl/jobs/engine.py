"""The engine that the settings name: who walks the slices of a run, and how each worker gets what it needs."""

import os
import platform
import threading
from collections.abc import Mapping
from functools import cache, partial

from etl.config import Settings
from etl.errors import ConfigError
from etl.events import listening
from etl.extract.clients import Endpoint
from etl.extract.source import Source
from etl.jobs.warehouse import segments_store_of, store_of
from etl.ledger.ledger import Ledger
from etl.ledger.segments import Segments, Size
from etl.load.delta.tables import Tables
from etl.load.snapshots import last_pages
from etl.observe.killpoints import WORKER_VARIABLE, kill_point
from etl.pipeline.executors import Processes, Spark
from etl.pipeline.spread import Delivered, Executor, Spread
from etl.pipeline.task import Done, Task, Work, Worker
from etl.pipeline.walks import Stop, Walks
from etl.version import VERSION

_making = threading.Lock()
_sources: dict[str, Source] = {}
_kill_point = cache(kill_point)


def spread_of(
    settings: Settings, walks: Walks, ledger: Ledger, tables: Tables, delivered: Mapping[str, Delivered]
) -> Spread:
    """Return what has the slices of a run walked by workers.

    Raises:
        ConfigError, CredentialsError, StorageError: the pages of workers cannot be kept where the settings say.
        EtlError: as `Source.account_id`.
    """
    if ledger.run().account_id is None:
        ledger.set_account(walks.source.account_id)  # no worker need ask
    engine = settings.engine
    work = Work(VERSION, ledger.run(), walks.plan, settings.run, Size(engine.segment_pages))
    do = partial(_do, settings, walks.source.endpoint, work)
    executor: Executor = Spark(do, engine.remote, walks.stop)
    if engine.kind == "processes":
        executor = Processes(do, engine.workers or os.cpu_count() or 1, walks.stop)
    segments = _segments_of(settings, work)
    if engine.segments_at:  # the warehouse was looked at when the job began
        segments.store.check_writable()
    return Spread(walks, executor, segments, engine.tasks, last_pages(tables), delivered)


def _segments_of(settings: Settings, work: Work) -> Segments:
    return Segments(segments_store_of(settings), work.run.run_id)


def _do(settings: Settings, endpoint: Endpoint, work: Work, task: Task, stop: Stop) -> Done:
    """Do a task in a worker. Its credentials are those of the machine that it runs on."""
    if work.version != VERSION:
        raise ConfigError(
            f"{platform.node()}: this worker has nimble-etl {VERSION}, and the driver has "
            f"{work.version}; install the same version on both"
        )
    with _making:
        if work.run.run_id not in _sources:
            _sources.clear()
            _sources[work.run.run_id] = Source(settings.source, endpoint, stop)  # tasks share its clients
        source = _sources[work.run.run_id]
    text = os.environ.get(WORKER_VARIABLE)
    with listening(*([_kill_point(text)] if text else [])):
        return Worker(work, source, Tables(store_of(settings)), _segments_of(settings, work), stop).do(task)
