"""Propose definitions of datasets from the service models: what can be exported, and the lines to configure it.

Models do not say which member identifies a record, nor which listing gives the values of a parameter. Both are guessed
from names, so a proposal must be checked; its comments name the guesses.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from etl.config import Settings
from etl.errors import ConfigError
from etl.extract.datasets import builtin_datasets, hints, select_datasets
from etl.extract.service_model import (
    UnsupportedError,
    describe_operation,
    inspect_operation,
    model_session,
    paginated_operations,
)
from etl.model import BLANK, Dataset, Member, Operation, snake_case
from etl.transform.identity import Key, key_candidates, singular, split_name
from etl.transform.schema import layout_of

_VERBS = ("list", "describe", "get", "search", "query", "scan", "batch")
_NEWEST = ("updated", "modified", "changed", "creat")
_LONGEST_NAME = 63
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Draft:
    """One entry of `datasets:`: its settings, and comments on some of them."""

    settings: Mapping[str, Any]
    comments: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name of the dataset."""
        return str(self.settings["name"])

    @property
    def definition(self) -> Dataset:
        """Return the entry as the configuration would define it."""
        return Dataset.model_validate(self.settings)

    @property
    def blanks(self) -> list[str]:
        """Return the parameters whose values only the operator knows."""
        return [name for name, value in self.settings.get("parameters", {}).items() if value == BLANK]


@dataclass(frozen=True, slots=True)
class Listing:
    """An operation that has a paginator. `operation` is None if it cannot be exported; `reason` says why."""

    name: str
    result_keys: tuple[str, ...]
    operation: Operation | None
    reason: str = ""

    @property
    def noun(self) -> str:
        """Return what is listed: objects for list_objects_v2."""
        verb, _, noun = re.sub(r"_v\d+$", "", self.name).partition("_")
        return noun if noun and verb in _VERBS else self.name

    @property
    def item(self) -> str:
        """Return the singular of the noun."""
        return singular(self.noun)


def proposed_keys(listing: Listing) -> list[Key]:
    """Return the keys that may identify the records of a listing that can be exported, the most plausible first."""
    operation = listing.operation
    assert operation is not None
    known = hints(operation.service)
    given = {snake_case(name) for name in (*operation.required, *known["parents"].get(listing.name, ()))}
    result = operation.pager.result if operation.pager else operation.result_member
    noun = singular(snake_case(result.removesuffix("[]").rpartition(".")[2]))
    is_primary = result == listing.result_keys[0]
    nouns = [listing.item, noun] if is_primary else [noun]
    found = key_candidates(operation.record, nouns, given, ids_first=operation.service == "ec2")
    key = known["keys"].get(listing.name) if is_primary else None
    return found if key is None else [*dict.fromkeys([tuple(key), *found])]


def order_candidate(record: Member) -> str | None:
    """Return the timestamp that most likely says when a record changed; None if there is none."""
    instants = [member.name for member in record.members if member.kind == "timestamp"]
    found = (name for word in _NEWEST for name in instants if word in name)
    return next(found, None)


class Service:
    """The listings of one service, by the name that boto3 has for it. Several services can share a model session.

    Raises:
        ConfigError: botocore has no such service.
    """

    def __init__(self, name: str, session: Any = None) -> None:
        self.name = name
        self.session = session or model_session()
        try:
            self._result_keys = paginated_operations(self.session, name)
        except UnsupportedError as exc:
            raise ConfigError(f"datasets: {exc}") from None

    @cached_property
    def listings(self) -> dict[str, Listing]:
        """Return the operations that have a paginator, by name."""
        return {name: self.listing(name) for name in self._result_keys}

    def listing(self, name: str, result_key: str | None = None) -> Listing:
        """Return one operation, with the records of a result key; None for the first."""
        result_keys = self._result_keys.get(name, ())
        try:
            operation = inspect_operation(self.session, self.name, name, result_key)
        except UnsupportedError as exc:
            return Listing(name, result_keys, None, str(exc))
        return Listing(name, result_keys, operation)

    def lists(self, listing: Listing) -> list[str]:
        """Return the result keys that can be exported: those of the paginator, and the operation's noun inside records.

        DescribeInstances lists reservations, which contain instances.
        """
        members = listing.operation.record.members if listing.operation else ()
        inner = [member.api_name for member in members if member.name == listing.noun]
        keys = [*(f"{listing.result_keys[0]}[].{name}[]" for name in inner), *listing.result_keys]
        return [key for key in keys if self.listing(listing.name, key).operation]


