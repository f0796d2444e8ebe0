"""A data source for Spark 4 and Sail: `spark.read.format("aws_list")` lists a dataset as a night does.

    from etl.spark import AwsList

    spark.dataSource.register(AwsList)
    sessions = spark.read.format("aws_list").options(config="config.yaml", dataset="streaming_sessions").load()

The driver reads the configuration, and walks the parents of the dataset. Each slice is one partition, which a worker
walks to its end before it yields rows. docs/spark.md has all options.

Spark calls `schema` and `reader` in processes of their own on the driver's machine, and pickles the reader before it
asks for the partitions. So a reader holds all that workers need, and no partition depends on the state of another.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from etl import interpreter
from etl.configfile import Overrides, load_settings
from etl.errors import ConfigError, EtlError, did_you_mean
from etl.jobs.reading import Part, Reading

try:
    from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import StructType
except ModuleNotFoundError as exc:
    raise ModuleNotFoundError(
        f"etl.spark needs Spark 4.0 or newer, and there is no {exc.name}: use the Python of such a cluster, or "
        "pip install 'nimble-etl[spark]'",
        name=exc.name,
    ) from exc

_FILTERS = ("created_by", "owned_by", "session_ids")
_MODES = ("FAILFAST", "DROPMALFORMED")
"""What becomes of a record that does not fit, in the words of Spark's own sources of text."""
_OPTIONS = ("config", "dataset", "studio_id", *_FILTERS, "region", "endpoint_url", "mode")


class AwsList(DataSource):  # type: ignore[misc]  # Spark is not installed where types are checked
    """Reads a dataset from its source: the rows that a night writes to the dataset's table, in the same columns."""

    @classmethod
    def name(cls) -> str:
        """Return the name of the format."""
        return "aws_list"

    def schema(self) -> StructType:
        """Return the columns of the dataset's table, with their descriptions as comments."""
        with _in_a_sentence():
            own = _reading(self.options).schema
        schema = from_arrow_schema(_bare(own))
        for field, described in zip(schema.fields, own, strict=True):
            field.metadata = {"comment": described.metadata[b"description"].decode()}
        return schema

    def reader(self, schema: StructType) -> "_Reader":  # noqa: ARG002  Spark compares the rows with it
        """Return what lists the partitions and reads them."""
        with _in_a_sentence():
            return _Reader(_reading(self.options))


class _Partition(InputPartition):  # type: ignore[misc]  # as above
    """One slice."""

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        self.part = part


class _Reader(DataSourceReader):  # type: ignore[misc]  # as above
    """Lists the slices on the driver, and reads each on a worker."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def partitions(self) -> list[InputPartition]:
        """Return one partition for each slice."""
        with _in_a_sentence():
            return [_Partition(part) for part in self._reading.parts()]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a slice. Without slices, Spark asks for a partition that is none of ours."""
        if not isinstance(partition, _Partition):
            return
        with _in_a_sentence(), interpreter.borrowed():
            for batch in self._reading.read(partition.part):
                yield batch.cast(_bare(batch.schema))


def _reading(options: Mapping[str, str]) -> Reading:
    """Return the reading that options ask for.

    Raises:
        ConfigError: an option, or the configuration that it names, has a mistake.
    """
    for name in options:
        if name not in _OPTIONS:
            raise ConfigError(f"option {name}: is none{did_you_mean(name, _OPTIONS)}; expected {', '.join(_OPTIONS)}")
    for name in ("config", "dataset"):
        if not options.get(name):
            raise ConfigError(f"option {name}: is missing; expected .option({name!r}, …)")
    config = Path(options["config"])
    if not config.exists():
        raise ConfigError(
            f"option config: there is no {config.absolute()} on the machine of the driver; expected a file there"
        )
    mode = options.get("mode", _MODES[0]).upper()
    if mode not in _MODES:
        raise ConfigError(f"option mode: found {options['mode']!r}; expected {' or '.join(_MODES)}")
    studio_ids = [name.strip() for name in options.get("studio_id", "").split(",") if name.strip()]
    overrides = Overrides(
        datasets=[options["dataset"]],
        studio_ids=studio_ids,
        filters={name: options.get(name) for name in _FILTERS},
        region=options.get("region"),
        endpoint_url=options.get("endpoint_url"),
        named="option {}".format,
    )
    return Reading.of(load_settings(config, overrides), leaves_out_misfits=mode == _MODES[1])


def _bare(schema: pa.Schema) -> pa.Schema:
    """Return a schema without the descriptions of its columns: Spark compares all of it with its own."""
    return pa.schema([field.remove_metadata() for field in schema])


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    """Raise errors of ours without what led to them: Spark shows the whole traceback to the user."""
    try:
        yield
    except EtlError as exc:
        raise type(exc)(str(exc)) from None
