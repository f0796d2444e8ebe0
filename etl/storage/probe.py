"""Whether an object store keeps the promises that commits need, tried before the first request to the source."""

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from etl.errors import DeniedError, StorageError
from etl.storage.store import ConditionError

if TYPE_CHECKING:
    from etl.storage.objects import ObjectStore


def check_promises(store: "ObjectStore", setting: str) -> None:
    """Refuse a store that cannot be written, or that ignores conditions: two writers would destroy each other's.

    `setting` is its name in the configuration.

    Raises:
        DeniedError: it cannot be written, or it ignores conditions.
        StorageError: it does not work now.
    """
    probe = store.at(".probe", uuid.uuid4().hex)
    try:
        first = store.put_new(probe, b"1")
        if _lands(lambda: store.put_new(probe, b"2")):
            raise _unfit(store, "ignores If-None-Match", setting)
        store.replace(probe, b"3", first)
        if _lands(lambda: store.replace(probe, b"4", first)):
            raise _unfit(store, "ignores If-Match", setting)
        if store.read(probe) != b"3":
            raise _unfit(store, "answers that a condition does not hold, and writes all the same", setting)
    except FileNotFoundError as exc:
        raise DeniedError(f"{store.uri}: {exc.strerror}; make the bucket, or correct {setting}") from exc
    except PermissionError as exc:
        needed = "grant s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on it"
        raise DeniedError(f"{store.uri}: {exc.strerror}; {needed}, then run again") from exc
    except OSError as exc:
        raise StorageError.at(store.uri, exc) from exc
    finally:
        store.discard([probe])


def _lands(put: Callable[[], object]) -> bool:
    try:
        put()
    except ConditionError:
        return False
    return True


def _unfit(store: "ObjectStore", what: str, setting: str) -> DeniedError:
    return DeniedError(
        f"{store.uri}: this store {what}, so two jobs could overwrite each other's commits; use AWS S3 or another "
        f"store that honours conditional writes, or a directory as {setting}"
    )
