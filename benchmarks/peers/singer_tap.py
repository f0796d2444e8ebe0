"""Peer 3, first half: a tap on the Singer SDK, with boto3's paginator."""

from collections.abc import Iterator
from typing import Any

import boto3
from singer_sdk import Stream, Tap
from singer_sdk import typing as th

KINDS = {"timestamp": th.DateTimeType, "integer": th.IntegerType}


def schema(shape: Any) -> th.ObjectType:
    """Return the JSON schema of a structure of the service model."""
    properties = []
    for name, member in shape.members.items():
        if member.type_name == "structure":
            kind: Any = schema(member)
        elif member.type_name == "map":
            kind = th.ObjectType(additional_properties=th.StringType)
        else:
            kind = KINDS.get(member.type_name, th.StringType)
        properties.append(th.Property(name, kind))
    return th.ObjectType(*properties)


class Sessions(Stream):
    """The sessions of every studio."""

    name = "sessions"
    primary_keys = ("studioId", "sessionId")

    def __init__(self, tap: Tap) -> None:
        self._client = boto3.client("nimble")
        record = schema(self._client.meta.service_model.shape_for("StreamingSession")).to_dict()
        record["properties"]["studioId"] = {"type": ["string"]}
        super().__init__(tap, schema=record)

    def get_records(self, context: Any) -> Iterator[dict[str, Any]]:  # noqa: ARG002  the SDK's signature
        """Yield them one by one."""
        for studio_page in self._client.get_paginator("list_studios").paginate():
            for studio in studio_page["studios"]:
                pages = self._client.get_paginator("list_streaming_sessions").paginate(studioId=studio["studioId"])
                for page in pages:
                    for session in page["sessions"]:
                        yield {"studioId": studio["studioId"], **session}


class NimbleTap(Tap):
    """The tap."""

    name = "tap-nimble"
    config_jsonschema = th.PropertiesList().to_dict()

    def discover_streams(self) -> list[Stream]:
        """Return its only stream."""
        return [Sessions(self)]


if __name__ == "__main__":
    NimbleTap.cli()
