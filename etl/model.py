"""The frozen values that travel between the rooms.

Values that a person writes (`Dataset`) or that are stored in a file (`Member`) are pydantic models, which validates and
serialises all of them in the same way. Values that stay in memory are dataclasses.
"""

import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from etl.names import parameter_column

CATALOG_NAME = "warehouse.duckdb"
"""Name of the DuckDB file in the warehouse that people connect to."""
CATALOG_TABLES = ("prices",)
"""Tables that only the catalog has: they are not committed, not made by `sql/`, and not named `etl_*`."""

KeyKind = Literal["string", "integer", "long", "boolean", "timestamp", "blob"]
ShapeKind = Literal[KeyKind, "float", "double", "structure", "map", "list", "document"]
"""The types of botocore shapes. A `document` is stored as JSON: the model gives it no type, or it is a structure that
contains itself or has no members, which no columnar format can store."""
KEY_KINDS: frozenset[ShapeKind] = frozenset(get_args(KeyKind))
"""Kinds of plain values: they need no other form to be compared."""

BLANK = "…"
"""Placeholder for a parameter value that only the operator knows."""

_A_NAME = "small letters, digits and _, such as my_volumes"
"""What is expected of a name, in messages."""
HASHED = "[0-9a-f]{64}"
"""Pattern of a value that privacy has hashed: SHA-256 in hexadecimal."""

PriceItem = Literal["instance_hour", "volume_gib_month", "volume_iops_month", "volume_throughput_month"]
"""What has a price: an hour of an instance, and a month of a GiB, of an operation/s and of a MiB/s of a volume."""

Rule = Literal["allow", "hash", "drop"]
"""Privacy of a column, or of one entry of a map: keep the value, keep a keyed hash of it, or keep nothing."""


class Frozen(BaseModel):
    """Base of the pydantic values. They are immutable, and unknown members are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Member(Frozen):
    """One member of an API shape, as the service model describes it.

    `api_name` is the name in requests and responses; `name` is its snake_case form, which is part of a column name. A
    structure has `members`; a list has one `element`; a map has string keys and an `element`.
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
    """The parent of a dataset. The dataset has one slice for each record of the parent.

    `bind` maps parameters of the operation to columns of the parent: `{studioId: studio_id}`. `batch` names one of them
    that takes a list, and how many values a request may have: `{services: 10}`. Then there is one slice for all records
    that differ in this value only, and its pages ask for batch after batch.
    """

    dataset: str
    bind: Mapping[str, str] = Field(min_length=1)
    # Left out where it is not set, as `paginate` below.
    batch: Mapping[str, Annotated[int, Field(ge=1)]] = Field({}, max_length=1, exclude_if=lambda given: not given)

    @model_validator(mode="after")
    def _check_batch(self) -> Self:
        if unbound := self.batch.keys() - self.bind.keys():
            raise ValueError(f"batch names {', '.join(unbound)}; expected one of bind: {', '.join(self.bind)}")
        return self

    @property
    def of_slice(self) -> dict[str, str]:
        """Return the bindings that tell slices apart: all but the batch."""
        return {name: column for name, column in self.bind.items() if name not in self.batch}


class Paginate(Frozen):
    """How an operation pages, in the words of botocore's paginator definitions, for those that have none.

    Attributes:
        input_token: the parameter that takes the token; several if there are several. None: there is one page.
        output_token: where the token is in a response: JMESPath, as many as `input_token`.
        result_key: the list; default: the dataset's `result_key`, or the only list of the response.
        limit_key: the parameter that takes the size of a page.
        more_results: where a response says that more follows: JMESPath.
        ends_with_same_token: after the last page, the service returns the token that it was sent.
    """

    input_token: str | tuple[str, ...] = ()
    output_token: str | tuple[str, ...] = ()
    result_key: str | None = None
    limit_key: str | None = None
    more_results: str | None = None
    ends_with_same_token: bool = False

    @model_validator(mode="after")
    def _check_tokens(self) -> Self:
        if len(self.input_tokens) != len(self.output_tokens):
            raise ValueError("expected equally many tokens in input_token and output_token")
        if not self.input_tokens and (self.ends_with_same_token or self.more_results):
            raise ValueError(
                "paginate: without input_token and output_token, there is one page and nothing that follows"
            )
        return self

    @property
    def input_tokens(self) -> tuple[str, ...]:
        """Return the parameters that take a token."""
        return (self.input_token,) if isinstance(self.input_token, str) else self.input_token

    @property
    def output_tokens(self) -> tuple[str, ...]:
        """Return the paths to the tokens in a response."""
        return (self.output_token,) if isinstance(self.output_token, str) else self.output_token


