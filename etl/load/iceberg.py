"""The tables of the warehouse as Apache Iceberg tables: a second face of what is committed, as the catalog is.

Nothing is copied. The metadata of an Iceberg table names the data files that the newest version of the Delta table
names, with their partition values: the files themselves do not have the column `snapshot_date`. Each registration is
one snapshot, which removes exactly the files that left the table and adds those that came.
"""

import datetime as dt
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise

import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    NoSuchTableError,
    NotInstalledError,
    TableAlreadyExistsError,
    UnauthorizedError,
    ValidationError,
)
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.name_mapping import create_mapping_from_schema
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import BinaryType, StringType
from sqlalchemy.exc import ArgumentError, IntegrityError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from etl.errors import (
    CommitConflictError,
    CommitUnknownError,
    ConfigError,
    DeniedError,
    EtlError,
    StorageError,
    first_line,
    unforeseen,
)
from etl.events import reach
from etl.load.delta.parquet import read_footer
from etl.load.delta.tables import PARTITION, Committed, Tables
from etl.storage.store import Store

log = logging.getLogger(__name__)

SETTING = "iceberg.catalog"
_NAME = "nimble-etl"
"""Of the catalog, if its settings have none."""
_VERSION, _ID, _PLACE = "nimble-etl.delta-version", "nimble-etl.delta-id", "nimble-etl.delta-table"
"""Properties of an Iceberg table: version, id and place of the Delta table that it shows. A snapshot has the first."""
_MAPPING = "schema.name-mapping.default"
_PROPERTIES = {
    "format-version": "2",
    # pyiceberg would add its files on top of what another job has registered meanwhile, and so show rows twice.
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    # The files belong to the Delta table: Spark refuses to purge a table with this, or to remove its orphans.
    "gc.enabled": "false",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}
_METRICS = "write.metadata.metrics"
_TRIES = 5
_BOUNDED = ("account_id", "region", "run_id", "slice_id")
"""Texts whose least and greatest value the metadata name. Those of other texts could be a person's."""
_EPOCH = dt.date(1970, 1, 1)


