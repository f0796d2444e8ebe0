"""What the contenders wrote, in one form, so that it can be compared row by row.

A column is found by its name in snake_case, however it was spelled. Keys of tags are compared as letters and digits
in lower case, for dlt makes columns of them.
"""

from collections.abc import Mapping
from pathlib import Path

import duckdb

from etl.load.delta.tables import Tables
from etl.names import snake_case
from etl.storage.disk import Disk

_TEXTS = (
    "studio_id", "session_id", "arn", "created_by", "owned_by", "ec2_instance_type", "streaming_image_id",
    "automatic_termination_mode", "backup_mode", "launch_profile_id", "session_persistence_mode",
    "volume_retention_mode", "state", "status_code", "status_message", "started_by", "updated_by", "stopped_by",
    "started_from_backup_id",
)  # fmt: skip
_INSTANTS = ("created_at", "started_at", "stopped_at", "stop_at", "terminate_at", "updated_at")
_NUMBERS = (
    "max_backups_to_retain", "volume_configuration_iops", "volume_configuration_size",
    "volume_configuration_throughput",
)  # fmt: skip
_TYPES: Mapping[str, str] = {
    **dict.fromkeys(_TEXTS, "varchar"), **dict.fromkeys(_INSTANTS, "timestamptz"), **dict.fromkeys(_NUMBERS, "bigint"),
}  # fmt: skip
_KEY = "lower(regexp_replace({}, '[^A-Za-z0-9]', '', 'g'))"


def session_files(name: str, out: Path) -> list[str]:
    """Return the files in which a contender has the rows of the sessions."""
    if name == "nimble-etl":
        committed = Tables(Disk(out / "warehouse")).read("streaming_sessions")
        assert committed is not None
        return [file for files in committed.files.values() for file in files]
    if name == "dlt":
        return [str(file) for file in (out / "warehouse" / "sessions").glob("*.parquet")]
    return [str(out / "sessions.parquet")]


def count_differences(one: tuple[str, Path], other: tuple[str, Path]) -> int:
    """Return how many rows of two contenders (name, output) have no equal on the other side."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for view, (name, out) in (("one", one), ("other", other)):
            connection.execute(f"create table {view} as {_canonical(connection, name, out)}")
        rows = connection.sql("(from one except all from other) union all (from other except all from one)")
        return len(rows)


def _canonical(connection: duckdb.DuckDBPyConnection, name: str, out: Path) -> str:
    source = f"read_parquet({session_files(name, out)}, union_by_name = true, hive_partitioning = false)"
    names = [column for column, *_ in connection.sql(f"describe from {source}").fetchall()]
    spelled = {snake_case(column).replace(".", "_").replace("__", "_"): column for column in names}
    columns = ", ".join(
        f"{_quoted(spelled[column]) if column in spelled else 'null'}::{kind} as {column}"
        for column, kind in _TYPES.items()
    )
    if name == "script":
        tags = (
            f"from (select sessionId as session_id, list_sort(list(({_KEY.format('key')}, value))) as tags"
            f" from '{out / 'tags.parquet'}' group by all)"
        )
        sessions = f"(select {columns} from {source}) as sessions"
        return f"select sessions.*, tags from {sessions} left join ({tags}) using (session_id)"
    if name == "dlt":
        entries = ", ".join(
            f"({_KEY.format(repr(canonical.removeprefix('tags_')))}, {_quoted(column)})"
            for canonical, column in spelled.items()
            if canonical.startswith("tags_")
        )
        tags = f"list_sort(list_filter([{entries}], lambda entry: entry[2] is not null))"
    else:
        tags = f"list_sort(list_transform(map_entries(tags), lambda entry: ({_KEY.format('entry.key')}, entry.value)))"
    return f"select {columns}, nullif({tags}, []) as tags from {source}"


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