def _with_texts(value: Any) -> Any:
    """Return a value of YAML with instants and dates as ISO-8601 texts, as requests have them."""
    if isinstance(value, dict):
        return {name: _with_texts(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_texts(inner) for inner in value]
    if isinstance(value, dt.datetime) and not value.tzinfo:  # it is in UTC. Source: YAML, timestamp type
        value = value.replace(tzinfo=dt.UTC)
    return value.isoformat() if isinstance(value, dt.date) else value


class Dataset(Frozen):
    """One list operation and the table that it fills. The rest of the code knows nothing else about a service.

    Attributes:
        key: the columns that identify a record within a slice; a structure stands for all of its columns. Some may be
            null, but not all. None: the whole record is its key.
        order_by: if a key arrives twice in one walk, the record with the newest value of this column wins.
        item: the singular of the name, for child tables; default: the name without its last s.
        parameters: sent with every request.
        result_key: which list to take if a response has several; a path such as `Reservations[].Instances`. The path to
            a structure takes it as the only record of a page.
        paginate: how the operation pages, instead of what botocore or the names in the service model say.
        page_size: asks for pages of this many records.
        tolerate: codes of errors, such as AccessDenied, with which a slice may be refused. Such a slice is skipped.
        allow_missing_list: a response without the list is an empty page, not an error.
        privacy: rules by column (`owned_by`) or entry of a map (`tags.Artist`). A rule for `*.owned_by` applies if the
            dataset has that column.
        label: the column that people know a record by. Flat views show it beside the key.
        tags: `map` stores tags that arrive as a list of keys and values as a map, with a table of keys and values.
        bi_name: the dataset's name in the schema `bi`.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$", examples=[_A_NAME])
    service: str
    operation: str = Field(pattern=r"^[a-z][a-z0-9_]*$", examples=["the method of boto3, such as describe_volumes"])
    key: tuple[str, ...]
    order_by: str | None = None
    item: str = ""
    for_each: ForEach | None = None
    parameters: Annotated[Mapping[str, Any], BeforeValidator(_with_texts)] = {}
    result_key: str | None = None
    # Left out where it is not set, so that digests of former definitions stay what they are.
    paginate: Paginate | None = Field(None, exclude_if=lambda given: given is None)
    page_size: int | None = Field(None, ge=1)
    tolerate: tuple[str, ...] = ()
    allow_missing_list: bool = False
    units: Mapping[str, str] = {}
    privacy: Mapping[str, Rule] = {}
    label: str | None = None
    tags: Literal["list", "map"] = "list"
    bi_name: str | None = Field(None, pattern=r"^[a-z][a-z0-9_]{0,62}$", examples=[_A_NAME])

    @property
    def item_name(self) -> str:
        """Return the singular of the dataset's name, for child tables: `streaming_session`."""
        return self.item or self.name.removesuffix("s")

    @property
    def slice_columns(self) -> dict[str, str]:
        """Return the parameters of every slice, each with the column of its value: `{studioId: studio_id}`."""
        names = (*self.parameters, *(self.for_each.of_slice if self.for_each else ()))
        return {name: parameter_column(name) for name in names}

    @property
    def identity(self) -> dict[str, Any]:
        """Return what decides on pages, as JSON. A setting that a former version did not know is left out if unused."""
        return self.model_dump(mode="json", exclude={"tolerate", *(["tags"] if self.tags == "list" else [])})

    @property
    def fixed_parents(self) -> dict[str, str]:
        """Return the configured parameters as text; they are part of the identity of a slice."""
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in self.parameters.items()}


