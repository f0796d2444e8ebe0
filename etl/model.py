"""The frozen values that travel between the rooms.

What a person writes (`Dataset`) and what crosses a file (`Member`) are pydantic models, so that they are validated
and serialised in one way; what only travels in memory is a dataclass.
"""

import datetime as dt
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

CATALOG_NAME = "warehouse.duckdb"
"""Of the file in the warehouse that people connect to."""
CATALOG_TABLES = ("prices",)
"""What is in it besides the tables of the warehouse, what `sql/` makes, and what begins with `etl_`."""

ShapeKind = Literal[
    "string",
    "integer",
    "long",
    "float",
    "double",
    "boolean",
    "timestamp",
    "blob",
    "structure",
    "map",
    "list",
    "document",
]
"""The types of a botocore shape. A document is any JSON: untyped in the model, a structure that holds itself, or one
without members, which no columnar format can store."""

KEY_KINDS: frozenset[ShapeKind] = frozenset({"string", "integer", "long", "boolean", "timestamp", "blob"})
"""Those whose values can identify a record."""

BLANK = "…"
"""Stands for the value of a parameter that only the operator knows."""

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Where a word begins within a name: DBInstanceId has three."""

Rule = Literal["allow", "hash", "drop"]
"""What privacy asks of a column, or of one entry of a map: keep it, keep a keyed hash of it, keep nothing."""


class Frozen(BaseModel):
    """Base of the pydantic values: immutable, and unknown members are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Member(Frozen):
    """One member of an API shape: what the service model says about it, without botocore.

    `api_name` is the name on the wire; `name` is its snake_case form and part of a column name. A structure has
    `members`; a list has one `element`; a map has a string `key` and an `element`.
    """

    name: str
    api_name: str
    kind: ShapeKind
    members: tuple["Member", ...] = ()
    element: "Member | None" = None
    enum: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    sensitive: bool = False
    required: bool = False
    documentation: str = ""


class ForEach(Frozen):
    """The parent of a dataset: one slice for each of the parent's records.

    `bind` maps a parameter of the operation to a column of the parent: `{studioId: studio_id}`.
    """

    dataset: str
    bind: Mapping[str, str] = Field(min_length=1)


class Dataset(Frozen):
    """One list operation exported to one table. This is all that the machinery knows about a service.

    `key` names the columns that identify a record within a slice; `order_by` the column whose newest value wins
    when a key is seen twice in one walk. `item` is the singular that child tables are named after. `parameters` are
    sent with every request; `page_size` asks for pages of so many records. `result_key` chooses the list where a
    response has several, as a path such as `Reservations[].Instances`; `allow_missing_list` takes a response
    without it for an empty page. `privacy` has rules by column (`owned_by`) and by entry of a map (`tags.Artist`); one
    that begins with `*.` is for the column of that name if there is any. `label` is the column that people know a
    record by; flat views have it beside the key. `bi_name` is the dataset's name in the schema `bi`.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    service: str
    operation: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    key: tuple[str, ...] = Field(min_length=1)
    order_by: str | None = None
    item: str = ""
    for_each: ForEach | None = None
    parameters: Mapping[str, Any] = {}
    result_key: str | None = None
    page_size: int | None = Field(None, ge=1)
    allow_missing_list: bool = False
    units: Mapping[str, str] = {}
    privacy: Mapping[str, Rule] = {}
    label: str | None = None
    bi_name: str | None = Field(None, pattern=r"^[a-z][a-z0-9_]{0,62}$")

    @property
    def item_name(self) -> str:
        """Return the singular of the dataset's name, for child tables: `streaming_session`."""
        return self.item or self.name.removesuffix("s")

    @property
    def slice_columns(self) -> dict[str, str]:
        """Return the parameters that every slice has, each with the column of its value: studioId, studio_id."""
        names = (*self.parameters, *(self.for_each.bind if self.for_each else ()))
        return {name: snake_case(name) for name in names}

    @property
    def fixed_parents(self) -> dict[str, str]:
        """Return the configured parameters as text, for slices to be told apart by."""
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in self.parameters.items()}


class Pager(Frozen):
    """How pages are found in what botocore's parser returns: JMESPath expressions, from its paginator settings.

    `result` leads to the list; of plain values where `is_plain`, each then a record with the one member `value`.
    botocore counts the list if it `is_primary`; a page without it is malformed if it `is_always_there`. A body that
    has none of the `wire_members` is not a page of this operation.
    """

    protocol: str
    result: str
    input_tokens: tuple[str, ...]
    output_tokens: tuple[str, ...]
    more_results: str | None = None
    is_plain: bool = False
    is_primary: bool = True
    is_always_there: bool = False
    wire_members: tuple[str, ...] = ()


class Operation(Frozen):
    """What the service model says about a dataset's operation, without botocore.

    `record` is the structure of one item of the result list. `result_key` and `token_key` are names in the body of
    the response; `result_member` and `token_member` what botocore's paginator calls the same two: some services spell
    them differently. `input_token` is the token's name in the request. `parameters` are the names that a request may
    carry, tokens and page sizes left out. With a `pager`, pages hold what botocore's parser returned, as JSON, and the
    names of members are those of the model; without, bodies as they arrived.
    """

    service: str
    name: str
    api_version: str
    result_key: str
    token_key: str
    result_member: str
    token_member: str
    input_token: str
    record: Member
    parameters: tuple[str, ...]
    required: tuple[str, ...] = ()
    documentation: str = ""
    pager: Pager | None = None

    @cached_property
    def model_hash(self) -> str:
        """Return a digest of everything above: it changes when the service model does."""
        return digest(self.model_dump(mode="json"))


