"""Every operation of the installed botocore that lists something: it has tables or a true reason why not.

For each that has tables, two records are made from the shape, one with every member and one with nothing but its key.
They go through transform, and are read back equal: from Parquet, if botocore has a paginator, and for one in four of
the others; for a sample, and for all with NIMBLE_ETL_EVERY_PAGINATOR=commit in the environment, from Delta tables.

The values and what must become of them come from botocore's shapes directly, not by way of `etl`.
"""

import datetime as dt
import hashlib
import io
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore import xform_name
from deltalake import Schema
from support.paginators import REASONS, SESSION, counted, definitions, listed, reproduced, services
from support.shapes import DATE, page, part, snapshot

from etl.extract.datasets import hints
from etl.extract.paging import UnsupportedError, as_tuple, derived
from etl.extract.service_model import describe_operation
from etl.load.delta.parquet import OPTIONS
from etl.load.delta.stage import Stage
from etl.load.delta.tables import Replacement, Tables
from etl.storage.disk import Disk
from etl.transform.batches import flatten

COMMIT_ALL = os.environ.get("NIMBLE_ETL_EVERY_PAGINATOR") == "commit"
SAMPLE = 34
"""One in so many operations is committed too: about 100."""

ANYTHING = {"any": [1, "ä"]}
SCALARS = {
    "integer": (-(2**31), -(2**31)),
    "long": (2**53 + 1, 2**53 + 1),
    "float": (1.5, 1.5),
    "double": (1e300, 1e300),
    "boolean": (True, True),
    "timestamp": ("2026-11-20T02:00:00.5Z", dt.datetime(2026, 11, 20, 2, 0, 0, 500000, dt.UTC)),
    "blob": ("AP8=", b"\x00\xff"),
}


@dataclass(frozen=True)
class Value:
    """A value as it arrives, and as it is read back; a structure as the values of its members by wire name."""

    wire: object
    read: object


def value_of(shape, name_of, above=()):
    """Return a value of a shape with every member filled."""
    kind = shape.type_name
    if kind in SCALARS:
        return Value(*SCALARS[kind])
    if kind in ("string", "character"):
        text = shape.metadata.get("enum", ["ä 🎬"])[0]
        return Value(text, text)
    if kind == "list":
        one = value_of(shape.member, name_of, above)
        return Value([one.wire, one.wire], [one.read, one.read])
    if kind == "map":
        key, one = value_of(shape.key, name_of, above).wire, value_of(shape.value, name_of, above)
        return Value({key: one.wire}, [(key, one.read)])
    if is_document(shape, above):
        return Value(ANYTHING, json.dumps(ANYTHING, ensure_ascii=False, separators=(",", ":")))
    members = members_of(shape, name_of, above)
    return Value(
        {name: inner.wire for name, inner in members.items()},
        {xform_name(name): inner.read for name, inner in members.items()},
    )


def members_of(shape, name_of, above=()):
    above = (*above, shape.name)
    return {name_of(child, name): value_of(child, name_of, above) for name, child in shape.members.items()}


def is_document(shape, above=()):
    """Untyped, without members, or holding itself: any JSON, kept as text."""
    return shape.type_name != "structure" or not shape.members or shape.is_document_type or shape.name in above


@cache
def api_names(service):
    return {xform_name(name): name for name in SESSION.get_service_model(service).operation_names}


def record_shape(found):
    """Return the shape of one record: what the result key leads to."""
    name = api_names(found.service)[found.operation]
    shape = SESSION.get_service_model(found.service).operation_model(name).output_shape
    for step in found.result_key.split("."):
        shape = shape.members[step.removesuffix("[]")]
        shape = shape.member if step.endswith("[]") else shape
    return shape.member


def on_the_wire(shape, name):
    return shape.serialization.get("name", name)


def in_the_client(_shape, name):
    return name


def dig(record, path):
    """Return what a path leads to in a record as it arrives; None if there is nothing."""
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    return record


class Records:
    """A full record of an operation and an empty one, as they arrive, and as they are read back by API path."""

    def __init__(self, found):
        shape, pager = record_shape(found), found.layout.operation.pager
        name_of = in_the_client if pager else on_the_wire
        if pager and pager.is_plain:
            self.read = {"value": value_of(shape, name_of)}
        else:
            self.read = members_of(shape, name_of)
        full = {name: value.wire for name, value in self.read.items()}
        bare = {}
        for column in found.layout.key_columns[: len(found.layout.dataset.key)]:  # the digest is no member
            *above, last = column.path
            place = bare
            for name in above:
                place = place.setdefault(name, {})
            place[last] = dig(full, column.path)
        self.wire = [full, bare]

    def at(self, path):
        """Return what the full record has at a path when it is read back."""
        first, *rest = path
        read = self.read[first].read
        for name in rest:
            read = read[xform_name(name)]
        return read


def is_doubtful(found):
    """Whether the key that is proposed cannot tell records apart: one value for a whole slice, or few of them."""
    first, *others = found.layout.key_columns
    if others or found.operation in hints(found.service)["keys"]:
        return {column.field.name for column in found.layout.key_columns} <= set(found.given)
    few = first.member.enum or first.member.kind in ("boolean", "timestamp", "double", "float")
    return bool(few) or first.field.name in {*found.given, "owner_id", "region"}


def flat(found, records):
    operation = found.layout.operation
    parents = dict.fromkeys(found.layout.dataset.slice_columns, "parent")
    (one,) = flatten(
        found.layout,
        snapshot(found.layout.dataset, operation),
        part(dataset="listing", parents=parents),
        [page(records, key=operation.result_key)],
    )
    return one


