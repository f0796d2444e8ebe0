"""The keys of datasets, judged before the first request: which ones are plausible, and which are in doubt."""

import re
from collections.abc import Iterable

from etl.extract.datasets import hints
from etl.model import Dataset, Operation
from etl.names import snake_case
from etl.transform.identity import WHOLE_RECORD, Key, key_candidates, key_doubts, singular

_VERBS = ("list", "describe", "get", "search", "query", "scan", "batch")
_SHOWN = 2


def listed_noun(operation: str) -> str:
    """Return what an operation lists: objects for list_objects_v2."""
    verb, _, noun = re.sub(r"_v\d+$", "", operation).partition("_")
    return noun if noun and verb in _VERBS else operation


def result_name(operation: Operation) -> str:
    """Return the path of the list in a response, with the names that botocore has for its members."""
    return operation.pager.result if operation.pager else operation.result_member


def plausible_keys(name: str, operation: Operation, given: Iterable[str], *, is_primary: bool = True) -> list[Key]:
    """Return the keys that may identify the records of an operation, the most plausible first.

    `name` is that of the method in boto3. `given` are the parameters that are the same in a whole slice. `is_primary`
    tells whether the records are those of the first list of the response.
    """
    nouns = _nouns(name, operation, is_primary=is_primary)
    found = key_candidates(operation.record, nouns, _columns(given), ids_first=operation.service == "ec2")
    known = hints(operation.service)["keys"].get(name) if is_primary else None
    return found if known is None else [*dict.fromkeys([tuple(known), *found])]


def key_doubt(dataset: Dataset, operation: Operation) -> str | None:
    """Say why the key of a dataset may merge or lose records, and what may be better. None if nothing tells so.

    Only names and types are judged, as nothing was listed yet.
    """
    name, key = dataset.operation, tuple(dataset.key)
    given = (*dataset.parameters, *(dataset.for_each.bind if dataset.for_each else ()))
    known = hints(dataset.service)["keys"].get(name)
    if known is not None and bool(known) == bool(key) and set(known) <= set(key):
        return None
    doubts = key_doubts(key, operation.record, _nouns(name, operation, is_primary=True), _columns(given))
    if not doubts and key and known is not None and len(known) != 1:
        doubts = [f"{', '.join(key)}: not enough to tell records apart"]
    if not doubts:
        return None
    others = [*plausible_keys(name, operation, given), WHOLE_RECORD]
    better = list(dict.fromkeys(f"[{', '.join(other)}]" for other in others if other != key))
    return (
        f"dataset {dataset.name}: key [{', '.join(key)}] is in doubt: {'; '.join(doubts)}. Different records with an "
        f"equal key become rejects. Perhaps {' or '.join(better[:_SHOWN])} is meant; [] is the whole record"
    )


def _nouns(name: str, operation: Operation, *, is_primary: bool) -> list[str]:
    noun = singular(snake_case(result_name(operation).removesuffix("[]").rpartition(".")[2]))
    return [singular(listed_noun(name)), noun] if is_primary else [noun]


def _columns(parameters: Iterable[str]) -> set[str]:
    return {snake_case(name) for name in parameters}
