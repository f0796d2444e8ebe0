"""Publish what a killed process has walked, or marked as published, without publishing it whole."""

import logging
from collections.abc import Collection, Iterable
from pathlib import Path

from etl.errors import EtlError, LedgerError, StorageError, WarehouseError, unforeseen
from etl.ledger.ledger import Ledger
from etl.load.delta.atomic import Note, all_or_nothing
from etl.load.delta.tables import Tables
from etl.outcome import Outcome
from etl.pipeline.publish import UNPUBLISHABLE, publish_facts, publish_ready
from etl.transform.schema import layout_of

log = logging.getLogger(__name__)


def settle(ledgers: Iterable[Path], tables: Tables, secret: bytes | None) -> list[EtlError]:
    """Finish the publications that a killed process had begun, and return why some of them cannot be finished.

    Nothing is requested. A ledger that cannot be read is left to the run that needs it. `secret` is the key of the
    hashes that privacy asks for. The caller holds the lock of the warehouse.

    Raises:
        StorageError: the disk refused.
    """
    failures: list[EtlError] = []
    for path in ledgers:
        try:
            with Ledger.open(path) as ledger:
                failures += _settle(ledger, tables, secret)
        except LedgerError as exc:
            log.warning("%s", exc)
        except UNPUBLISHABLE as exc:
            log.error("%s: its publication cannot be finished: %s", path.name, exc)  # noqa: TRY400  the operator's
            failures.append(exc)
        except EtlError:
            raise
        except Exception as exc:  # noqa: BLE001  it costs this ledger
            failures.append(unforeseen(path.name, exc))
    return failures


def finish(left: Note, ledgers: Iterable[Path], tables: Tables, secret: bytes | None) -> bool:
    """Finish what a dead job has half committed, if its ledger is here and proves to be as it was; tell whether it was.

    The caller holds the lock of the warehouse, and puts the tables back if this returns False.

    Raises:
        StorageError: the disk refused.
    """
    path = next((path for path in ledgers if path.stem == left.run_id), None)
    if path is None:
        return False
    try:
        with Ledger.open(path) as ledger:
            digests = {facts.slice.slice_id: facts.pages_sha256 for facts in ledger.slices()}
            is_planned = left.slices.keys() <= {name for ids in ledger.open_publications().values() for name in ids}
            return is_planned and left.slices.items() <= digests.items() and not _settle(ledger, tables, secret, left)
    except StorageError:
        raise
    except EtlError as exc:
        log.error("%s: its publication cannot be finished: %s", path.name, exc)  # noqa: TRY400  the operator's
        return False


def _settle(ledger: Ledger, tables: Tables, secret: bytes | None, begun: Note | None = None) -> list[EtlError]:
    left = ledger.open_publications()
    if not left:
        return []
    if not begun and _counts_already(ledger, tables, {name for ids in left.values() for name in ids}):
        ledger.confirm()
        return []
    log.info("run %s ended while it published; its publication is finished now", ledger.run().run_id)
    failures = []
    with all_or_nothing(tables, begun) as change:
        for name, slice_ids in left.items():
            ready = [facts for facts in ledger.slices(name) if facts.slice.slice_id in slice_ids]
            layout = layout_of(*ledger.datasets()[name], secret)
            failure = publish_ready(ledger, tables, layout, change, ready)
            if failure and begun:
                raise failure  # only this puts back what the dead job has committed
            failures.append(failure)
        publish_facts(tables, [(ledger, Outcome(ledger.run(), tuple(ledger.slices()), 0))])
    ledger.confirm()
    return [failure for failure in failures if failure]


def _counts_already(ledger: Ledger, tables: Tables, slice_ids: Collection[str]) -> bool:
    """Tell whether a publication without a note is whole: its job died before the ledger could confirm it.

    Written once more, it would get a new number, and replace what another machine has published since.
    """
    run = ledger.run()
    try:
        rows = tables.rows("etl_slices", run.snapshot_date, ["slice_id", "run_id", "publication", "pages_sha256"])
    except WarehouseError:
        return False
    numbered = [row for row in rows if row["run_id"] == run.run_id and row.get("publication")]
    there = {(row["slice_id"], row["publication"], row["pages_sha256"]) for row in numbered}
    marked = {(facts.slice.slice_id, facts.publication, facts.pages_sha256) for facts in ledger.slices()}
    return ledger.is_marked() and {one for one in marked if one[0] in slice_ids} <= there