class Registry:
    """The Iceberg tables of one warehouse: those of one namespace of a catalog.

    Each method raises a ConfigError, a DeniedError or a StorageError if the catalog, or the place of its metadata,
    cannot be reached as it is configured.
    """

    def __init__(self, properties: Mapping[str, str], namespace: str) -> None:
        """Describe the catalog; nothing is asked yet.

        Args:
            properties: of pyiceberg's `load_catalog`, and `name`.
            namespace: its levels are separated by dots.
        """
        self._properties = {"name": _NAME, **properties}
        self._namespace = tuple(namespace.split("."))
        self._loaded: Catalog | None = None

    def check(self) -> None:
        """Connect to the catalog."""
        self._catalog()

    def register(self, tables: Tables) -> None:
        """Let every Iceberg table show the newest version of its table. Do nothing where it does already.

        Facts come last: a slice whose row in `etl_slices` is published is whole in all tables. The caller holds the
        lock of the warehouse, so no table holds half of a publication.

        Raises:
            CommitConflictError: other writers were faster each time.
            CommitUnknownError: the answer of the catalog was lost; the next registration finds out.
            ConfigError: something else has the name of a table, or shows columns that cannot become ours. The other
                tables are registered, except facts.
            WarehouseError: a data file cannot be read.
        """
        self.check()
        failures: list[ConfigError] = []
        for name in sorted(tables.names(), key=lambda name: (name.startswith("etl_"), name)):
            if failures and name.startswith("etl_"):
                break
            try:
                self._register(tables, name)
            except ConfigError as exc:
                failures.append(exc)
        if failures:
            raise ConfigError("\n".join(map(str, failures)))

    def _register(self, tables: Tables, name: str) -> None:
        committed, found = tables.read(name, with_facts=True), tables.open(name)
        if committed is None or found is None:
            return
        delta_id = str(found.metadata().id)
        again = Retrying(
            retry=retry_if_exception_type(CommitConflictError), stop=stop_after_attempt(_TRIES), reraise=True
        )
        for attempt in again:
            with attempt, self._errors(name):
                self._show(committed, delta_id)

    def _show(self, committed: Committed, delta_id: str) -> None:
        """Let the Iceberg table show a version of a table, unless it shows this or a newer one."""
        name, store, schema = self._at(committed.name), committed.store, _documented(committed.schema)
        said = {_VERSION: str(committed.version), _ID: delta_id, _PLACE: store.at(committed.name)}
        table = self._table(committed.name)
        if table is None:
            self._catalog().create_namespace_if_not_exists(self._namespace)
            change: Transaction = self._catalog().create_table_transaction(name, schema, properties=_PROPERTIES)
            with change.update_spec() as spec:
                spec.add_field(PARTITION, IdentityTransform(), PARTITION)
            said[_MAPPING] = create_mapping_from_schema(change.table_metadata.schema()).model_dump_json()
            shown: dict[str, DataFile] = {}
        elif self._is_behind(committed.name, table, said):
            change, shown = table.transaction(), _data_files(table)
            self._add_columns(name, change, schema)
        else:
            return
        files = {_uri(store, file): (date, file) for date, files in committed.files.items() for file in files}
        come, gone = sorted(files.keys() - shown.keys()), sorted(shown.keys() - files.keys())
        describe = _Describer(committed, change.table_metadata)
        added = [describe(uri, *files[uri]) for uri in come]
        if come or gone:
            update = change.update_snapshot({_VERSION: said[_VERSION]})
            with update.overwrite() if gone else update.merge_append() as snapshot:
                for uri in gone:
                    snapshot.delete_data_file(shown[uri])
                for file in added:
                    snapshot.append_data_file(file)
        change.set_properties(said)
        change.commit_transaction()
        log.info("%s shows version %s: files added %s, removed %s", _dotted(name), said[_VERSION], len(come), len(gone))
        reach("iceberg.registered")

    def _add_columns(self, name: tuple[str, ...], change: Transaction, schema: pa.Schema) -> None:
        """Add the columns that a table does not have yet.

        Raises:
            ConfigError: a column has another type.
        """
        try:
            with change.update_schema() as columns:
                columns.union_by_name(schema)
        except ValidationError as exc:
            raise ConfigError(
                f"{SETTING}: the table {_dotted(name)} has a column of another type: {first_line(exc)}; drop it from "
                "the catalog without its files, and the next job registers it anew"
            ) from exc

    def _is_behind(self, name: str, table: Table, said: Mapping[str, str]) -> bool:
        """Tell whether an Iceberg table must be changed to show a version of our table.

        The same Delta table may have moved, and another may have taken its place; both are ours. A table that shows a
        newer version stays: another job was faster.

        Raises:
            ConfigError: it shows another table.
        """
        found, snapshot = table.properties, table.current_snapshot()
        if found.get(_ID) != said[_ID] and found.get(_PLACE) != said[_PLACE]:
            shows = f"shows {found[_PLACE]}" if _PLACE in found else "is not of nimble-etl"
            raise ConfigError(
                f"{SETTING}: the table {_dotted(self._at(name))} {shows}; expected one that shows {said[_PLACE]}. "
                "Choose another iceberg.namespace, or drop that table from the catalog without its files"
            )
        is_ours = snapshot is None or (snapshot.summary is not None and snapshot.summary.get(_VERSION) is not None)
        if found.get(_ID) != said[_ID] or not is_ours:
            return True
        ahead = int(found[_VERSION]) - int(said[_VERSION])
        return ahead < 0 or (ahead == 0 and found[_PLACE] != said[_PLACE])

    def expire(self, tables: Tables, grace: dt.timedelta) -> None:
        """Drop snapshots that have not been the newest for longer than `grace`, and the metadata that only they name.

        Those that somebody has tagged stay. Metadata are removed first: whoever is killed before the snapshots are
        dropped finds them again.

        Raises:
            CommitConflictError, CommitUnknownError: as `register`.
        """
        limit = (dt.datetime.now(dt.UTC) - grace).timestamp() * 1000
        for name in tables.names():
            with self._errors(name):
                table = self._table(name)
                if not table:
                    continue
                snapshots = sorted(table.snapshots(), key=lambda one: one.sequence_number or 0)
                tagged = {one.snapshot_id for one in table.refs().values()}
                passed = (one for one, following in pairwise(snapshots) if following.timestamp_ms <= limit)
                old = [one for one in passed if one.snapshot_id not in tagged]
                if not old:
                    continue
                kept = {file for one in snapshots if one not in old for file in _metadata_files(table, one)}
                for snapshot in old:
                    for file in _metadata_files(table, snapshot):
                        if file not in kept:
                            with suppress(FileNotFoundError):
                                table.io.delete(file)
                table.maintenance.expire_snapshots().by_ids([one.snapshot_id for one in old]).commit()

    def _at(self, name: str) -> tuple[str, ...]:
        return (*self._namespace, name)

    def _table(self, name: str) -> Table | None:
        try:
            return self._catalog().load_table(self._at(name))
        except NoSuchTableError:
            return None

    def _catalog(self) -> Catalog:
        if self._loaded is None:
            with self._errors():
                self._loaded = load_catalog(**self._properties)
        return self._loaded

    @contextmanager
    def _errors(self, table: str | None = None) -> Iterator[None]:
        """Make what pyiceberg and the libraries below it raise one of our errors."""
        place = f"{SETTING}, {'table ' + _dotted(self._at(table)) if table else self._properties['name']}"
        try:
            yield
        except EtlError:
            raise
        except (CommitFailedException, TableAlreadyExistsError, IntegrityError) as exc:
            raise CommitConflictError(f"{place}: another writer was first: {first_line(exc)}; run again") from exc
        except CommitStateUnknownException as exc:
            raise CommitUnknownError(f"{place}: {first_line(exc)}; the next job finds out what has landed") from exc
        except (ForbiddenError, UnauthorizedError, PermissionError) as exc:
            raise DeniedError(f"{place}: {first_line(exc)}; this job needs the right to change it") from exc
        except (NotInstalledError, ImportError) as exc:
            raise ConfigError(f"{place}: {first_line(exc)}; install what a catalog of this type needs") from exc
        except (ValueError, ArgumentError) as exc:
            raise ConfigError(f"{place}: {first_line(exc)}; expected properties as pyiceberg documents them") from exc
        except Exception as exc:  # of SQLAlchemy, requests, botocore, Arrow: they have no class in common
            if type(exc).__module__ == "builtins" and not isinstance(exc, OSError):
                raise unforeseen(place, exc) from exc
            then = "what is published stays, and the next job registers it"
            raise StorageError(f"{place}: {type(exc).__name__}: {first_line(exc)}; {then}") from exc


