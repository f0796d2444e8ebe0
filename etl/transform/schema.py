"""The tables of a dataset, derived from the API shape of its operation.

Each leaf of a structure becomes a column. A map becomes a MAP column and a child table with one row per entry, a list
of structures a LIST<STRUCT> column and a child table, a list of scalars a LIST column. Types come from the model, never
from values: a column that is null in every row keeps its type. The data dictionary reads the metadata of the fields.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa

from etl.errors import ConfigError, did_you_mean
from etl.model import Dataset, Member, Operation, Rule, key_leaves, leaves
from etl.names import OWN_COLUMNS

TIMESTAMP = pa.timestamp("us", tz="UTC")
_SCALARS: Mapping[str, pa.DataType] = {
    "string": pa.string(), "integer": pa.int32(), "long": pa.int64(), "float": pa.float64(), "double": pa.float64(),
    "boolean": pa.bool_(), "timestamp": TIMESTAMP, "blob": pa.binary(), "document": pa.string(),
}  # fmt: skip


def field(name: str, kind: pa.DataType, description: str, *, nullable: bool = True, **facts: object) -> pa.Field:
    """Return an Arrow field with its description and its non-empty facts as metadata.

    Facts are api_path, unit, enum (a JSON list), sensitive, and in a change log also dataset.
    """
    metadata = {"description": description}
    for key, value in facts.items():
        if value:
            metadata[key] = value if isinstance(value, str) else json.dumps(value)
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


SNAPSHOT_DATE = field("snapshot_date", pa.date32(), "UTC date that the snapshot is for; the partition of the table")
WHERE = (
    field("account_id", pa.string(), "AWS account that was listed"),
    field("region", pa.string(), "AWS Region that was listed"),
)
_FROM = (
    field("run_id", pa.string(), "run that wrote the row: see etl_runs"),
    field("slice_id", pa.string(), "slice of the run that the row comes from: see etl_slices"),
    field("page_number", pa.int32(), "page of the slice that the record arrived on, from 1: see etl_pages"),
    field("extracted_at", TIMESTAMP, "when that page was received"),
)
DIGEST = field("record_sha256", pa.string(), "SHA-256 of the whole record as it arrived: its key, as no column is one")
EXTRA = field("extra", pa.string(), "members that the service model does not know, as JSON text; null if none")
REJECTS = pa.schema(
    [
        SNAPSHOT_DATE,
        field("dataset", pa.string(), "dataset that the record was listed for"),
        *WHERE,
        field("record_number", pa.int32(), "position of the record on its page, from 0"),
        field("reason", pa.string(), "what does not fit: place, found, expected"),
        field("record", pa.string(), "the whole record as JSON text, as it arrived"),
        *_FROM,
    ]
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a record: the API path and shape of its values, and its privacy rules.

    If the column is a map and arrives as a list, `entry` has the places of key and value in the structures of the list.
    """

    field: pa.Field
    path: tuple[str, ...]
    member: Member
    rule: Rule = "allow"
    entry_rules: Mapping[str, Rule] = dataclasses.field(default_factory=dict)
    entry: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """The table of the entries of a map or a list of structures: one row per entry."""

    table: str
    source: Column
    columns: tuple[Column, ...]
    entry: pa.Field
    """Identifies an entry within its record: the key in a map, the position in a list."""


