"""Propose definitions of datasets from the service models: what can be exported, and the lines to configure it.

Models do not say which member identifies a record, nor which listing gives the values of a parameter. Both are guessed
from names, so a proposal must be checked; its comments name the guesses.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from etl.config import Settings
from etl.errors import ConfigError, NameTakenError
from etl.extract.datasets import builtin_datasets, hints, select_datasets
from etl.extract.paging import UnsupportedError
from etl.extract.service_model import (
    describe_operation,
    inspect_operation,
    listed_operations,
    model_session,
    parameter_values,
)
from etl.model import BLANK, Dataset, Operation
from etl.names import parameter_column, snake_case
from etl.pipeline.keys import listed_noun, plausible_keys, result_name
from etl.pipeline.plan import check_names
from etl.transform.identity import Key, order_candidate, singular, split_name
from etl.transform.schema import Layout, layout_of, tag_entry

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
    """An operation that lists something. `operation` is None if it cannot be exported; `reason` says why."""

    name: str
    result_keys: tuple[str, ...]
    operation: Operation | None
    reason: str = ""

    @property
    def noun(self) -> str:
        """Return what is listed: objects for list_objects_v2."""
        return listed_noun(self.name)

    @property
    def item(self) -> str:
        """Return the singular of the noun."""
        return singular(self.noun)


def proposed_keys(listing: Listing) -> list[Key]:
    """Return the keys that may identify the records of a listing that can be exported, the most plausible first."""
    operation = listing.operation
    assert operation is not None
    given = (*operation.required, *hints(operation.service)["parents"].get(listing.name, ()))
    return plausible_keys(listing.name, operation, given, is_primary=result_name(operation) == listing.result_keys[0])


class Service:
    """The listings of one service, by the name that boto3 has for it. Several services can share a model session.

    Raises:
        ConfigError: botocore has no such service.
    """

    def __init__(self, name: str, session: Any = None) -> None:
        self.name = name
        self.session = session or model_session()
        try:
            self._result_keys = listed_operations(self.session, name)
        except UnsupportedError as exc:
            raise ConfigError(f"datasets: {exc}") from None

    @cached_property
    def listings(self) -> dict[str, Listing]:
        """Return the operations that list something, by name."""
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


def propose(
    settings: Settings, service: str, operation: str, result_key: str | None = None, name: str | None = None
) -> list[Draft]:
    """Return the entries that export an operation, after those of parents that are not configured yet.

    Service and operation have the names of boto3. Without a `result_key`, the most likely list is taken. Without a
    `name`, the dataset is called after the service and what is listed.

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
    proposer = _Proposer(found, select_datasets(settings.datasets))
    proposer.add(listing, lists, name)
    return list(proposer.drafts.values())


