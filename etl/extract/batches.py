"""A listing that takes a list of values: asked for batch after batch, in one walk.

A starting token then holds the number of the batch, and the service's token within it, in botocore's encoding. The
values and their order must be the same whenever the walk goes on.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from botocore.paginate import TokenDecoder, TokenEncoder

from etl.extract.walk import Fetch
from etl.model import Page

_BATCH, _TOKEN = "nimble_etl_batch", "nimble_etl_token"


class FetchOf(Protocol):
    """Fetches a page of the listing of some values."""

    def __call__(self, values: Sequence[str], number: int, starting_token: str | None, most: int | None, /) -> Page:
        """Return the page, as `Fetch` does."""


def in_batches(fetch: FetchOf, values: Sequence[str], size: int) -> Fetch:
    """Return a `Fetch` that asks for at most `size` of the values at a time, for one batch after the other."""

    def fetch_next(number: int, starting_token: str | None, most: int | None) -> Page:
        held = TokenDecoder().decode(starting_token) if starting_token else {}
        batch = held.get(_BATCH, 0)
        page = fetch(values[batch * size : (batch + 1) * size], number, held.get(_TOKEN), most)
        following = {_BATCH: batch, _TOKEN: page.next_starting_token}
        if page.next_starting_token is None:
            following = {_BATCH: batch + 1}
            if (batch + 1) * size >= len(values):
                return page
        return replace(page, next_starting_token=TokenEncoder().encode(following))

    return fetch_next