class RunState(StrEnum):
    """What becomes of a run. Only an open one is gone on with."""

    OPEN = "open"
    IMPORTING = "importing"
    PUBLISHED = "published"
    FAILED = "failed"
    ABANDONED = "abandoned"


class SliceState(StrEnum):
    """How far the walk of a slice has come."""

    WALKING = "walking"
    COMPLETE = "complete"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Slice:
    """One independent chain of pages of a dataset.

    `parents` are the parameters bound from a parent record, `filters` those the operator asked for. Both are sent;
    only the first say which part of the world this is.
    """

    dataset: str
    account_id: str
    region: str
    parents: Mapping[str, str] = field(default_factory=dict)
    filters: Mapping[str, str] = field(default_factory=dict)

    @property
    def slice_id(self) -> str:
        """Return the identity of the slice across runs: 16 hexadecimal digits."""
        return digest([self.dataset, self.account_id, self.region, dict(self.parents), dict(self.filters)])[:16]

    @property
    def parameters(self) -> dict[str, str]:
        """Return what the operation is called with, tokens apart."""
        return {**self.parents, **self.filters}

    def __str__(self) -> str:
        """Return the words that messages name the slice with."""
        where = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return f"{self.dataset}[{where or self.region}]"


@dataclass(frozen=True, slots=True)
class Page:
    """One response, proven to be a page.

    `body` is the JSON as it arrived and holds `records` items; those in `[first, stop)` belong to the walk (the
    others lie before a starting token or after the maximum that was asked for). `next_starting_token` is botocore's
    encoding of where the walk goes on; None after the last page.
    """

    number: int
    body: bytes
    records: int
    first: int
    stop: int
    next_starting_token: str | None
    request_id: str
    retries: int
    received_at: dt.datetime

    @property
    def kept(self) -> int:
        """Return how many records of the page belong to the walk."""
        return self.stop - self.first


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a walk goes on: everything before `starting_token` is durable.

    `pages` counts what is stored; `seen` holds every starting token that the attempt has followed.
    """

    starting_token: str | None = None
    pages: int = 0
    seen: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one run publishes of one dataset: these slices, for this date."""

    run_id: str
    snapshot_date: dt.date
    dataset: Dataset
    operation: Operation


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the ledger knows about its run. `seconds` adds up over the invocations that worked on it.

    `request` is the digest of what was asked for; `worked_until` is when the last invocation noted its time.
    """

    run_id: str
    snapshot_date: dt.date
    started_at: dt.datetime
    request: str
    account_id: str | None
    state: RunState
    seconds: float
    invocations: int
    worked_until: dt.datetime


@dataclass(frozen=True, slots=True)
class SliceFacts:
    """What the ledger knows about one slice of its run, pages summed up.

    `records` counts those that belong to the walk; `observed_from` and `observed_until` are when its first and last
    page arrived: the window in which the listing was seen. `publication` is the number of the last publication
    that it went into, `published_at` when; None before.
    """

    slice: Slice
    attempt: int
    state: SliceState
    first_starting_token: str | None
    starting_token: str | None
    error: str | None
    resumable: bool
    publication: int | None
    published_at: dt.datetime | None
    partial: bool
    pages: int
    records: int
    retries: int
    observed_from: dt.datetime | None
    observed_until: dt.datetime | None
    rows: int | None
    rejects: int | None
    duplicates: int | None
    drift: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Tell whether every page of the slice, from the first to the last, is in the ledger."""
        return self.state is SliceState.COMPLETE and self.first_starting_token is None


def digest(value: object) -> str:
    """Return the SHA-256, in hexadecimal, of a JSON-able value; equal values have equal digests."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def snake_case(name: str) -> str:
    """Return the name of a column for one of a parameter or member: DBInstanceId, db_instance_id."""
    return _WORDS.sub("_", name).lower()


def tag_column(tag: str) -> str:
    """Return the name of the column of a pinned tag: Artist level, tag_artist_level."""
    return "tag_" + re.sub(r"\W+", "_", tag).strip("_").lower()


def leaves(member: Member) -> Iterator[tuple[str, str, Member]]:
    """Yield (column name, API path, member) for each leaf below a structure, structures dissolved.

    A column is called by the names on its path: volumeConfiguration.size, volume_configuration_size. Where two would
    be called the same, those that lie deeper than the top have two underscores at each step: mapping__template.
    """
    found = list(_leaves(member, (), ()))
    names = Counter("_".join(words).lower() for words, _, _ in found)
    for words, path, leaf in found:
        name = "_".join(words)
        yield "__".join(words) if names[name.lower()] > 1 else name, ".".join(path), leaf


def _leaves(
    member: Member, words: tuple[str, ...], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], Member]]:
    for child in member.members:
        below = (*words, child.name), (*path, child.api_name)
        if child.kind == "structure" and child.members:
            yield from _leaves(child, *below)
        else:
            yield *below, child
