"""Definitions of datasets, proposed from the service models: what can be exported, and the lines to configure it.

A proposal is a start, not the truth: models do not say which member identifies a record, nor which listing gives the
values of a parameter. Names do, mostly. What was guessed stands in the comments.
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
from etl.extract.datasets import builtin_datasets, select_datasets
from etl.extract.service_model import (
    UnsupportedError,
    describe_operation,
    inspect_operation,
    model_session,
    paginated_operations,
)
from etl.model import BLANK, KEY_KINDS, Dataset, Member, Operation, leaves, snake_case
from etl.transform.schema import layout_of

_VERBS = ("list", "describe", "get", "search", "query", "scan", "batch")
_SUFFIXES = ("_identifier", "_name", "_arn", "_id")
_NEWEST = ("updated", "modified", "changed", "creat")
_SOMETIMES = re.compile(
    r"\bonly (supported|returned|present|included|available|applies|applicable|for)\b", re.IGNORECASE
)
"""A member whose documentation says so is absent from most records: the ARN of a bucket in S3."""
_LONGEST_NAME = 63
_SHOWN = 5
_NO_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Draft:
    """One entry of `datasets:`: its settings, and a comment for some of them."""

    settings: Mapping[str, Any]
    comments: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name of the dataset."""
        return str(self.settings["name"])

    @property
    def definition(self) -> Dataset:
        """Return the entry as it is read from the configuration."""
        return Dataset.model_validate(self.settings)

    @property
    def blanks(self) -> list[str]:
        """Return the parameters whose values only the operator knows."""
        return [name for name, value in self.settings.get("parameters", {}).items() if value == BLANK]


@dataclass(frozen=True, slots=True)
class Listing:
    """An operation of a service that has a paginator; with the reason if it cannot be exported."""

    name: str
    result_keys: tuple[str, ...]
    operation: Operation | None
    reason: str = ""

    @property
    def noun(self) -> str:
        """Return what is listed: list_objects_v2, objects."""
        verb, _, noun = re.sub(r"_v\d+$", "", self.name).partition("_")
        return noun if noun and verb in _VERBS else self.name

    @property
    def item(self) -> str:
        """Return the singular of the noun."""
        return singular(self.noun)


def singular(noun: str) -> str:
    """Return the singular of an English plural in snake_case: policies, policy."""
    if noun.endswith("ies"):
        return f"{noun[:-3]}y"
    if re.search(r"(ss|x|ch|sh)es$", noun):
        return noun[:-2]
    return noun if noun.endswith(("ss", "us")) else noun.removesuffix("s")


def key_candidates(record: Member, item: str) -> list[tuple[str, ...]]:
    """Return the keys that records may be identified by, the most plausible first; none if there are none.

    Args:
        record: the structure of a record.
        item: the singular of what is listed.
    """
    plain = {name: member for name, _, member in leaves(record) if member.kind in KEY_KINDS}
    top = {member.name for member in record.members}

    def rank(name: str) -> tuple[bool, bool, int]:
        stem, suffix = _split(name)
        own = not stem or _is_same(stem, item)
        places = {
            ("_arn", True): 0,
            ("_id", True): 1,
            ("_identifier", True): 2,
            ("_id", False): 3,
            ("_name", True): 4,
            ("_name", False): 6,
            ("_arn", False): 7,
        }
        member = plain[name]
        is_text = member.kind == "string" and not member.enum
        place = 5 if name in ("value", "key") else places.get((suffix, own), 8 if is_text else 9)
        # A record without its key is rejected: what may be absent comes last.
        may_miss = (some_required and not member.required) or bool(_SOMETIMES.search(member.documentation))
        return name not in top, may_miss, place

    some_required = any(member.required and member.kind == "string" for member in record.members)
    found = sorted(plain, key=rank)
    keys: list[tuple[str, ...]] = [(name,) for name in found]
    if found and _split(found[0])[0] in ("version", "revision"):  # one of many of the same thing
        owner = next((name for name in ("key", "name", "id", "arn") if name in plain), None)
        return [(owner, found[0]), *keys] if owner else keys
    return keys


def order_candidate(record: Member) -> str | None:
    """Return the column whose newest value most likely wins; None if no timestamp says when a record changed."""
    instants = [member.name for member in record.members if member.kind == "timestamp"]
    found = (name for word in _NEWEST for name in instants if word in name)
    return next(found, None)