@dataclass(frozen=True)
class Layout:
    """The tables of one dataset, and how records fill them.

    `parents` has a column for each parameter of the slice, with the parameter: (studio_id, studioId). `hidden` names
    the child tables that would show what a rule hides. `key` is the key of the hashes that privacy rules ask for.
    """

    dataset: Dataset
    operation: Operation
    parents: tuple[tuple[pa.Field, str], ...]
    columns: tuple[Column, ...]
    children: tuple[Child, ...]
    hidden: tuple[str, ...] = ()
    key: bytes | None = None

    @property
    def extra_rule(self) -> Rule:
        """Return the rule for members that the service model does not know."""
        return self.dataset.privacy.get(EXTRA.name, self.dataset.privacy.get(f"*.{EXTRA.name}", "allow"))

    @cached_property
    def schema(self) -> pa.Schema:
        """Return the schema of the dataset's own table."""
        return pa.schema([*self._head(), *(column.field for column in (*self.columns, *self.digest)), EXTRA, *_FROM])

    @cached_property
    def schemas(self) -> dict[str, pa.Schema]:
        """Return the schema of each table: children first, the dataset's own table last."""
        head = [*self._head(), *(column.field for column in self.key_columns)]
        return {
            **{
                child.table: pa.schema([*head, child.entry, *(column.field for column in child.columns), *_FROM])
                for child in self.children
            },
            self.dataset.name: self.schema,
        }

    @cached_property
    def changes(self) -> pa.Schema:
        """Return the schema of the change log: whole records, and what has changed in them."""
        own = {column.field.name: column.field for column in (*self.columns, *self.digest)}
        for name in (column.field.name for column in self.key_columns):
            own[name] = own[name].with_metadata({**own[name].metadata, b"key": b"true"})
        kinds = ["appeared", "changed", "vanished"]
        about = "what is different from the complete snapshot before"
        return pa.schema(
            [
                *self._head(),
                *own.values(),
                EXTRA,
                field("change", pa.string(), about, enum=kinds, dataset=self.dataset.name),
                field("changed_columns", pa.list_(pa.string()), "names of the columns that changed; null if all did"),
                field(
                    "old_values",
                    pa.map_(pa.string(), pa.string()),
                    "changed column -> the value before, as JSON text; the other columns hold the new values",
                ),
                field("previous_date", pa.date32(), "snapshot that this one was compared with; null for the first"),
                field("run_id", pa.string(), "run whose walk saw these values: see etl_runs"),
                _FROM[1],
            ]
        )

    @property
    def changes_table(self) -> str:
        """Return the name of the change log."""
        return f"{self.dataset.item_name}_changes"

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """Return the columns that identify a record within its slice."""
        by_path = {column.path: column for column in self.columns}
        found = key_leaves(self.dataset.key, self.operation.record).values()
        return tuple(by_path[path] for path, _ in found) or self.digest

    @property
    def digest(self) -> tuple[Column, ...]:
        """Return the column with the digest of the whole record; none if other columns are the key."""
        if self.dataset.key:
            return ()
        return (Column(DIGEST, (), Member(name=DIGEST.name, api_name="", kind="string")),)

    def _head(self) -> list[pa.Field]:
        return [SNAPSHOT_DATE, *WHERE, *(column for column, _ in self.parents)]


def layout_of(dataset: Dataset, operation: Operation, key: bytes | None = None) -> Layout:
    """Return the tables of a dataset; `key` is the key for hashes.

    Raises:
        ConfigError: two members would become the same column, a privacy rule names no column, or the digest of whole
            records would tell what such a rule hides.
    """
    parameters = dataset.slice_columns
    parents = tuple(
        (field(column, pa.string(), f"{parameter} that the slice was listed for"), parameter)
        for parameter, column in parameters.items()
    )
    keys = [*key_leaves(dataset.key, operation.record)] or [DIGEST.name]
    taken = {*parameters.values(), *OWN_COLUMNS, *([] if dataset.key else keys)}
    found = _columns(operation.record, f"{operation.result_key}[]", taken, dataset.units, tags=dataset.tags)
    columns = tuple(_with_rules(dataset, found))
    taken_above = frozenset((*keys, *parameters.values()))
    children, hidden = [], []
    for source in columns:
        element = source.member.element
        has_entries = source.member.kind == "map" or (element is not None and element.kind == "structure")
        if not has_entries:
            continue
        table = f"{dataset.item_name}_{source.field.name}"
        if source.rule == "allow":
            entry_columns = tuple(_entry_columns(source, taken_above))
            children.append(Child(table, source, entry_columns, _entry_field(source, taken_above)))
        else:
            hidden.append(table)
    result = Layout(dataset, operation, parents, columns, tuple(children), tuple(hidden), key)
    ruled = [column.field.name for column in columns if column.rule != "allow" or column.entry_rules]
    ruled += [EXTRA.name] if result.extra_rule != "allow" else []
    if ruled and not dataset.key:
        raise ConfigError(
            f"privacy: {dataset.name}.{ruled[0]} has a rule, and the key of {dataset.name} is the whole record: its "
            "digest would tell what the rule hides; name the columns of the key"
        )
    for table, schema in result.schemas.items():
        names = [name.lower() for name in schema.names]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigError(f"dataset {dataset.name}: table {table} would have {', '.join(sorted(twice))} twice")
    return result


