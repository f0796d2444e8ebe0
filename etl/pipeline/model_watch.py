"""The model watch: botocore's models change with every release, and tables must not change with them unnoticed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from etl.errors import LedgerError
from etl.ledger.ledger import Ledger
from etl.model import Dataset, Operation, leaves
from etl.transform.schema import arrow_type


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What is different in the records of a dataset since the last run: API paths; of a type, what it was and is."""

    dataset: str
    run_id: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    retyped: tuple[str, ...]

    @property
    def breaks_readers(self) -> bool:
        """Tell whether a column that readers know would become null, or would need another type."""
        return bool(self.removed or self.retyped)

    def __str__(self) -> str:
        """Return the change as one sentence."""
        parts = [("added", self.added), ("removed", self.removed), ("of another type", self.retyped)]
        what = "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names)
        return f"dataset {self.dataset}: the service model has changed since run {self.run_id}: {what}"


def find_changes(
    paths: Iterable[Path], datasets: Mapping[str, Dataset], operations: Mapping[str, Operation]
) -> Iterator[ModelChange]:
    """Yield what has changed since the newest run of each dataset that lists the same.

    Args:
        paths: the ledgers, oldest first; one that is damaged is passed over.
        datasets: as they are configured now.
        operations: as the service models say now.
    """
    left = set(datasets)
    for path in reversed(list(paths)):
        if not left:
            return
        try:
            with Ledger.open(path) as ledger:
                run_id, stored = ledger.run().run_id, ledger.datasets()
        except LedgerError:
            continue
        for name in left & stored.keys():
            dataset, before = stored[name]
            left.remove(name)
            now = operations[name]
            if (dataset.service, dataset.operation, before.result_key, before.pager) == (
                datasets[name].service, datasets[name].operation, now.result_key, now.pager
            ):  # fmt: skip
                yield from _compare(name, run_id, before, now)


def _compare(name: str, run_id: str, before: Operation, now: Operation) -> Iterator[ModelChange]:
    old, new = _types(before), _types(now)
    added = tuple(sorted(new.keys() - old.keys()))
    removed = tuple(sorted(old.keys() - new.keys()))
    retyped = tuple(
        f"{path} ({old[path]} before, now {new[path]})" for path in old if old[path] != new.get(path, old[path])
    )
    if added or removed or retyped:
        yield ModelChange(name, run_id, added, removed, retyped)


def _types(operation: Operation) -> dict[str, str]:
    """Return the type of each leaf by its API path."""
    return {path: str(arrow_type(member)) for _, path, member in leaves(operation.record)}
