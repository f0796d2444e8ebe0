"""nimble-etl without checkpoints, to know what they cost: pages stay in memory until the last one.

python -m benchmarks.without_ledger run --config FILE
"""

from collections.abc import Iterator

from etl.cli import main
from etl.ledger.ledger import Ledger
from etl.model import Page, Slice, SliceState

_pages: dict[str, list[Page]] = {}


def _keep(ledger: Ledger, part: Slice, page: Page) -> None:
    """Stand in for `Ledger.store_page`: no compression, no digest, no transaction before the last page."""
    kept = _pages.setdefault(part.slice_id, [])
    kept.append(page)
    if page.next_starting_token is None:
        with ledger.database.transaction() as connection:
            connection.executemany(
                "insert into page (slice_id, attempt, number, size_bytes, body_sha256, records, first, stop,"
                " next_starting_token, request_id, retries, received_at, body)"
                " values (?, 1, ?, ?, '', ?, ?, ?, ?, ?, ?, ?, x'')",
                [
                    (part.slice_id, page.number, len(page.body), page.records, page.first, page.stop,
                     page.next_starting_token, page.request_id, page.retries, page.received_at.isoformat())
                    for page in kept
                ],
            )  # fmt: skip
            connection.execute(
                "update slice set starting_token = null, state = ? where slice_id = ?",
                (SliceState.COMPLETE, part.slice_id),
            )


def _kept(_ledger: Ledger, part: Slice) -> Iterator[Page]:
    """Stand in for `Ledger.pages`."""
    return iter(_pages[part.slice_id])


if __name__ == "__main__":
    Ledger.store_page = _keep  # type: ignore[method-assign]
    Ledger.pages = _kept  # type: ignore[method-assign]
    main()
