"""Which sources fill a warehouse. The log of etl_runs says it, so that no other source gets in by mistake."""

import json
from dataclasses import dataclass

from deltalake.exceptions import DeltaError

from etl.errors import ConfigError, WarehouseError
from etl.load.delta.log import NO_HOOKS, said, sync_log
from etl.load.delta.tables import Tables

_TABLE = "etl_runs"
_PROPERTY = "nimble-etl.sources"


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
        raise WarehouseError(f"{tables.path / _TABLE}: its property {_PROPERTY} is damaged: {exc}") from exc


def check_filler(tables: Tables, filler: Filler) -> None:
    """Refuse what has not filled this warehouse before, if something else has: demo data never mix with real ones.

    Raises:
        ConfigError: names both, and the flag that lets the new one in.
    """
    known = fillers(tables)
    origins = {one.origin for one in known if one.origin}
    is_other = filler.account_id not in {one.account_id for one in known} or (
        filler.origin is not None and bool(origins) and filler.origin not in origins
    )
    if known and is_other:
        there = ", ".join(sorted(map(str, known)))
        raise ConfigError(
            f"{tables.path}: is filled with {there}; found {filler}. Export it to another warehouse.path, or, if both "
            "belong together, run once with --accept-source"
        )


def note_filler(tables: Tables, filler: Filler) -> None:
    """Write down what has filled a warehouse. The caller holds its lock, and has written facts about runs.

    Raises:
        WarehouseError: the log of etl_runs refuses it.
        StorageError: the disk refused.
    """
    known = fillers(tables)
    if filler in known:
        return
    table = tables.take(_TABLE)
    assert table is not None
    before = table.version()
    listed = sorted(([one.origin, one.account_id] for one in known | {filler}), key=str)
    try:
        table.alter.set_table_properties(
            {_PROPERTY: json.dumps(listed)}, raise_if_not_exists=False, post_commithook_properties=NO_HOOKS
        )
    except (DeltaError, OSError) as exc:
        raise WarehouseError(f"{tables.path / _TABLE}: {said(exc)}; run again") from exc
    sync_log(tables.path / _TABLE, since=before)
    tables.give_back(_TABLE, table)