class _Describer:
    """Makes the entries of data files in the metadata of an Iceberg table."""

    def __init__(self, committed: Committed, metadata: TableMetadata) -> None:
        schema = metadata.schema()
        texts = {column.name for column in schema.fields if isinstance(column.field_type, StringType | BinaryType)}
        counted = {f"{_METRICS}.column.{name}": "counts" for name in texts.difference(_BOUNDED)}
        self._committed = committed
        self._spec_id = metadata.default_spec_id
        self._plan = compute_statistics_plan(schema, {f"{_METRICS}.default": "full", **counted})
        self._ids = parquet_path_to_id_mapping(schema)

    def __call__(self, uri: str, date: dt.date, file: str) -> DataFile:
        """Return the entry of a data file: its partition, its rows, and nulls, least and greatest value of columns.

        Raises:
            WarehouseError: the file is missing or damaged.
        """
        footer = read_footer(self._committed.store, file)
        statistics = data_file_statistics_from_parquet_metadata(footer, self._plan, self._ids)
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=uri,
            file_format=FileFormat.PARQUET,
            partition=Record((date - _EPOCH).days),
            file_size_in_bytes=self._committed.facts[file].size,
            sort_order_id=None,
            spec_id=self._spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )


def _data_files(table: Table) -> dict[str, DataFile]:
    """Return the data files of the newest snapshot of a table, by URI."""
    snapshot = table.current_snapshot()
    entries = (
        entry
        for manifest in (snapshot.manifests(table.io) if snapshot else ())
        for entry in manifest.fetch_manifest_entry(table.io)
    )
    return {entry.data_file.file_path: entry.data_file for entry in entries}


def _metadata_files(table: Table, snapshot: Snapshot) -> list[str]:
    """Return the manifests of a snapshot, then the list of them; nothing if the list is gone, for it goes last."""
    try:
        return [*(manifest.manifest_path for manifest in snapshot.manifests(table.io)), snapshot.manifest_list]
    except FileNotFoundError:
        return []


def _documented(schema: pa.Schema) -> pa.Schema:
    """Return a schema whose descriptions of columns stand where pyiceberg looks for them."""
    told = {field.name: (field.metadata or {}).get(b"description") for field in schema}
    return pa.schema([pa.field(f.name, f.type, metadata=told[f.name] and {"doc": told[f.name]}) for f in schema])


def _uri(store: Store, file: str) -> str:
    """Return the URI of a data file, as the specification of Iceberg asks for it."""
    return f"file://{file}" if store.local else file


def _dotted(name: tuple[str, ...]) -> str:
    return ".".join(name)
