"""The model watch: botocore's models change with every release; a change that concerns the tables is reported."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from etl.errors import LedgerError
from etl.ledger.ledger import Ledger
from etl.model import Dataset, Operation, leaves
from etl.transform.schema import arrow_type


@dataclass(frozen=True, slots=True)
class ModelChange:
    """How the records of a dataset differ from those of the last run.

    `added` and `removed` are API paths; `retyped` are API paths with the old and the new type.
    """

    dataset: str
    run_id: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    retyped: tuple[str, ...]

    @property
    def breaks_readers(self) -> bool:
        """Tell whether a column that readers know becomes null or needs another type."""
        return bool(self.removed or self.retyped)

    def __str__(self) -> str:
        """Return the change as one sentence."""
        parts = (("added", self.added), ("removed", self.removed), ("of another type", self.retyped))
        what = "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names)
        return f"dataset {self.dataset}: the service model has changed since run {self.run_id}: {what}"


def find_changes(
    paths: Iterable[Path], datasets: Mapping[str, Dataset], operations: Mapping[str, Operation]
) -> Iterator[ModelChange]:
    """Yield what has changed in each dataset since its newest run, if that run listed the same.

    `paths` are the ledgers, oldest first; damaged ones are skipped. `datasets` and `operations` are those of today.
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
            left.remove(name)
            if _listing(*stored[name]) == _listing(datasets[name], operations[name]):
                yield from _compare(name, run_id, stored[name][1], operations[name])


def _listing(dataset: Dataset, operation: Operation) -> tuple[object, ...]:
    return dataset.service, dataset.operation, operation.result_key, operation.pager


def _compare(name: str, run_id: str, before: Operation, now: Operation) -> Iterator[ModelChange]:
    old, new = ({path: str(arrow_type(member)) for _, path, member in leaves(one.record)} for one in (before, now))
    added = tuple(sorted(new.keys() - old.keys()))
    removed = tuple(sorted(old.keys() - new.keys()))
    retyped = tuple(
        f"{path} ({old[path]} before, now {new[path]})" for path in old if old[path] != new.get(path, old[path])
    )
    if added or removed or retyped:
        yield ModelChange(name, run_id, added, removed, retyped)