def written(batch):
    """Return the rows of a batch after a way through Parquet."""
    file = io.BytesIO()
    schema = pa.schema([field.remove_metadata() for field in batch.schema])
    with pq.ParquetWriter(file, schema, **OPTIONS) as writer:
        writer.write_batch(batch)
    return (
        pq.ParquetFile(io.BytesIO(file.getvalue()), page_checksum_verification=True).read(use_threads=False).to_pylist()
    )


def committed(tables, name, batch):
    """Return the rows of a batch after a commit into a table of its own."""
    stage = Stage(
        tables, name, batch.schema, Replacement(DATE, "slice_id", tuple(set(batch["slice_id"].to_pylist()))), "r"
    )
    stage.write(batch)
    stage.commit("test", 1)
    (files,) = tables.read(name).files.values()
    return [row for file in files for row in pq.ParquetFile(file).read(use_threads=False).to_pylist()]


def is_sampled(found, one_in=SAMPLE):
    seed = hashlib.sha256(f"{found.service} {found.operation}".encode()).digest()
    return COMMIT_ALL or seed[0] * 256 + seed[1] < 65536 // one_in


def check(found, records, rows):
    """Compare the rows of every table with the records that they were made of."""
    keys = [column.field.name for column in found.layout.key_columns]
    full, bare = rows["listing"]
    for column in found.layout.columns:
        expected = records.at(column.path)
        assert full[column.field.name] == expected, column.path
        assert bare[column.field.name] == (expected if column.field.name in keys else None), column.path
    assert (full["extra"], bare["extra"]) == (None, None)
    for child in found.layout.children:
        entries = records.at(child.source.path)
        is_map = child.source.member.kind == "map"
        both = 2 if child.source.field.name in keys else 1  # the bare record has its key, too
        assert len(rows[child.table]) == both * len(entries) > 0
        for i, (row, entry) in enumerate(zip(rows[child.table], entries, strict=both == 1)):
            key, inner = entry if is_map else (i, entry)
            assert row[child.entry.name] == key
            assert [row[name] for name in keys] == [full[name] for name in keys]
            for column in child.columns:
                expected = inner
                for name in column.path:
                    expected = expected[xform_name(name)]
                assert row[column.field.name] == expected, (child.table, column.path)


@cache
def every(service):
    return tuple(listed(service))


@pytest.mark.parametrize("service", services())
def test_every_list_operation_is_exported_whole_or_refused_with_a_reason(service, tmp_path):
    tables = Tables(Disk(tmp_path))
    for found in every(service):
        if found.layout is None:
            assert found.kind in REASONS, found.reason
            continue
        assert not is_doubtful(found), found.operation
        records = Records(found)
        one = flat(found, records.wire)
        assert (one.rejects.to_pylist(), one.drifts) == ([], {}), found.operation
        if is_sampled(found):
            assert describe_operation(SESSION, found.layout.dataset) == found.layout.operation
            rows = {name: committed(tables, f"{found.operation}_{name}", batch) for name, batch in one.tables.items()}
        else:
            for schema in found.layout.schemas.values():
                Schema.from_arrow(schema)
            is_written = found.origin == "botocore" or is_sampled(found, 4)
            rows = {name: written(batch) if is_written else batch.to_pylist() for name, batch in one.tables.items()}
        check(found, records, rows)


def test_the_comparison_can_fail():
    """A value lost anywhere, or found in another column, is noticed."""
    found = next(found for found in every("deadline") if found.operation == "list_jobs")
    records = Records(found)
    one = flat(found, records.wire)
    rows = {name: written(batch) for name, batch in one.tables.items()}
    check(found, records, rows)
    for table, of_table in rows.items():
        for name in {*of_table[0]} - {
            "snapshot_date",
            "account_id",
            "region",
            "run_id",
            "slice_id",
            "page_number",
            "extracted_at",
            "farm_id",
            "queue_id",
        }:
            for row in of_table:
                kept, row[name] = row[name], "something else"
                with pytest.raises(AssertionError):
                    check(found, records, rows)
                row[name] = kept
        with pytest.raises((AssertionError, ValueError)):
            check(found, records, {**rows, table: of_table[:-1]})


def test_the_counts_of_the_documents_are_those_of_the_locked_botocore():
    found = [one for name in services() for one in every(name)]
    (what, total), *rows = counted(found)
    expected = [f"| {what} | {total:,} |", "|---|---|", *(f"| {what} | {count:,} |" for what, count in rows)]
    root = Path(__file__).parents[2]
    documented = (root / "docs" / "other-services.md").read_text(encoding="utf-8")
    assert "\n".join(expected) in documented
    exported = sum(one.layout is not None for one in found)
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"{exported:,} of the {total:,}" in " ".join(changelog.split())
    same, defined = reproduced()
    assert f"{same:,} of botocore's own {defined:,} definitions" in " ".join(documented.split())


def test_no_operation_that_botocore_pages_would_be_taken_for_one_page():
    """Whatever the names do not explain is refused: half a listing would look like all of it."""
    taken = []
    for service in services():
        model = SESSION.get_service_model(service)
        for name, paging in definitions(service).items():
            first, *_ = as_tuple(paging["result_key"])
            with suppress(UnsupportedError):
                if derived(model.operation_model(name), first).origin == "one page":
                    taken.append((service, name))
    assert taken == []


def test_no_service_is_left_out():
    """The sweep is worth something only if it finds them."""
    assert len(services()) > 400
    assert {"ec2", "s3", "iam", "nimble", "deadline"} <= set(services())
