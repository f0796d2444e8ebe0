"""Shapes, datasets, pages and Hypothesis strategies made by hand: what transform and ledger see, without a source."""

import datetime as dt
import json

from etl.model import Dataset, ForEach, Member, Operation, Page, Slice, Snapshot

ARRIVED = dt.datetime(2026, 11, 20, 2, 0, 0, 123456, tzinfo=dt.UTC)
DATE = ARRIVED.date()
ACCOUNT, REGION = "123456789012", "us-west-2"


def member(name, kind, **rest):
    """Return a member whose wire name is the camelCase of its name."""
    first, *others = name.split("_")
    return Member(name=name, api_name=first + "".join(word.title() for word in others), kind=kind, **rest)


def structure(name, *members, **rest):
    return member(name, "structure", members=members, **rest)


def list_of(name, element, **rest):
    return member(name, "list", element=element, **rest)


def map_of(name, element, **rest):
    return member(name, "map", element=element, **rest)


EVERYTHING = structure(
    "thing",
    member("thing_id", "string"),
    member("state", "string", enum=("READY", "STOPPED")),
    member("count", "integer"),
    member("total", "long"),
    member("ratio", "float"),
    member("weight", "double"),
    member("is_on", "boolean"),
    member("updated_at", "timestamp"),
    member("content", "blob"),
    member("anything", "document"),
    structure("volume", member("size", "integer"), structure("disk", member("kind", "string"))),
    map_of("tags", member("value", "string")),
    map_of("limits", structure("value", member("most", "integer"), list_of("names", member("element", "string")))),
    list_of("groups", member("element", "string", enum=("a", "b"))),
    list_of("moments", member("element", "timestamp")),
    list_of(
        "disks",
        structure(
            "element",
            member("name", "string"),
            structure("io", member("rate", "double")),
            map_of("notes", member("value", "string")),
        ),
    ),
    list_of("grid", list_of("element", member("element", "integer"))),
)
"""A record shape with every kind, and every nesting that a table or column is made for."""


def operation(record=EVERYTHING, **changes):
    facts = {
        "service": "things",
        "name": "ListThings",
        "api_version": "2026-01-01",
        "result_key": "things",
        "token_key": "nextToken",
        "result_member": "things",
        "token_member": "nextToken",
        "input_token": "nextToken",
        "record": record,
        "parameters": ("studioId", "createdBy"),
    }
    return Operation(**{**facts, **changes})


def dataset(**changes):
    facts = {
        "name": "things",
        "service": "things",
        "operation": "list_things",
        "key": ("thing_id",),
        "order_by": "updated_at",
        "for_each": ForEach(dataset="studios", bind={"studioId": "studio_id"}),
    }
    return Dataset(**{**facts, **changes})


def part(studio_id="studio-1", **changes):
    """Return a slice."""
    facts = {
        "dataset": "things",
        "account_id": ACCOUNT,
        "region": REGION,
        "parents": {"studioId": studio_id},
    }
    return Slice(**{**facts, **changes})


def snapshot(chosen=None, shape=None, run_id="run-1"):
    return Snapshot(run_id, DATE, chosen or dataset(), shape or operation())


def page(records, number=1, *, key="things", first=0, stop=None, token=None, **changes):  # noqa: PLR0913
    """Return a page of these records, or of a body as it is; ASCII as AWS sends it."""
    body = records if isinstance(records, bytes) else json.dumps({key: records, "nextToken": token}).encode()
    count = len(json.loads(body)[key]) if isinstance(records, bytes) else len(records)
    facts = {
        "number": number,
        "body": body,
        "records": count,
        "first": first,
        "stop": count if stop is None else stop,
        "next_starting_token": token,
        "request_id": f"request-{number}",
        "retries": 0,
        "received_at": ARRIVED + dt.timedelta(seconds=number),
    }
    return Page(**{**facts, **changes})
