"""Peer 2: dlt, with boto3's paginator as a resource, the filesystem as destination, and Parquet."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import dlt

out = Path(sys.argv[1])


@dlt.resource(name="sessions", write_disposition="replace")
def sessions() -> Iterator[list[dict[str, Any]]]:
    """Yield the sessions of every studio, a page at a time."""
    client = boto3.client("nimble")
    for studio_page in client.get_paginator("list_studios").paginate():
        for studio in studio_page["studios"]:
            pages = client.get_paginator("list_streaming_sessions").paginate(studioId=studio["studioId"])
            for page in pages:
                yield [{"studioId": studio["studioId"], **session} for session in page["sessions"]]


pipeline = dlt.pipeline(
    "nimble",
    destination=dlt.destinations.filesystem(bucket_url=out.resolve().as_uri()),
    dataset_name="warehouse",
    pipelines_dir=str(out / "pipelines"),
)
pipeline.run(sessions(), loader_file_format="parquet")