def propose_service(settings: Settings, service: str) -> tuple[list[Draft], list[str]]:
    """Return the entries that export whatever a service lists, and a sentence for each listing that is left out.

    Left out is what cannot be exported, what is configured already, and what needs a value that only the operator has.

    Raises:
        ConfigError: botocore has no such service.
    """
    found = Service(service)
    proposer = _Proposer(found, select_datasets(settings.datasets))
    left_out = []
    for listing in found.listings.values():
        before = dict(proposer.drafts)
        reason = listing.reason
        if listing.operation and not proposer.has(listing):
            lists = found.lists(listing)
            chosen = found.listing(listing.name, lists[0]) if len(lists) > 1 else listing
            try:
                try:
                    proposer.add(chosen, lists)
                except NameTakenError:
                    proposer.add(chosen, lists, noun_name(service, listing.name))
            except ConfigError as exc:
                reason = str(exc)
            new = [draft for name, draft in proposer.drafts.items() if name not in before]
            if blanks := [name for draft in new for name in draft.blanks]:
                reason = f"needs {', '.join(blanks)}, which no listing gives; add it by its name"
        if reason:
            proposer.drafts.clear()
            proposer.drafts.update(before)
            left_out.append(f"{listing.name} is left out: {reason}")
    return list(proposer.drafts.values()), left_out


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
    configured: Mapping[str, Dataset]
    drafts: dict[str, Draft] = field(default_factory=dict)
    layouts: dict[str, Layout] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, Dataset]:
        """Return the datasets that need no draft any more."""
        return {**builtin_datasets(), **self.configured, **{name: d.definition for name, d in self.drafts.items()}}

    def has(self, listing: Listing) -> bool:
        """Tell whether a listing is drafted already, as the parent of another one."""
        return any(draft.settings["operation"] == listing.name for draft in self.drafts.values())

    def add(self, listing: Listing, lists: list[str], name: str | None = None) -> str:
        """Draft one dataset, its parent before it, and return its name.

        The records of the listing are those of the first of `lists`, which are the result keys to choose from.
        """
        operation = listing.operation
        assert operation is not None
        is_primary = lists[0] == listing.result_keys[0]
        # The last name in the path: instances for Reservations[].Instances[].
        noun = listing.noun if is_primary else snake_case(lists[0].removesuffix("[]").rpartition(".")[2])
        key, *others = proposed_keys(listing)
        name = self._new_name(listing, name or noun_name(self.service.name, noun), None if is_primary else lists[0])
        settings: dict[str, Any] = {"name": name, "service": self.service.name, "operation": listing.name}
        comments = {}
        given = {*operation.required, *hints(self.service.name)["parents"].get(listing.name, ())}
        optional = [parameter for parameter in operation.parameters if parameter not in given]
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
        if any(tag_entry(member.name, member) for member in operation.record.members):
            settings["tags"] = "map"
        self._add_parameters(listing, settings, comments)
        draft = Draft(settings, comments)
        self._check(draft)
        self.drafts[name] = draft
        return name

    def _add_parameters(self, listing: Listing, settings: dict[str, Any], comments: dict[str, str]) -> None:
        """Add where the values of the required parameters come from: another listing, or the operator."""
        assert listing.operation is not None
        required = listing.operation.required
        parent, bind = self._parent(listing, required) if required else (None, {})
        hinted: Mapping[str, str] = hints(self.service.name)["parents"].get(listing.name, {})
        for name, place in hinted.items():
            parent_name, _, column = place.partition(".")
            parent, bind = self.service.listing(parent_name), {name: column}
        blanks = [name for name in required if name not in bind]
        if parent is not None and bind:
            settings["for_each"] = {"dataset": self._dataset_of(parent), "bind": bind}
            why = f"; without {', '.join(bind)}, the service does not list all" if hinted else ""
            comments["for_each"] = f"one slice for each record of {parent.name}{why}"
        if blanks:
            settings["parameters"] = dict.fromkeys(blanks, BLANK)
            known = parameter_values(self.service.session, self.service.name, listing.operation.name)
            comments["parameters"] = f"fill in {', '.join(_blank(name, known.get(name, ())) for name in blanks)}"

    def _parent(self, listing: Listing, required: tuple[str, ...]) -> tuple[Listing | None, dict[str, str]]:
        """Return the listing whose records have values for most required parameters, and the column of each."""
        best: tuple[Listing | None, dict[str, str]] = (None, {})
        assert listing.operation is not None
        # Values that the model knows are chosen, not listed: a summary by type has not every type.
        chosen = parameter_values(self.service.session, self.service.name, listing.operation.name)
        for parent in self.service.listings.values():
            if parent.operation is None or parent.name == listing.name:
                continue
            if not set(parent.operation.required) < set(required):
                continue  # somebody would have to give its own parameters too
            bind = {
                name: column
                for name in required
                if name not in chosen and (column := _column_for(snake_case(name), parent))
            }
            if not bind:
                continue
            bind |= {name: parameter_column(name) for name in parent.operation.required if name not in bind}
            if len(bind) > len(best[1]):
                best = (parent, {name: bind[name] for name in required if name in bind})
        return best

    def _dataset_of(self, parent: Listing) -> str:
        """Return the dataset of a listing, which is drafted now if it is not configured."""
        for name, dataset in self.known.items():
            if (dataset.service, dataset.operation) == (self.service.name, parent.name) and not dataset.result_key:
                return name
        return self.add(parent, [parent.result_keys[0]])

    def _check(self, draft: Draft) -> None:
        """Refuse a draft that cannot be exported, or whose tables or views would have names that are taken."""
        new = [draft.definition, *(found for name, found in self.configured.items() if name not in self.layouts)]
        for dataset in new:
            self.layouts[dataset.name] = layout_of(dataset, describe_operation(self.service.session, dataset))
        try:
            check_names({name: self.layouts[name] for name in (*self.configured, *self.drafts, draft.name)})
        except ConfigError as exc:
            raise NameTakenError(f"{exc}. --name chooses another name") from None

    def _new_name(self, listing: Listing, name: str, result_key: str | None) -> str:
        """Return the name of a new dataset; refuse one that is configured already, or whose name is taken."""
        for other, dataset in self.known.items():
            lists = f"{other} is there already, and lists {dataset.service}:{dataset.operation}"
            what = (dataset.service, dataset.operation, dataset.result_key)
            if what == (self.service.name, listing.name, result_key):
                raise ConfigError(f"datasets: {lists}; choose another list with --result-key, if it has one")
            if name == other:
                raise NameTakenError(f"datasets: {lists}; choose another name with --name")
        return name


def noun_name(service: str, noun: str) -> str:
    """Return the name of a dataset for what a service lists."""
    return f"{service}_{noun}".replace("-", "_")[:_LONGEST_NAME]


def _blank(name: str, values: Sequence[str]) -> str:
    """Return a parameter that the operator must give, with the first of the values that it may have."""
    shown = [*values[:_SHOWN], *(["…"] if len(values) > _SHOWN else [])]
    return f"{name} ({' | '.join(shown)})" if values else name


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
