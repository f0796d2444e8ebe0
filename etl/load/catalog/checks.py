"""Checks of the content of a catalog. A check of sql/checks passes if its query returns no row."""

from collections.abc import Iterable
from dataclasses import astuple
from typing import Any

import duckdb
import pyarrow as pa

from etl.load.catalog.relations import add_table, described, names
from etl.outcome import CheckResult
from etl.sqlfiles import sql_files

_SHOWN = 5

CHECKS = pa.schema(
    [
        described("check_name", pa.string(), "name of the check: its file in sql/checks"),
        described("severity", pa.string(), "error: the run ends with exit code 5; warning: it is only told"),
        described("meaning", pa.string(), "what holds while the check passes"),
        described("failures", pa.int64(), "rows that the check returned; 0: it passed"),
        described("examples", pa.string(), f"the first {_SHOWN} of them as a JSON list; null if there are none"),
    ]
)


def run_checks(connection: duckdb.DuckDBPyConnection, others: Iterable[CheckResult] = ()) -> list[CheckResult]:
    """Run every check whose sources exist, and store the results and `others` in the table `etl_checks`."""
    there = names(connection)
    found = [*others]
    for file in sql_files("checks").values():
        if there.issuperset(file.reads):
            ((failures, examples),) = connection.execute(
                f"select count(*), to_json(list(found) filter (number <= {_SHOWN}))::varchar"  # noqa: S608  our own file
                f" from (select found, row_number() over () as number from ({file.text}\n) as found)"
            ).fetchall()
            severity: Any = file.headers["Severity"].removesuffix(".")
            found.append(CheckResult(file.name, severity, file.headers["Meaning"], failures, examples))
    rows = [dict(zip(CHECKS.names, astuple(check), strict=True)) for check in found]
    add_table(connection, "etl_checks", pa.Table.from_pylist(rows, schema=CHECKS))
    return found