def _with_rules(dataset: Dataset, columns: Iterable[Column]) -> Iterable[Column]:
    """Yield the columns with their privacy rules; raise a ConfigError if a rule names no column."""
    columns = list(columns)
    by_name = {column.field.name: column for column in columns}
    for place, rule in dataset.privacy.items():
        name, _, entry = place.removeprefix("*.").partition(".")
        if (name, entry) == (EXTRA.name, ""):  # members that no column is for
            continue  # see `Layout.extra_rule`
        column = by_name.get(name)
        if column is None or (entry and column.member.kind != "map"):
            if place.startswith("*."):
                continue
            others = f"does not exist{did_you_mean(name, by_name)}; expected one of {', '.join([*by_name, EXTRA.name])}"
            what = "is not a map" if column else others
            raise ConfigError(f"privacy: {dataset.name}.{place}: column {name!r} {what}")
        if entry and (column.member.element is None or column.member.element.kind != "string"):
            raise ConfigError(
                f"privacy: {dataset.name}.{place}: the values of {name} are not texts; set a rule for the whole column"
            )
        if entry:
            by_name[name] = replace(column, entry_rules={**column.entry_rules, entry: rule})
        else:
            by_name[name] = replace(column, rule=rule)
    for former in columns:  # two columns of one name stay two, so that `layout_of` can refuse them
        column = by_name[former.field.name]
        kind = pa.string() if column.rule == "hash" else column.field.type
        facts = {**column.field.metadata, **({b"privacy": column.rule.encode()} if column.rule != "allow" else {})}
        yield replace(column, field=pa.field(column.field.name, kind, metadata=facts))


def arrow_type(member: Member) -> pa.DataType:
    """Return the Arrow type of a member and everything below it."""
    if member.kind == "structure":
        return pa.struct([pa.field(child.name, arrow_type(child)) for child in member.members])
    if member.element is None:
        return _SCALARS[member.kind]
    inner = arrow_type(member.element)
    return pa.map_(pa.string(), inner) if member.kind == "map" else pa.list_(inner)


def _columns(
    record: Member, api_path: str, taken: Iterable[str], units: Mapping[str, str], *, tags: str = "list"
) -> Iterable[Column]:
    """Yield a column for each leaf. It is called api_<name> if the name is taken by a column of all tables."""
    for name, path, member in leaves(record):
        column = f"api_{name}" if name in taken else name
        entry = tag_entry(name, member) if tags == "map" else None
        if entry and member.element:
            element = member.element.members[entry[1]]
            member = member.model_copy(update={"kind": "map", "element": element})  # noqa: PLW2901
        field_ = _leaf_field(column, f"{api_path}.{path}", member, units)
        yield Column(field_, tuple(path.split(".")), member, entry=entry)


def tag_entry(name: str, member: Member) -> tuple[int, int] | None:
    """Return the places of key and value in each structure of a list of tags; None if the member is none.

    Services spell them Key and Value, key and value, or TagKey and TagValue.
    """
    if not re.search(r"(^|_)tags?(_|$)", name) or member.kind != "list" or member.element is None:
        return None
    found = [inner.name.removeprefix("tag_") if inner.kind == "string" else "" for inner in member.element.members]
    return (found.index("key"), found.index("value")) if sorted(found) == ["key", "value"] else None


def _entry_columns(source: Column, taken: frozenset[str]) -> Iterable[Column]:
    """Yield the columns of a child table that hold the value of an entry."""
    element = source.member.element
    assert element is not None
    api_path = source.field.metadata[b"api_path"].decode() + ("{}" if source.member.kind == "map" else "[]")
    if element.kind == "structure":
        own = (column.name for column in (SNAPSHOT_DATE, *WHERE, *_FROM))
        yield from _columns(element, api_path, {"key", "position", *taken, *own}, {})
    else:
        meaning = element.documentation or f"value of the entry of {source.field.name}"
        value = element.model_copy(update={"documentation": meaning})
        yield Column(_leaf_field(_entry_name("value", taken), api_path, value, {}), (), element)


def _entry_field(source: Column, taken: frozenset[str]) -> pa.Field:
    name = source.field.name
    if source.member.kind == "map":
        return field(_entry_name("key", taken), pa.string(), f"key of the entry of {name}; case-sensitive")
    return field(_entry_name("position", taken), pa.int32(), f"place of the entry in {name}, from 0")


def _entry_name(name: str, taken: frozenset[str]) -> str:
    """Return a column name that the key of a record does not have: objects in S3, for instance, have a `key`."""
    return f"entry_{name}" if name in taken else name


def _leaf_field(name: str, api_path: str, member: Member, units: Mapping[str, str]) -> pa.Field:
    enum = member.enum or (member.element.enum if member.element else ())
    return field(
        name,
        arrow_type(member),
        member.documentation or f"{member.api_name}, of which the service model says nothing more",
        api_path=api_path,
        unit=units.get(name, ""),
        enum=list(enum),
        sensitive="true" if member.sensitive else "",
    )
