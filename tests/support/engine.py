"""The program that is an engine: it answers questions from its standard input, one line of JSON each."""

import contextlib
import io
import json
import os
import signal
import sys
import traceback
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from etl.events import PageStored, listening
from etl.spark import AwsList, _Reader

KILLED = "killed"
"""A file in the directory of the engine: one worker finds it, removes it, and dies in the middle of a slice."""


class DyingReader(_Reader):
    def read(self, partition):
        with listening(_die_once):
            yield from super().read(partition)


class Dying(AwsList):
    """The same, with workers that the system kills: for want of memory, say."""

    @classmethod
    def name(cls):
        return "dying"

    def reader(self, schema):
        return DyingReader(super().reader(schema)._reading)


def _die_once(event):
    if isinstance(event, PageStored) and event.page.number == 3:
        with contextlib.suppress(FileNotFoundError):
            Path(KILLED).unlink()  # only one worker can
            os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def spark_session():
    """Two threads, and four attempts at each task, as a cluster has them."""
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": "512m",
        "spark.sql.shuffle.partitions": "2",
    }
    builder = SparkSession.builder.master("local[2,4]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    yield builder.getOrCreate()


@contextlib.contextmanager
def sail_session():
    from pysail.spark import SparkConnectServer  # noqa: PLC0415  only Sail has it

    server = SparkConnectServer(ip="127.0.0.1", port=0)
    server.start(background=True)
    yield SparkSession.builder.remote(f"sc://127.0.0.1:{server.listening_address[1]}").getOrCreate()
    server.stop()


def answer(spark, asked):
    if "code" in asked:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(asked["code"], {"spark": spark})
        return {"printed": printed.getvalue()}
    listed = spark.read.format(asked["source"]).options(**asked["options"]).load()
    if "query" not in asked:
        with contextlib.redirect_stdout(io.StringIO()) as plan:
            listed.explain(extended=True)
        return {"plan": plan.getvalue()}
    listed.createOrReplaceTempView("listed")
    table = spark.sql(asked["query"]).toArrow()
    with pa.OSFile(asked["to"], "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return {}


def main():
    session = {"spark": spark_session, "sail": sail_session}[sys.argv[1]]
    with session() as spark:
        spark.conf.set("spark.sql.session.timeZone", "America/New_York")
        for source in (AwsList, Dying):
            spark.dataSource.register(source)
        for line in sys.stdin:
            try:
                answered = answer(spark, json.loads(line))
            except Exception as exc:  # noqa: BLE001  the test looks at it
                answered = {"error": f"{type(exc).__name__}: {exc}"}
            print("answer", json.dumps(answered), flush=True)
        spark.stop()


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001  it ends here
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # threads of the engine would keep it
