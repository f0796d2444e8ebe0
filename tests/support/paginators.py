"""Every paginator of every service in the installed botocore: what can be exported, and what cannot, with the reason.

`PYTHONPATH=tests python -m support.paginators` counts them.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from etl.errors import ConfigError
from etl.extract.service_model import model_session
from etl.jobs.propose import Service, proposed_keys
from etl.model import Dataset
from etl.names import snake_case
from etl.transform.schema import Layout, layout_of

REASONS = {
    "what it pages through is no list": r"in its responses is a (map|structure|string); expected a list",
    "its records have no members": r"its records have no members",
    "two members would be one column": r"would have \w+ twice",
}
"""Kind of reason -> what the message says. Any other is a bug."""

SESSION = model_session()


@dataclass(frozen=True)
class Paginated:
    """One operation that has a paginator: with its tables, or with the reason why it has none.

    `given` has the columns of the parameters that every request must have.
    """

    service: str
    operation: str
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


def paginated(name: str) -> Iterator[Paginated]:
    """Yield the operations of a service that have a paginator; keys are those that would be proposed."""
    for listing in Service(name, SESSION).listings.values():
        if listing.operation is None:
            yield Paginated(name, listing.name, None, listing.reason)
            continue
        key = proposed_keys(listing)[0]
        given = tuple(map(snake_case, listing.operation.required))
        dataset = Dataset(name="listing", service=name, operation=listing.name, key=key, item="item")
        try:
            yield Paginated(name, listing.name, layout_of(dataset, listing.operation), given=given)
        except ConfigError as exc:
            yield Paginated(name, listing.name, None, str(exc))


def main() -> None:
    """Print the counts."""
    counts = Counter(found.kind for name in services() for found in paginated(name))
    print(f"{counts.total():5} paginators of {len(services())} services")
    print(f"{counts.pop('raw'):5} exported from raw bodies")
    print(f"{counts.pop('parsed'):5} exported from what botocore parses")
    for kind, count in counts.most_common():
        print(f"{count:5} refused: {kind}")


if __name__ == "__main__":
    main()
