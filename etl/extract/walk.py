"""The walk: page after page of a slice, from a checkpoint on.

The walk takes the next page only when the caller resumes the generator, after the last page became durable. It may have
been asked for before: a kill then costs one request more, and never a page. No starting token is followed twice.
"""

from collections.abc import Callable, Iterator

from etl.errors import PageTokenError
from etl.model import Checkpoint, Page, Slice

Fetch = Callable[[int, str | None, int | None], Page]
"""(page number, starting token, most records to keep) -> the page."""


def walk(  # noqa: PLR0913  the limits are independent
    slice_: Slice,
    fetch: Fetch,
    checkpoint: Checkpoint,
    *,
    max_items: int | None,
    max_pages: int,
    stopped: Callable[[], bool],
    expect: Callable[[int, str], None] = lambda _number, _token: None,
) -> Iterator[Page]:
    """Yield the pages of a slice from a checkpoint to the end, to `max_items` records, or until `stopped`.

    `expect` is told the number and the starting token of a page before it is fetched, while the last one is stored.
    The end was reached if the `next_starting_token` of the last page is None.

    Raises:
        PageTokenError: a token returns, at once or later (botocore sees only the former), or pages never end.
        EtlError: as `fetch` raises it.
    """
    token, number, seen = checkpoint.starting_token, checkpoint.pages, set(checkpoint.seen)
    if token is not None:
        seen.add(token)  # the operator's own starting token follows no stored page
    while not stopped() and (max_items is None or max_items > 0):
        if number >= max_pages:
            raise PageTokenError(
                f"{slice_}: {number} pages and still a token; expected an end before run.max_pages. "
                "If the slice is really that large, raise the limit and run again"
            )
        page = fetch(number + 1, token, max_items)
        number, token = page.number, page.next_starting_token
        if token is not None and token in seen:
            raise PageTokenError(
                f"{slice_}, page {number}: its next token was followed before; expected a new one. The listing goes "
                "in a circle: run again with --fresh, and tell the service's owner if the error remains"
            )
        if token is not None and max_items is None and number < max_pages and not stopped():
            expect(number + 1, token)
        yield page
        if token is None:
            return
        seen.add(token)
        if max_items is not None:
            max_items -= page.kept
