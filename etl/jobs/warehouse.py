"""The stores that the settings name: of the warehouse, and of the copies of ledgers."""

from pathlib import Path
from typing import TYPE_CHECKING

from etl.config import Settings
from etl.errors import ConfigError
from etl.storage.disk import Disk
from etl.storage.store import Store

if TYPE_CHECKING:
    from etl.ledger.copies import Copies
    from etl.load.iceberg import Registry


def store_of(settings: Settings) -> Store:
    """Return where the tables and the catalog are.

    Raises:
        ConfigError: the warehouse is in a bucket, and the extra for that is not installed.
        CredentialsError: the credentials for the bucket cannot be had.
    """
    return _store_at(settings, settings.warehouse.path, "warehouse.path")


def pages_of_last_night(settings: Settings) -> dict[str, int]:
    """Return slice id -> number of pages on the newest date; nothing if there is none. Raises as `store_of`."""
    from etl.load.delta.tables import Tables  # noqa: PLC0415  commands that only ask load no Delta tables
    from etl.load.snapshots import last_pages  # noqa: PLC0415  the same

    return last_pages(Tables(store_of(settings)))


def segments_store_of(settings: Settings) -> Store:
    """Return where workers keep what they have walked: the warehouse, or a place of its own. Raises as `store_of`."""
    place = settings.engine.segments_at
    return store_of(settings) if place is None else _store_at(settings, place, "engine.segments_at")


def copies_of(settings: Settings) -> "Copies | None":
    """Return the copies of ledgers; None if none are kept.

    Raises:
        ConfigError: they would be on the same disk as the ledgers; or as `store_of`.
        CredentialsError: as `store_of`.
    """
    place = settings.run.keep_ledgers_at
    if place is None:
        return None
    from etl.ledger.copies import SETTING, Copies  # noqa: PLC0415  commands that only ask load no SQLite

    if isinstance(place, Path) and place.resolve().is_relative_to(settings.state_dir.resolve()):
        raise ConfigError(
            f"{SETTING} {place}: is in state_dir, so the copies would be lost with the ledgers; name a "
            "directory that other machines share, or s3://bucket/prefix"
        )
    return Copies(_store_at(settings, place, SETTING), settings.state_dir)


def registry_of(settings: Settings) -> "Registry | None":
    """Return the Iceberg tables of the warehouse; None if no catalog for them is configured.

    Raises:
        ConfigError: the extra for that is not installed; or the path of the warehouse cannot be part of a URI.
    """
    if not settings.iceberg.catalog:
        return None
    if "#" in str(settings.warehouse.path):
        then = "where URIs of files in Iceberg end; choose another"
        raise ConfigError(f"warehouse.path {settings.warehouse.path}: has '#' in it, {then}")
    try:
        from etl.load.iceberg import Registry  # noqa: PLC0415  of an extra
    except ImportError as exc:
        raise ConfigError(f"iceberg.catalog: needs {exc.name}; install nimble-etl[iceberg]") from exc
    return Registry(settings.iceberg.catalog, settings.iceberg.namespace)


def _store_at(settings: Settings, place: Path | str, setting: str) -> Store:
    """Return a store. `setting` is the name of its place in the configuration."""
    s3 = settings.warehouse.s3
    if isinstance(place, Path):
        return Disk(place, setting)
    from etl.extract.clients import Clients, Endpoint  # noqa: PLC0415  boto3 takes half a second

    try:
        from etl.storage.bucket import Bucket, Keys  # noqa: PLC0415  of an extra
        from etl.storage.objects import ObjectStore  # noqa: PLC0415  of an extra
    except ImportError as exc:
        raise ConfigError(f"{setting} {place}: needs {exc.name}; install nimble-etl[s3]") from exc
    clients = Clients(settings.source, Endpoint(), profile=s3.profile)

    def keys() -> Keys | None:
        found = clients.credentials()
        if found is None:
            raise ConfigError(f"{setting} {place}: no AWS credentials found for it; see `warehouse.s3.profile`")
        frozen = found.get_frozen_credentials()
        return frozen.access_key, frozen.secret_key, frozen.token

    bucket = Bucket(
        region=s3.region or settings.source.region,
        endpoint_url=s3.endpoint_url or clients.endpoint_of("s3"),
        path_style=s3.addressing == "path",
        encryption=s3.encryption,
        kms_key_id=s3.kms_key_id,
    )
    return ObjectStore(place, bucket, keys, s3.lease, setting)