class Service:
    """What the model of one service says about its listings.

    Args:
        name: as boto3 names it.
        session: as `model_session` returns it; for those who look at many services.

    Raises:
        ConfigError: botocore has no such service.
    """

    def __init__(self, name: str, session: Any = None) -> None:
        self.name = name
        self._session = session or model_session()
        try:
            self._result_keys = paginated_operations(self._session, name)
        except UnsupportedError as exc:
            raise ConfigError(f"datasets: {exc}") from None

    @cached_property
    def listings(self) -> dict[str, Listing]:
        """Return the operations that have a paginator, by name."""
        return {name: self.listing(name) for name in self._result_keys}

    def listing(self, name: str, result_key: str | None = None) -> Listing:
        """Return one operation, its records as a result key says."""
        result_keys = self._result_keys.get(name, ())
        try:
            operation = inspect_operation(self._session, self.name, name, result_key)
        except UnsupportedError as exc:
            return Listing(name, result_keys, None, str(exc))
        found = Listing(name, result_keys, operation)
        if not key_candidates(operation.record, found.item):
            return Listing(name, result_keys, None, f"{operation.name}: its records have no plain value for a key")
        return found

    def lists(self, listing: Listing) -> list[str]:
        """Return the result keys that would do: those of the paginator, and a list inside the records that it names.

        DescribeInstances lists reservations, and those have instances.
        """
        found = [key for key in listing.result_keys if self.listing(listing.name, key).operation]
        if listing.operation is not None:
            inner = [member.api_name for member in listing.operation.record.members if member.name == listing.noun]
            keys = [f"{listing.result_keys[0]}[].{name}[]" for name in inner]
            found = [key for key in keys if self.listing(listing.name, key).operation] + found
        return found

    def check(self, dataset: Dataset) -> None:
        """Refuse a definition that has no tables.

        Raises:
            ConfigError: says why not.
        """
        layout_of(dataset, describe_operation(self._session, dataset))


def exportable(service: str) -> list[dict[str, Any]]:
    """Return one row per listing of a service: what can be exported, and what cannot, with the reason."""
    rows = []
    for listing in Service(service).listings.values():
        operation = listing.operation
        rows.append(
            {
                "operation": listing.name,
                "lists": ", ".join(listing.result_keys),
                "key": ", ".join(key_candidates(operation.record, listing.item)[0]) if operation else None,
                "needs": ", ".join(operation.required) if operation else None,
                "pages": ("raw" if operation.pager is None else "parsed") if operation else None,
                "reason": listing.reason or None,
            }
        )
    return rows


def propose(settings: Settings, service: str, operation: str, result_key: str | None = None) -> list[Draft]:
    """Return the entries that would export an operation: those of parents that are not there yet first.

    Args:
        settings: the datasets that there are.
        service: as boto3 names it.
        operation: as boto3 names its method.
        result_key: which list of the response; None for the most likely.

    Raises:
        ConfigError: it cannot be exported, or is there already.
    """
    known = {**builtin_datasets(), **select_datasets(settings.datasets)}
    return _Proposer(Service(service), known).propose(operation, result_key)


def as_yaml(drafts: Iterable[Draft]) -> str:
    """Return the entries as they would stand in the configuration."""
    text = StringIO()
    yaml = YAML()
    yaml.width = _NO_LIMIT
    yaml.dump(CommentedMap(datasets=CommentedSeq(map(_entry, drafts))), text)
    return text.getvalue()


