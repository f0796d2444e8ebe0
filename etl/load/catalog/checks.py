"""Checks of what a catalog shows: a check of sql/checks passes when its query returns no row."""

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


def run_checks(connection: duckdb.DuckDBPyConnection) -> list[CheckResult]:
    """Run every check whose sources are there, and keep what they find in `etl_checks`."""
    there = names(connection)
    found = []
    for file in sql_files("checks").values():
        if there.issuperset(file.reads):
            ((failures, examples),) = connection.execute(
                f"select count(*), to_json(list(found) filter (number <= {_SHOWN}))::varchar"  # noqa: S608  our own file
                f" from (select found, row_number() over () as number from ({file.text}\n) as found)"
            ).fetchall()
            severity: Any = file.headers["Severity"].removesuffix(".")
            found.append(CheckResult(file.name, severity, file.headers["Meaning"], failures, examples))
    rows = [(check.name, check.severity, check.meaning, check.failures, check.examples) for check in found]
    columns = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), CHECKS, strict=True)]
    table = pa.Table.from_arrays(columns, schema=CHECKS) if rows else CHECKS.empty_table()
    add_table(connection, "etl_checks", table)
    return found
