"""Every operation in the installed botocore that lists something: what can be exported, or the reason why not.

`PYTHONPATH=tests python -m support.paginators` counts them, by what says how they page: a paginator of botocore, the
names in the service model, or that there is nothing to page.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import DataNotFoundError, UnknownServiceError

from etl.errors import ConfigError
from etl.extract.paging import UnsupportedError, derived
from etl.extract.service_model import dataset_paging, model_session
from etl.jobs.propose import Service, proposed_keys
from etl.model import Dataset
from etl.names import snake_case
from etl.transform.schema import Layout, layout_of

REASONS = {
    "what it pages through is no list": r"in its responses is a (map|structure|string); expected a list",
    "its records have no members": r"its records have no members",
    "two members would be one column": r"would have \w+ twice",
    "its model does not say how it pages": r"its model does not say how it pages: it takes .*, and returns .*",
    "its responses have several lists, and `result_key` must choose one": r"`result_key` chooses one$",
}
"""Kind of reason -> what the message says. Any other is a bug."""

SESSION = model_session()


TITLES = {
    "botocore": "paginators of botocore",
    "names": "without a paginator, paged by the names in their service model",
    "one page": "without tokens: lists of one page",
    "nobody": "of which nothing says how they page, or which list is meant",
}
"""What says how an operation pages -> what such operations are called."""


@dataclass(frozen=True)
class Listed:
    """One operation that lists something: with its tables, or with the reason why it has none.

    `given` has the columns of the parameters that every request must have.
    """

    service: str
    operation: str
    origin: str
    result_key: str
    layout: Layout | None
    reason: str = ""
    given: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Return how its pages are read, or what kind of reason it has."""
        if self.layout is not None:
            return "raw" if self.layout.operation.pager is None else "parsed"
        return next((kind for kind, says in REASONS.items() if re.search(says, self.reason)), self.reason)


def services() -> list[str]:
    """Return the services that botocore knows."""
    return SESSION.get_available_services()


def definitions(service: str) -> dict[str, Any]:
    """Return botocore's paginator definitions of a service, by API names; none of ours."""
    try:
        return SESSION.get_paginator_model(service)._paginator_config
    except (UnknownServiceError, DataNotFoundError):
        return {}


def one(value: Any) -> Any:
    """Return a name that a definition has alone or in a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def listed(name: str) -> Iterator[Listed]:
    """Yield the operations of a service that list something; keys are those that would be proposed."""
    for listing in Service(name, SESSION).listings.values():
        key = proposed_keys(listing)[0] if listing.operation else ("none",)
        given = tuple(map(snake_case, listing.operation.required)) if listing.operation else ()
        dataset = Dataset(name="listing", service=name, operation=listing.name, key=key, item="item")
        try:
            paging, _ = dataset_paging(SESSION, dataset)
        except UnsupportedError:
            yield Listed(name, listing.name, "nobody", "", None, listing.reason)
            continue
        says = name, listing.name, paging.origin, paging.result_keys[0]
        if listing.operation is None:
            yield Listed(*says, None, listing.reason)
            continue
        try:
            yield Listed(*says, layout_of(dataset, listing.operation), given=given)
        except ConfigError as exc:
            yield Listed(*says, None, str(exc))


def counted(found: Iterable[Listed]) -> list[tuple[str, int]]:
    """Return what is counted and how many there are, as the documents say it."""
    found = list(found)
    rows = [(f"operations of {len(services())} services in the locked botocore that list something", len(found))]
    for origin, title in TITLES.items():
        counts = Counter(one.kind for one in found if one.origin == origin)
        kinds = [("raw", "exported from raw bodies"), ("parsed", "exported from what botocore parses")]
        rows.append((title, counts.total()))
        rows += [(text, counts.pop(kind)) for kind, text in kinds if kind in counts]
        rows += [(f"refused: {kind}", count) for kind, count in counts.most_common()]
    return rows


def reproduced() -> tuple[int, int]:
    """Return how many of botocore's own definitions the names give, word for word, and how many there are."""
    asked = ("input_token", "output_token", "result_key", "limit_key", "more_results")
    same = total = 0
    for service in services():
        if service == "nimble":  # its definitions are ours
            continue
        model = SESSION.get_service_model(service)
        for name, paging in definitions(service).items():
            total += 1
            with suppress(UnsupportedError):
                given = derived(model.operation_model(name)).definition
                same += all(one(paging.get(word)) == one(given.get(word)) for word in asked)
    return same, total


def main() -> None:
    """Print the counts."""
    for what, count in counted(one for name in services() for one in listed(name)):
        print(f"{count:6,} {what}")
    same, total = reproduced()
    print(f"{same:6,} of botocore's own {total:,} definitions are those that the names give")


if __name__ == "__main__":
    main()
