"""Finish publications that a killed process left half done."""

import logging
from collections.abc import Iterable
from pathlib import Path

from etl.errors import CommitConflictError, CommitUnknownError, EtlError, LedgerError, WarehouseError
from etl.ledger.ledger import Ledger
from etl.load.delta.tables import Tables
from etl.outcome import Outcome
from etl.pipeline.publish import publish_facts, publish_ready
from etl.transform.schema import layout_of

log = logging.getLogger(__name__)

UNPUBLISHABLE = (WarehouseError, CommitConflictError, CommitUnknownError)
"""Errors after which a run can still be published later: its pages are safe in the ledger."""


def settle(ledgers: Iterable[Path], tables: Tables, secret: bytes | None) -> list[EtlError]:
    """Finish publications that a killed process left half done, and return why some of them cannot be finished.

    Otherwise the next catalog shows some tables of that night without the others. Nothing is requested. A ledger that
    cannot be read is left to the run that needs it. `secret` is the key of the hashes that privacy asks for.

    Raises:
        StorageError: the disk refused.
    """
    failures: list[EtlError] = []
    for path in ledgers:
        try:
            with Ledger.open(path) as ledger:
                _settle(ledger, tables, secret)
        except LedgerError as exc:
            log.warning("%s", exc)
        except UNPUBLISHABLE as exc:
            log.error("%s: its publication cannot be finished: %s", path.name, exc)  # noqa: TRY400
            failures.append(exc)
    return failures


def _settle(ledger: Ledger, tables: Tables, secret: bytes | None) -> None:
    for publication in ledger.open_publications():
        run_id = ledger.run().run_id
        log.info("run %s ended while it published %s; its publication is finished now", run_id, publication.dataset)
        slices = ledger.slices(publication.dataset)
        ready = [facts for facts in slices if facts.slice.slice_id in publication.slice_ids]
        publish_ready(ledger, tables, layout_of(*ledger.datasets()[publication.dataset], secret), ready)
    if ledger.owes_facts():
        publish_facts(tables, [(ledger, Outcome(ledger.run(), tuple(ledger.slices()), 0))])