class Pager(Frozen):
    """Where to find lists and tokens in a response that botocore has parsed: JMESPath from its paginator settings.

    `result` leads to the list, or to a structure that is the only record. If it `is_plain`, the list holds plain
    values, and each becomes a record with the one member `value`. botocore's MaxItems counts this list if it
    `is_primary`. If it `is_always_there`, a page without it is malformed. A body without any of the `wire_members` is
    not a page of this operation.
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
    """A dataset's operation, as the service model describes it.

    `record` is the structure of one item of the result list. `result_key` and `token_key` name the list and the token
    in the body of a response; `result_member` and `token_member` are botocore's names for them, which some services
    spell differently. `input_token` is the token's name in the request. If there is one page, a token has no name.
    `parameters` are the names that a request may have, except tokens and page sizes; `page_size` is the largest, if a
    request must say one. Without a `pager`, pages hold bodies as they arrived. With one, they hold the response as
    botocore parsed it, as JSON, with the member names of the model.
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
    page_size: int | None = None

    @cached_property
    def model_hash(self) -> str:
        """Return a digest of all fields. It changes when the service model changes."""
        # What a former version began, which knew no page size, must go on.
        return digest(self.model_dump(mode="json", exclude=None if self.page_size else {"page_size"}))


class RunState(StrEnum):
    """The state of a run. Only an open run can be continued."""

    OPEN = "open"
    IMPORTING = "importing"
    PUBLISHED = "published"
    FAILED = "failed"
    ABANDONED = "abandoned"


class SliceState(StrEnum):
    """The state of a slice's walk. A skipped slice was refused with an error that its dataset tolerates."""

    WALKING = "walking"
    COMPLETE = "complete"
    FAILED = "failed"
    GONE = "gone"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Slice:
    """One independent chain of pages of a dataset.

    Both kinds of parameters are sent: `parents`, the configured ones and those from a parent record, and `filters`,
    which the operator chose. A slice with filters is a part of the listing that its parents name.
    """

    dataset: str
    account_id: str
    region: str
    parents: Mapping[str, str] = field(default_factory=dict)
    filters: Mapping[str, str] = field(default_factory=dict)
    is_of_many: bool = field(default=False, compare=False)  # the run has several places: messages name each

    @cached_property
    def slice_id(self) -> str:
        """Return the identity of the slice across runs: 16 hexadecimal digits."""
        return digest([self.dataset, self.account_id, self.region, dict(self.parents), dict(self.filters)])[:16]

    @property
    def parameters(self) -> dict[str, str]:
        """Return the parameters of a request, except tokens."""
        return {**self.parents, **self.filters}

    def __str__(self) -> str:
        """Return the name of the slice in messages."""
        where = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        place = f"{self.account_id}, {self.region}{', ' if where else ''}" if self.is_of_many else ""
        return f"{self.dataset}[{place}{where or ('' if place else self.region)}]"


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of a night that one of several runs publishes: of `count` equal ranges of slice ids, that of `number`.

    Numbers begin at 1. The only one of one range is the whole night.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> "Shard":
        """Return the shard that has this text."""
        return cls(*map(int, text.split("/"))) if text else cls()

    @property
    def text(self) -> str | None:
        """Return it as `--shard` takes it: 2/8. None for the whole night."""
        return f"{self.number}/{self.count}" if self.count > 1 else None

    def owns(self, slice_: Slice) -> bool:
        """Tell whether the id of a slice lies in the range. Every slice belongs to exactly one shard of a night."""
        return int(slice_.slice_id, 16) * self.count >> 64 == self.number - 1


WHOLE = Shard()
"""The whole night."""