class _Proposer:
    def __init__(self, service: Service, known: Mapping[str, Dataset]) -> None:
        self._service = service
        self._known = known
        self._drafts: dict[str, Draft] = {}

    def propose(self, operation: str, result_key: str | None) -> list[Draft]:
        listing = self._service.listing(operation, result_key)
        if listing.operation is None:
            raise ConfigError(f"{self._service.name} {operation}: {listing.reason}")
        lists = self._service.lists(listing) if result_key is None else [result_key]
        if len(lists) > 1:
            listing = self._service.listing(operation, lists[0])
        self._add(listing, lists)
        return list(self._drafts.values())

    def _add(self, listing: Listing, lists: list[str]) -> str:
        """Draft one dataset, its parent before it, and return its name.

        Args:
            listing: its records are those of the first list.
            lists: the result keys that would do.
        """
        operation = listing.operation
        assert operation is not None
        is_primary = lists[0] == listing.result_keys[0]
        noun = listing.noun if is_primary else _last_name(lists[0])
        key, *others = key_candidates(operation.record, singular(noun))
        name = self._new_name(listing, noun, None if is_primary else lists[0])
        settings: dict[str, Any] = {"name": name, "service": self._service.name, "operation": listing.name}
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
        if others:
            plausible = ["+".join(candidate) for candidate in (key, *others)]
            comments["key"] = f"the most plausible of {', '.join(plausible[:_SHOWN])}"
        newest = order_candidate(operation.record)
        if newest:
            settings["order_by"] = newest
        if singular(name) != name.removesuffix("s"):
            settings["item"] = singular(name)
        self._add_parameters(listing, settings, comments)
        self._service.check(Dataset.model_validate(settings))
        self._drafts[name] = Draft(settings, comments)
        return name

    def _add_parameters(self, listing: Listing, settings: dict[str, Any], comments: dict[str, str]) -> None:
        """Say where the values of the required parameters come from: another listing, or the operator."""
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
        """Return the listing whose records give the values of most of the required parameters, and their columns."""
        best: tuple[Listing | None, dict[str, str]] = (None, {})
        for parent in self._service.listings.values():
            if parent.operation is None or parent.name == listing.name:
                continue
            if not set(parent.operation.required) < set(required):
                continue  # its own parameters would be asked for too
            bind = {name: column for name in required if (column := _column_for(snake_case(name), parent))}
            if not bind:
                continue
            bind |= {name: snake_case(name) for name in parent.operation.required if name not in bind}
            if len(bind) > len(best[1]):
                best = (parent, {name: bind[name] for name in required if name in bind})
        return best

    def _dataset_of(self, parent: Listing) -> str:
        """Return the dataset of a listing: one that is there, or drafted before, or drafted now."""
        for name, dataset in self._known.items():
            if (dataset.service, dataset.operation) == (self._service.name, parent.name) and not dataset.result_key:
                return name
        return self._add(parent, [parent.result_keys[0]])

    def _new_name(self, listing: Listing, noun: str, result_key: str | None) -> str:
        """Return the name of a new dataset.

        Raises:
            ConfigError: the same is there already, or something else has its name.
        """
        name = f"{self._service.name}_{noun}".replace("-", "_")[:_LONGEST_NAME]
        for other, dataset in self._known.items():
            if (dataset.service, dataset.operation, dataset.result_key) == (
                self._service.name, listing.name, result_key
            ) or name == other:  # fmt: skip
                what = f"{dataset.service}:{dataset.operation}"
                raise ConfigError(f"datasets: {other} is there already, and lists {what}; --result-key chooses a list")
        return name


def _column_for(parameter: str, parent: Listing) -> str | None:
    """Return the column of a parent that holds the values of a parameter: farm_id of farms, name of buckets."""
    assert parent.operation is not None
    stem, suffix = _split(parameter)
    if not _is_same(stem, parent.item):
        return None
    texts = {member.name for member in parent.operation.record.members if member.kind == "string"}
    # A parameter that does not say what it wants mostly takes a name as well as an id.
    ends = [suffix] if suffix not in ("", "_identifier") else ["_name", "_id", "_arn"]
    wanted = [parameter, *(name for end in ends for name in (f"{parent.item}{end}", f"{stem}{end}", end[1:])), "value"]
    return next((name for name in wanted if name in texts), None)


def _split(name: str) -> tuple[str, str]:
    """Return what a name names, and by what: farm_id, ("farm", "_id"); arn, ("", "_arn"); bucket, ("bucket", "")."""
    suffix = next((end for end in _SUFFIXES if f"_{name}".endswith(end)), "")
    return f"_{name}".removesuffix(suffix).removeprefix("_"), suffix


def _is_same(stem: str, item: str) -> bool:
    """Tell whether two names mean the same thing: cluster and cache_cluster do."""
    shorter, longer = sorted((stem, item), key=len)
    return bool(shorter) and f"_{longer}".endswith(f"_{shorter}")


def _last_name(result_key: str) -> str:
    """Return the name of what a result key leads to, in snake_case: Reservations[].Instances[], instances."""
    return snake_case(result_key.removesuffix("[]").rpartition(".")[2])


def _entry(draft: Draft) -> CommentedMap:
    entry = CommentedMap()
    for name, value in draft.settings.items():
        entry[name] = _flow(value)
        if comment := draft.comments.get(name):
            entry.yaml_add_eol_comment(comment, name)
    return entry


def _flow(value: Any) -> Any:
    """Return a list or mapping that is written on one line."""
    if isinstance(value, dict):
        found: Any = CommentedMap((name, _flow(inner)) for name, inner in value.items())
    elif isinstance(value, list):
        found = CommentedSeq(value)
    else:
        return value
    found.fa.set_flow_style()
    return found
