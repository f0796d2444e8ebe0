"""Who has the tasks of a run done: processes of this machine, or Spark.

Either gives a function and a task to a worker. A worker that dies costs its task another attempt.
"""

import logging
import multiprocessing
import os
import pickle
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from etl import interpreter
from etl.errors import ConfigError, EngineError, EtlError, cut, first_line
from etl.pipeline.task import Done, Task
from etl.pipeline.travel import travelling
from etl.pipeline.walks import Stop

log = logging.getLogger(__name__)

_ATTEMPTS = 4
"""Of a task whose workers die. Spark counts as many by default (`spark.task.maxFailures`)."""
_LOOK_S = 0.1
"""How often, while workers are busy, the order to stop is looked for."""

_CONNECT_PORT, _ANSWER_S = 15002, 10
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")

Do = Callable[[Task, Stop], Done]
"""Does a task. It can be pickled."""


def attempt(do: Do, task: Task, stop: Stop) -> Done:
    """Do a task. What an operator must mend is no reason for another attempt, so it is an outcome."""
    try:
        return do(task, stop)
    except EtlError as exc:
        return Done(task, failure=exc)


@dataclass(frozen=True, slots=True)
class Processes:
    """Does tasks in `workers` processes of this machine."""

    do: Do
    workers: int
    stop: Stop

    def map(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Yield what became of each task, in the order in which they end.

        Raises:
            EngineError: workers die.
        """
        left = dict(enumerate(tasks))
        deaths = 0
        while left:
            before = len(left)
            try:
                for number, done in self._ended(left):
                    del left[number]
                    yield done
            except BrokenProcessPool as exc:  # it does not say which worker has died
                deaths = deaths + 1 if len(left) == before else 1
                if deaths == _ATTEMPTS:
                    raise EngineError(
                        f"engine processes: {deaths} times in a row, a worker process died before a task was done. Is "
                        "the memory of this machine enough for engine.workers? Run again: the run goes on"
                    ) from exc
                log.warning("a worker process died; %d tasks are gone on with", len(left))

    def close(self) -> None:
        """Do nothing: processes end with each generation."""

    def _ended(self, tasks: dict[int, Task]) -> Iterator[tuple[int, Done]]:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])  # a worker need not import it all again
        heard, said = context.Pipe(duplex=False)  # an Event would wait for a worker that is dead
        with heard, said, ProcessPoolExecutor(self.workers, context, _heed, (heard,)) as pool:
            futures = {pool.submit(_in_process, self.do, task): number for number, task in tasks.items()}
            left = set(futures)
            try:
                while left:
                    ended, left = wait(left, _LOOK_S, FIRST_COMPLETED)
                    if self.stop.is_set():
                        said.close()
                    for future in sorted(ended, key=lambda one: one.exception() is not None):
                        # A task that was done before a worker died counts.
                        yield futures[future], future.result()
            finally:
                said.close()
                pool.shutdown(cancel_futures=True)


_stop = Stop()
"""In a worker process: set by its parent."""


def _heed(parent_says: Connection) -> None:
    """Let the parent decide when this process stops: when it closes the connection. This process ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both
    interpreter.set_up()

    def listen() -> None:
        with suppress(EOFError):
            parent_says.recv()
        _stop.set()

    def end() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    for waiting in listen, end:
        threading.Thread(target=waiting, daemon=True).start()


def _in_process(do: Do, task: Task) -> Done:
    return attempt(do, task, _stop)


@dataclass(frozen=True, slots=True)
class Spark:
    """Does tasks on a Spark cluster, each in a partition of its own.

    `remote` is the URL of a Spark Connect server, such as Sail; None: the session that `spark-submit` has made, or a
    new one.
    """

    do: Do
    remote: str | None
    stop: Stop

    def map(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Yield what became of each task, once all of them have ended; nothing at the order to stop.

        Raises:
            ConfigError: there is no PySpark here, or a worker has no library that nimble-etl imports.
            EngineError: Spark has given up.
        """
        if not tasks:
            return
        session = self._session()
        with ThreadPoolExecutor(1, thread_name_prefix="spark") as pool:
            rows = pool.submit(self._collect, session, tasks)
            while not rows.done():
                wait([rows], _LOOK_S)
                if self.stop.is_set():
                    _interrupt(session)
            if not self.stop.is_set():
                yield from rows.result()

    def _collect(self, session: Any, tasks: Sequence[Task]) -> list[Done]:
        count = len(tasks)
        function = travelling(partial(_in_partition, self.do, tasks))
        frame = session.range(0, count, 1, count).mapInArrow(function, "done binary")
        try:
            return [pickle.loads(row.done) for row in frame.collect()]  # noqa: S301  our workers have made it
        except EtlError:
            raise
        except Exception as exc:
            if missing := _NO_MODULE.search(str(exc)):
                raise ConfigError(
                    f"engine spark: the Python of a worker has no module {missing[1]}; install what nimble-etl imports "
                    "on every executor: docs/engines.md says how"
                ) from exc
            # Py4J says in its first line that something failed, and in the second what.
            said = " ".join(str(exc).split("\n")[:2])
            raise EngineError(f"engine spark: {cut(said)}; run again: the run goes on") from exc

    def close(self) -> None:
        """End a session of Spark Connect: at its end, PySpark asks the server something, which may be gone by then."""
        module = sys.modules.get("pyspark.sql")
        session = module.SparkSession.getActiveSession() if module else None
        if session and _is_of_connect(session):
            session.stop()

    def _session(self) -> Any:
        try:
            from pyspark.sql import SparkSession  # noqa: PLC0415  of an extra
        except ImportError as exc:
            raise ConfigError(
                "engine.kind is spark, and PySpark is not installed here; install nimble-etl[spark], or begin the job "
                "with spark-submit"
            ) from exc
        builder = SparkSession.builder.appName("nimble-etl")
        _check_answers(self.remote or os.environ.get("SPARK_REMOTE", ""))
        try:
            return (builder.remote(self.remote) if self.remote else builder).getOrCreate()
        except Exception as exc:
            raise EngineError(f"engine spark: no session: {first_line(exc)}") from exc


def _check_answers(remote: str) -> None:
    """Refuse a server of Spark Connect that is not there: PySpark would ask again for ten minutes.

    Raises:
        EngineError: it does not answer.
    """
    url = urlsplit(remote)
    if url.scheme == "sc" and url.hostname:
        try:
            socket.create_connection((url.hostname, url.port or _CONNECT_PORT), _ANSWER_S).close()
        except OSError as exc:
            place = f"sc://{url.hostname}:{url.port or _CONNECT_PORT}"
            raise EngineError(f"engine spark: {place} does not answer: {exc.strerror or exc}; run again later") from exc


def _is_of_connect(session: Any) -> bool:
    return type(session).__module__.startswith("pyspark.sql.connect.")


def _interrupt(session: Any) -> None:
    with suppress(Exception):  # the job may have ended, or never begun
        if _is_of_connect(session):
            session.interruptAll()
        else:
            session.sparkContext.cancelAllJobs()


def _in_partition(do: Do, tasks: Sequence[Task], numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in numbers:
        for number in batch.column(0).to_pylist():
            with interpreter.borrowed():
                done = pickle.dumps(attempt(do, tasks[number], Stop()))
            yield pa.RecordBatch.from_arrays([pa.array([done], pa.binary())], ["done"])