def exportable(service: str) -> list[dict[str, Any]]:
    """Return one row per listing of a service: operation, lists, key, needs, pages, and the reason if it cannot be."""
    return [
        {
            "operation": listing.name,
            "lists": ", ".join(listing.result_keys),
            "key": (", ".join(proposed_keys(listing)[0]) or "[]") if operation else None,
            "needs": ", ".join(operation.required) if operation else None,
            "pages": ("raw" if operation.pager is None else "parsed") if operation else None,
            "reason": listing.reason or None,
        }
        for listing in Service(service).listings.values()
        for operation in [listing.operation]
    ]


def propose(settings: Settings, service: str, operation: str, result_key: str | None = None) -> list[Draft]:
    """Return the entries that export an operation, after those of parents that are not configured yet.

    Service and operation have the names of boto3. Without a `result_key`, the most likely list is taken.

    Raises:
        ConfigError: the operation cannot be exported, or is configured already.
    """
    found = Service(service)
    listing = found.listing(operation, result_key)
    if listing.operation is None:
        raise ConfigError(f"{service} {operation}: {listing.reason}")
    lists = found.lists(listing) if result_key is None else [result_key]
    if len(lists) > 1:
        listing = found.listing(operation, lists[0])
    proposer = _Proposer(found, {**builtin_datasets(), **select_datasets(settings.datasets)})
    proposer.add(listing, lists)
    return list(proposer.drafts.values())


def as_yaml(drafts: Iterable[Draft]) -> str:
    """Return the entries as lines of the configuration."""
    text = StringIO()
    yaml = YAML()
    yaml.width = 1_000_000  # lines are never wrapped
    yaml.dump(CommentedMap(datasets=CommentedSeq(map(_entry, drafts))), text)
    return text.getvalue()


