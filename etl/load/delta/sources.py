"""Which sources fill a warehouse, and with which key values were hashed. The log of etl_runs says it.

So no other source gets in by mistake, and no other key makes every value look changed.
"""

import hmac
import json
from collections.abc import Collection
from dataclasses import dataclass

from deltalake.exceptions import CommitFailedError, DeltaError

from etl.errors import CommitConflictError, CommitUnknownError, ConfigError, WarehouseError
from etl.load.delta.log import NO_HOOKS, said, sync_log
from etl.load.delta.tables import Tables

_TABLE = "etl_runs"
_PROPERTY = "nimble-etl.sources"
_KEY = "nimble-etl.privacy_key"
"""Property with a digest of the key of hashes: it tells whether a key is the same, and nothing else."""
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Filler:
    """What fills a warehouse: an account, as an origin says: an endpoint, AWS, or None for a saved listing."""

    origin: str | None
    account_id: str

    def __str__(self) -> str:
        """Return the words for the operator."""
        return f"account {self.account_id} {f'of {self.origin}' if self.origin else 'in saved listings'}"


def fillers(tables: Tables) -> frozenset[Filler]:
    """Return what has filled a warehouse so far; empty for a new one, or one that a former version has filled."""
    table = tables.open(_TABLE)
    try:
        found = json.loads(table.metadata().configuration.get(_PROPERTY, "[]")) if table else []
        return frozenset(Filler(origin, account_id) for origin, account_id in found)
    except (ValueError, TypeError) as exc:
        raise WarehouseError(f"{tables.store.at(_TABLE)}: its property {_PROPERTY} is damaged: {exc}") from exc


def check_filler(tables: Tables, *given: Filler) -> None:
    """Refuse what has not filled this warehouse before, if something else has: demo data never mix with real ones.

    Of several accounts, one that has filled it is enough: the others are added to it.

    Raises:
        ConfigError: names both, and the flag that lets the new one in.
    """
    known = fillers(tables)
    origins = {one.origin for one in known if one.origin}
    (origin,) = {filler.origin for filler in given}
    is_other = {filler.account_id for filler in given}.isdisjoint(one.account_id for one in known) or (
        origin is not None and bool(origins) and origin not in origins
    )
    if known and is_other:
        filler = given[0]
        there = ", ".join(sorted(map(str, known)))
        raise ConfigError(
            f"{tables.store.uri}: is filled with {there}; found {filler}. Export it to another warehouse.path, or, if "
            "both belong together, run once with --accept-source"
        )


def note_fillers(tables: Tables, given: Collection[Filler]) -> None:
    """Write down what has filled a warehouse. The caller holds its lock, and has written facts about runs.

    Raises:
        WarehouseError: the log of etl_runs refuses it.
        CommitConflictError: other writers were faster each time.
        CommitUnknownError: it may have landed.
        StorageError: the disk refused.
    """
    known = fillers(tables)
    if not known.issuperset(given):
        listed = sorted(([one.origin, one.account_id] for one in known.union(given)), key=str)
        _set(tables, _PROPERTY, json.dumps(listed))


def check_key(tables: Tables, secret: bytes | None) -> None:
    """Refuse another key of hashes than the one that this warehouse was written with: every value would change.

    Raises:
        ConfigError: it is another one; the message says how to go over to it.
    """
    table = tables.open(_TABLE)
    known = table.metadata().configuration.get(_KEY) if table else None
    if secret is not None and known not in {None, _digest(secret)}:
        raise ConfigError(
            "privacy.key is another one than this warehouse was written with, so every hash would change: set "
            "NIMBLE_ETL_PRIVACY__KEY to the former key. Or go over to the new one: `nimble-etl replay --since DATE` "
            "hashes again what ledgers have since that date"
        )


def note_key(tables: Tables, secret: bytes | None) -> None:
    """Write down a digest of the key of hashes, if there is one. Raises as `note_fillers`."""
    table = tables.open(_TABLE)
    if table and secret is not None and table.metadata().configuration.get(_KEY) != _digest(secret):
        _set(tables, _KEY, _digest(secret))


def _digest(secret: bytes) -> str:
    return hmac.digest(secret, _KEY.encode(), "sha256").hex()[:16]


def _set(tables: Tables, name: str, value: str) -> None:
    for _ in range(_TRIES):
        table = tables.take(_TABLE)
        assert table is not None
        if table.metadata().configuration.get(name) != value:
            before = table.version()
            try:
                table.alter.set_table_properties(
                    {name: value}, raise_if_not_exists=False, post_commithook_properties=NO_HOOKS
                )
                sync_log(tables.store, _TABLE, since=before)
            except CommitFailedError:
                continue  # another writer was faster; or the answer was lost, and the next look finds the value
            except OSError as exc:
                raise CommitUnknownError(f"{tables.store.at(_TABLE)}: {said(exc)}; run again") from exc
            except DeltaError as exc:
                raise WarehouseError(f"{tables.store.at(_TABLE)}: {said(exc)}; run again") from exc
        tables.give_back(_TABLE, table)
        return
    raise CommitConflictError(f"{tables.store.at(_TABLE)}: other writers were faster {_TRIES} times; run again")
