"""The command line with a Spark to do its tasks: python -m support.on_spark KIND ARGUMENTS...

KIND is `sail`, or the master of a Spark, such as `local[2]`.
"""

import os
import sys


def main(kind: str, *arguments: str) -> None:
    if kind == "sail":
        from pysail.spark import SparkConnectServer  # noqa: PLC0415  only Sail has it

        server = SparkConnectServer(ip="127.0.0.1", port=0)
        server.start(background=True)
        os.environ["SPARK_REMOTE"] = f"sc://127.0.0.1:{server.listening_address[1]}"
    else:
        settings = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.driver.memory": "512m",
            "spark.executor.memory": "512m",
            "spark.task.maxFailures": "8",
            "spark.speculation": "true",
        }
        given = " ".join(f"--conf {name}={value}" for name, value in settings.items())
        os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master {kind} {given} pyspark-shell"
    from etl.cli import main as command_line  # noqa: PLC0415  Spark reads the environment when it is imported

    sys.argv = ["nimble-etl", *arguments]
    command_line()  # the end of this process ends Sail


if __name__ == "__main__":
    main(*sys.argv[1:])
