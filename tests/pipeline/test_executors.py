"""Workers have the interpreter that a command has, and one of Spark gets its own back."""

import gc
import pickle
import sys

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