@dataclass(frozen=True, slots=True)
class Page:
    """One response that is proven to be a page.

    `body` is its JSON, a list of `records` items. Items `first` to `stop - 1` belong to the walk; the others lie before
    its starting token or after its maximum. `next_starting_token` says, in botocore's encoding, where the walk
    continues; None after the last page.
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
        """Return the number of records that belong to the walk."""
        return self.stop - self.first


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a walk continues. Everything before `starting_token` is durable.

    `pages` is the number of stored pages. `seen` holds every starting token that the attempt has used.
    """

    starting_token: str | None = None
    pages: int = 0
    seen: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Price:
    """What an item costs. Only an `instance_hour` has an instance type. No Region: every one; no date: always."""

    item: PriceItem
    ec2_instance_type: str | None
    region: str | None
    valid_from: dt.date | None
    price: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The run, the date and the dataset that published rows belong to."""

    run_id: str
    snapshot_date: dt.date
    dataset: Dataset
    operation: Operation


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the ledger knows about its run.

    `request` is a digest of the request that began it. `shard` is the part of the night that it publishes. `seconds` is
    the sum over all invocations that worked on it; the last of them noted its time at `worked_until`.
    """

    run_id: str
    snapshot_date: dt.date
    started_at: dt.datetime
    request: str
    shard: Shard
    account_id: str | None
    state: RunState
    seconds: float
    invocations: int
    worked_until: dt.datetime


@dataclass(frozen=True, slots=True)
class SliceFacts:
    """What the ledger knows about one slice of its run.

    `records` counts the records that belong to the walk. The first page arrived at `observed_from`, the last at
    `observed_until`. `pages_sha256` is a digest of all its pages; None without one. `publication` is the number, in
    the warehouse, of the slice's last publication, at `published_at`; None before the first. `table_rows` has the rows
    that it wrote to each table; it is empty if a former version published. A slice that is not `is_wanted` is walked
    only because others come from it: this run never publishes it.
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
    table_rows: Mapping[str, int]
    pages_sha256: str | None
    is_wanted: bool

    @property
    def whole(self) -> bool:
        """Tell whether the ledger has every page of the slice, from the first to the last."""
        return self.state is SliceState.COMPLETE and self.first_starting_token is None

    @property
    def is_owed(self) -> bool:
        """Tell whether the slice can be published, and neither was nor is held back."""
        return self.whole and self.is_wanted and self.publication is None and not self.error


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON value, in hexadecimal. Equal values have equal digests."""
    return hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()


def leaves(member: Member) -> Iterator[tuple[str, str, Member]]:
    """Yield (column name, API path, member) for each leaf below a structure.

    The column name joins the names on the path: volumeConfiguration.size becomes volume_configuration_size. If leaves
    would share a name, the names on deeper paths are joined with two underscores instead: mapping__template.
    """
    paths = list(_paths(member))
    names = Counter("_".join(child.name for child in path).lower() for path in paths)
    for path in paths:
        words = [child.name for child in path]
        name = "_".join(words)
        yield (
            "__".join(words) if names[name.lower()] > 1 else name,
            ".".join(child.api_name for child in path),
            path[-1],
        )


def key_leaves(key: Sequence[str], record: Member) -> dict[str, tuple[tuple[str, ...], Member]]:
    """Return column -> API path and member of the leaves that a key names. A structure stands for those below it."""
    whole = {member.name: member.api_name for member in record.members}
    found = {name: (tuple(path.split(".")), member) for name, path, member in leaves(record)}
    return {
        name: (path, member)
        for column in key
        for name, (path, member) in found.items()
        if name == column or (column not in found and path[0] == whole.get(column))
    }


def _paths(member: Member) -> Iterator[tuple[Member, ...]]:
    """Yield the members on the way to each leaf, the leaf last."""
    for child in member.members:
        below = _paths(child) if child.kind == "structure" and child.members else [()]
        yield from ((child, *path) for path in below)
