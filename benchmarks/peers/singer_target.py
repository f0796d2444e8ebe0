"""Peer 3, second half: a target on the Singer SDK that writes Parquet.

The Parquet target that the package index has asks for pyarrow 0.13 and cannot be installed, so this is the shortest
one that the SDK allows: its BatchSink, and pyarrow.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from singer_sdk import Target
from singer_sdk import typing as th
from singer_sdk.sinks import BatchSink

KINDS = {"integer": pa.int64(), "string": pa.string()}


def arrow(name: str, kind: dict[str, Any]) -> pa.Field:
    """Return the column of one property."""
    if kind.get("format") == "date-time":
        return pa.field(name, pa.timestamp("us", tz="UTC"))
    if kind.get("properties"):
        return pa.field(name, pa.struct([arrow(*inner) for inner in kind["properties"].items()]))
    if kind.get("additionalProperties"):
        return pa.field(name, pa.map_(pa.string(), pa.string()))
    return pa.field(name, KINDS[next(name for name in kind["type"] if name != "null")])


class ParquetSink(BatchSink):
    """One file per stream."""

    max_size = 10_000

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        properties = self.original_schema["properties"]
        self._columns = pa.schema([arrow(*item) for item in properties.items()])
        columns = self._columns.empty_table().flatten().schema
        self._writer = pq.ParquetWriter(Path(self.config["out"]) / f"{self.stream_name}.parquet", columns)

    def process_batch(self, context: dict[str, Any]) -> None:
        """Write a batch of records."""
        records = [
            {**record, "tags": list((record.get("tags") or {}).items()) or None} for record in context["records"]
        ]
        self._writer.write_table(pa.Table.from_pylist(records, self._columns).flatten())

    def clean_up(self) -> None:
        """End the file."""
        self._writer.close()
        super().clean_up()


class ParquetTarget(Target):
    """The target."""

    name = "target-parquet"
    config_jsonschema = th.PropertiesList(th.Property("out", th.StringType)).to_dict()
    default_sink_class = ParquetSink


if __name__ == "__main__":
    ParquetTarget.cli()
