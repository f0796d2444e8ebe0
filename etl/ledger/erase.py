"""Takes slices and records out of a ledger, so that its file does not hold them any more.

Each function is one synced transaction. SQLite overwrites with zeros what it deletes (`secure_delete`), and `scrub`
removes what its write-ahead log still has.
"""

import hashlib
import json
from collections.abc import Iterable

from etl.ledger import rows
from etl.ledger.ledger import Ledger
from etl.model import Page, Slice


def remove_slices(ledger: Ledger, slice_ids: Iterable[str]) -> None:
    """Remove slices with their pages. A publication that named other slices too still names these.

    Raises:
        StorageError: the disk refused; nothing has changed.
    """
    gone = set(slice_ids)
    with ledger.database.transaction() as connection:
        for row in connection.execute("select number, slices from publication").fetchall():
            left = [slice_id for slice_id in json.loads(row["slices"]) if slice_id not in gone]
            connection.execute(
                "update publication set slices = ?, is_whole = iif(?, is_whole, 1) where number = ?",
                (json.dumps(left), bool(left), row["number"]),
            )
        for slice_id in sorted(gone):
            connection.execute("delete from page where slice_id = ?", (slice_id,))
            connection.execute("delete from slice where slice_id = ?", (slice_id,))


def replace_pages(ledger: Ledger, slice_: Slice, pages: Iterable[Page]) -> None:
    """Replace the bodies of some pages of a slice, and what is known about the bodies.

    Raises:
        StorageError: the disk refused; nothing has changed.
    """
    with ledger.database.transaction() as connection:
        connection.executemany(
            "update page set size_bytes = ?, body_sha256 = ?, records = ?, first = ?, stop = ?, body = ?"
            " where slice_id = ? and number = ?"
            " and attempt = (select attempt from slice where slice.slice_id = page.slice_id)",
            [
                (len(page.body), hashlib.sha256(page.body).hexdigest(), page.records, page.first, page.stop,
                 rows.zstd().compress(page.body, asbytes=True), slice_.slice_id, page.number)
                for page in pages
            ],
        )  # fmt: skip


def scrub(ledger: Ledger) -> None:
    """Empty the write-ahead log of the ledger into its file.

    Raises:
        StorageError: the disk refused.
    """
    ledger.database.rows("pragma wal_checkpoint(truncate)")
