"""Two slices, and what a ledger is given and says of them."""

from support.shapes import page, part

A, B = part("a"), part("b")


def store(ledger, where, tokens):
    """Store a page of two records for each token that follows it."""
    pages = [
        page([{"thingId": f"{n}-0"}, {"thingId": f"{n}-1"}], n, token=token, retries=n)
        for n, token in enumerate(tokens, start=ledger.checkpoint(where).pages + 1)
    ]
    for stored in pages:
        ledger.store_page(where, stored)
    return pages


def facts_of(ledger, where):
    (facts,) = [facts for facts in ledger.slices() if facts.slice.slice_id == where.slice_id]
    return facts
