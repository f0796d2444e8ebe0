"""Workers have the interpreter that a command has, and one of Spark gets its own back. What is done counts."""

import gc
import os
import pickle
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import pyarrow as pa
from support.programs import run_code

from etl import interpreter
from etl.pipeline.executors import Processes, _in_partition
from etl.pipeline.task import Done, Task
from etl.pipeline.walks import Stop

SETTINGS = """
import gc, sys
from etl.cli.process import prepare
prepare()
print(gc.get_threshold()[0], sys.getrecursionlimit())
"""


def look(task, _stop):
    """Say how a worker is set up, after it made what has pyarrow ask for pandas."""
    pa.array([[1], None])
    return Done(task, node=f"{gc.get_threshold()[0]} {sys.getrecursionlimit()}{' pandas' * ('pandas' in sys.modules)}")


def test_a_worker_process_is_set_up_as_a_command_is_and_loads_no_pandas():
    (done,) = Processes(look, 1, Stop()).map([Task(())])
    assert done.node == run_code(SETTINGS).stdout.strip()


def told(directory, task, _stop):
    """Say that the task has begun, and end it as the test says: both by named pipes. A second attempt just ends."""
    (name,) = task.slices
    try:
        (directory / name).touch(exist_ok=False)
    except FileExistsError:
        return Done(task, node="a second attempt")
    with (directory / f"{name}.begun").open("w") as begun:
        begun.write("yes")
        begun.flush()
        if (directory / f"{name}.ends").read_text() == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
    return Done(task)


def test_a_task_that_was_done_before_a_worker_died_counts(tmp_path, caplog):
    """Both is found out at once, for whoever takes what is done was busy meanwhile."""
    names = [f"task-{number}" for number in range(4)]
    for name in names:
        os.mkfifo(tmp_path / f"{name}.begun")
        os.mkfifo(tmp_path / f"{name}.ends")

    def begun(name):
        pipe = (tmp_path / f"{name}.begun").open()
        assert pipe.read(3) == "yes"
        return pipe

    def end(name, how="done"):
        (tmp_path / f"{name}.ends").write_text(how)

    results = Processes(partial(told, tmp_path), 2, Stop()).map([Task((name,)) for name in names])
    with ThreadPoolExecutor(1) as other, closing(results):
        first = other.submit(next, results)
        with begun("task-0"), begun("task-1"):
            end("task-0")
            assert first.result().task.slices == ("task-0",)
            with begun("task-2"):
                end("task-1")
                with begun("task-3") as worker:  # which has told before that task-1 is done
                    end("task-2", "killed")
                    assert worker.read() == "", "it ends with the other"

        second = next(results)
        assert (second.task.slices, second.node) == (("task-1",), "")
        assert caplog.messages == []
        assert [done.node for done in results] == ["a second attempt"] * 2
        assert len(caplog.messages) == 1


def test_a_worker_of_spark_is_set_up_for_a_task_and_left_as_it_was():
    before = gc.get_threshold(), sys.getrecursionlimit()
    (rows,) = _in_partition(look, [Task(())], [pa.record_batch({"id": [0]})])
    found = pickle.loads(rows.column(0)[0].as_py()).node.removesuffix(" pandas")
    assert found == run_code(SETTINGS).stdout.strip() != f"{before[0][0]} {before[1]}"
    assert (gc.get_threshold(), sys.getrecursionlimit()) == before


def test_tasks_that_borrow_an_interpreter_at_once_leave_it_as_it_was():
    """The first ends before the second does."""
    before = gc.get_threshold(), sys.getrecursionlimit()
    first, second = interpreter.borrowed(), interpreter.borrowed()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (gc.get_threshold(), sys.getrecursionlimit()) != before
    second.__exit__(None, None, None)
    assert (gc.get_threshold(), sys.getrecursionlimit()) == before
