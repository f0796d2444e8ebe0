"""The store of the warehouse that the settings name."""

from pathlib import Path

from etl.config import Settings
from etl.errors import ConfigError
from etl.storage.disk import Disk
from etl.storage.store import Store


def store_of(settings: Settings) -> Store:
    """Return where the tables and the catalog are.

    Raises:
        ConfigError: the warehouse is in a bucket, and the extra for that is not installed.
        CredentialsError: the credentials for the bucket cannot be had.
    """
    place, s3 = settings.warehouse.path, settings.warehouse.s3
    if isinstance(place, Path):
        return Disk(place)
    from etl.extract.clients import Clients, Endpoint  # noqa: PLC0415  boto3 takes half a second

    try:
        from etl.storage.bucket import Bucket, Keys  # noqa: PLC0415  of an extra
        from etl.storage.objects import ObjectStore  # noqa: PLC0415  of an extra
    except ImportError as exc:
        raise ConfigError(f"warehouse.path {place}: needs {exc.name}; install nimble-etl[s3]") from exc
    clients = Clients(settings.source, Endpoint(), profile=s3.profile)

    def keys() -> Keys | None:
        found = clients.credentials()
        if found is None:
            raise ConfigError(f"warehouse.path {place}: no AWS credentials found for it; see `warehouse.s3.profile`")
        frozen = found.get_frozen_credentials()
        return frozen.access_key, frozen.secret_key, frozen.token

    bucket = Bucket(
        region=s3.region or settings.source.region,
        endpoint_url=s3.endpoint_url or clients.endpoint_of("s3"),
        path_style=s3.addressing == "path",
        encryption=s3.encryption,
        kms_key_id=s3.kms_key_id,
    )
    return ObjectStore(place, bucket, keys, s3.lease)