@dataclass(frozen=True, slots=True)
class _Proposer:
    service: Service
    known: Mapping[str, Dataset]
    drafts: dict[str, Draft] = field(default_factory=dict)

    def add(self, listing: Listing, lists: list[str]) -> str:
        """Draft one dataset, its parent before it, and return its name.

        The records of the listing are those of the first of `lists`, which are the result keys to choose from.
        """
        operation = listing.operation
        assert operation is not None
        is_primary = lists[0] == listing.result_keys[0]
        # The last name in the path: instances for Reservations[].Instances[].
        noun = listing.noun if is_primary else snake_case(lists[0].removesuffix("[]").rpartition(".")[2])
        key, *others = proposed_keys(listing)
        name = self._new_name(listing, noun, None if is_primary else lists[0])
        settings: dict[str, Any] = {"name": name, "service": self.service.name, "operation": listing.name}
        comments = {}
        optional = [parameter for parameter in operation.parameters if parameter not in operation.required]
        if optional:
            rest = ", …" if len(optional) > _SHOWN else ""
            comments["operation"] = f"also takes {', '.join(optional[:_SHOWN])}{rest}"
        if not is_primary or len(lists) > 1:
            settings["result_key"] = lists[0]
        if len(lists) > 1:
            comments["result_key"] = f"the response has several lists: {', '.join(lists)}"
        settings["key"] = list(key)
        plausible = ["+".join(candidate) for candidate in others if candidate][: _SHOWN - 1]
        if not key:
            comments["key"] = f"the whole record, as no member names it: {', '.join(plausible) or 'there is no other'}"
        elif plausible:
            comments["key"] = f"the most plausible of {', '.join(['+'.join(key), *plausible])}"
        newest = order_candidate(operation.record)
        if newest:
            settings["order_by"] = newest
        if singular(name) != name.removesuffix("s"):
            settings["item"] = singular(name)
        self._add_parameters(listing, settings, comments)
        draft = Draft(settings, comments)
        layout_of(draft.definition, describe_operation(self.service.session, draft.definition))  # refuses mistakes
        self.drafts[name] = draft
        return name

    def _add_parameters(self, listing: Listing, settings: dict[str, Any], comments: dict[str, str]) -> None:
        """Add where the values of the required parameters come from: another listing, or the operator."""
        assert listing.operation is not None
        required = listing.operation.required
        parent, bind = self._parent(listing, required) if required else (None, {})
        blanks = [name for name in required if name not in bind]
        if parent is not None and bind:
            settings["for_each"] = {"dataset": self._dataset_of(parent), "bind": bind}
            comments["for_each"] = f"one slice for each record of {parent.name}"
        if blanks:
            settings["parameters"] = dict.fromkeys(blanks, BLANK)
            comments["parameters"] = f"fill in {', '.join(blanks)}"

    def _parent(self, listing: Listing, required: tuple[str, ...]) -> tuple[Listing | None, dict[str, str]]:
        """Return the listing whose records have values for most required parameters, and the column of each."""
        best: tuple[Listing | None, dict[str, str]] = (None, {})
        for parent in self.service.listings.values():
            if parent.operation is None or parent.name == listing.name:
                continue
            if not set(parent.operation.required) < set(required):
                continue  # somebody would have to give its own parameters too
            bind = {name: column for name in required if (column := _column_for(snake_case(name), parent))}
            if not bind:
                continue
            bind |= {name: snake_case(name) for name in parent.operation.required if name not in bind}
            if len(bind) > len(best[1]):
                best = (parent, {name: bind[name] for name in required if name in bind})
        return best

    def _dataset_of(self, parent: Listing) -> str:
        """Return the dataset of a listing, which is drafted now if it is not configured."""
        for name, dataset in self.known.items():
            if (dataset.service, dataset.operation) == (self.service.name, parent.name) and not dataset.result_key:
                return name
        return self.add(parent, [parent.result_keys[0]])

    def _new_name(self, listing: Listing, noun: str, result_key: str | None) -> str:
        """Return the name of a new dataset; refuse one that is configured already, or whose name is taken."""
        name = f"{self.service.name}_{noun}".replace("-", "_")[:_LONGEST_NAME]
        for other, dataset in self.known.items():
            what = (dataset.service, dataset.operation, dataset.result_key)
            if name == other or what == (self.service.name, listing.name, result_key):
                raise ConfigError(
                    f"datasets: {other} is there already, and lists {dataset.service}:{dataset.operation}; "
                    "choose another list with --result-key"
                )
        return name


def _column_for(parameter: str, parent: Listing) -> str | None:
    """Return the column of a parent that has the values of a parameter: farm_id of farms, name of buckets."""
    assert parent.operation is not None
    stem, suffix = split_name(parameter)
    if not _is_same(stem, parent.item):
        return None
    texts = {member.name for member in parent.operation.record.members if member.kind == "string"}
    # A parameter without a suffix mostly takes a name as well as an id.
    ends = [suffix] if suffix not in ("", "_identifier") else ["_name", "_id", "_arn"]
    wanted = [parameter, *(name for end in ends for name in (f"{parent.item}{end}", f"{stem}{end}", end[1:])), "value"]
    return next((name for name in wanted if name in texts), None)


def _is_same(stem: str, item: str) -> bool:
    """Tell whether two names mean the same thing, as cluster and cache_cluster do."""
    shorter, longer = sorted((stem, item), key=len)
    return bool(shorter) and f"_{longer}".endswith(f"_{shorter}")


def _entry(draft: Draft) -> CommentedMap:
    entry = CommentedMap()
    for name, value in draft.settings.items():
        entry[name] = _flow(value)
        if comment := draft.comments.get(name):
            entry.yaml_add_eol_comment(comment, name)
    return entry


def _flow(value: Any) -> Any:
    """Return a value so that a list or mapping is written on one line."""
    if isinstance(value, dict):
        value = CommentedMap((name, _flow(inner)) for name, inner in value.items())
        value.fa.set_flow_style()
    elif isinstance(value, list):
        value = CommentedSeq(value)
        value.fa.set_flow_style()
    return value
