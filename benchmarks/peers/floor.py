"""The floor: plain HTTP GET of every page, the fastest JSON parse there is, one Parquet file. Nothing else.

No signature, no retry, no proof that a response is a page, no checkpoint, no commit, no key, no history.
"""

import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import urllib3

out = Path(sys.argv[1])
TEXTS = (
    "arn", "sessionId", "createdBy", "ownedBy", "ec2InstanceType", "streamingImageId", "automaticTerminationMode",
    "backupMode", "launchProfileId", "sessionPersistenceMode", "volumeRetentionMode", "state", "statusCode",
    "statusMessage", "startedBy", "updatedBy", "stoppedBy", "startedFromBackupId",
)  # fmt: skip
INSTANTS = ("createdAt", "startedAt", "stoppedAt", "stopAt", "terminateAt", "updatedAt")
SIZES = ("iops", "size", "throughput")
INSTANT = pa.timestamp("us", tz="UTC")

Volume = msgspec.defstruct("Volume", [(name, int | None, None) for name in SIZES], gc=False)
Session = msgspec.defstruct(
    "Session",
    [
        *((name, str | None, None) for name in (*TEXTS, *INSTANTS)),
        ("maxBackupsToRetain", int | None, None),
        ("volumeConfiguration", Volume, msgspec.field(default_factory=Volume)),
        ("tags", dict[str, str], msgspec.field(default_factory=dict)),
    ],
    gc=False,
)
Studios = msgspec.defstruct("Studios", [("studios", list[dict[str, Any]])])
Page = msgspec.defstruct("Page", [("sessions", list[Session]), ("nextToken", str | None, None)])

http = urllib3.PoolManager()
root = f"{os.environ['AWS_ENDPOINT_URL']}/2020-08-01/studios"
writer = None


def columns(studio_id: str, sessions: list[Any]) -> dict[str, pa.Array]:
    """Return some sessions as columns."""
    volumes = [session.volumeConfiguration for session in sessions]
    return {
        "studioId": pa.repeat(studio_id, len(sessions)),
        **{name: pa.array([getattr(session, name) for session in sessions], pa.string()) for name in TEXTS},
        **{
            name: pa.array([getattr(session, name) for session in sessions], pa.string()).cast(INSTANT)
            for name in INSTANTS
        },
        "maxBackupsToRetain": pa.array([session.maxBackupsToRetain for session in sessions], pa.int32()),
        **{
            f"volumeConfiguration_{name}": pa.array([getattr(volume, name) for volume in volumes], pa.int32())
            for name in SIZES
        },
        "tags": pa.array([list(session.tags.items()) for session in sessions], pa.map_(pa.string(), pa.string())),
    }


decode_studios, decode_page = msgspec.json.Decoder(Studios).decode, msgspec.json.Decoder(Page).decode
waiting: list[Any] = []
for studio in decode_studios(http.request("GET", root).data).studios:
    studio_id, token = studio["studioId"], ""
    while token is not None:
        query = f"?nextToken={quote(token, safe='')}" if token else ""
        page = decode_page(http.request("GET", f"{root}/{studio_id}/streaming-sessions{query}").data)
        waiting += page.sessions
        token = page.nextToken
        if len(waiting) >= 8192 or token is None:  # noqa: PLR2004  rows of a batch
            batch = pa.RecordBatch.from_pydict(columns(studio_id, waiting))
            waiting.clear()
            writer = writer or pq.ParquetWriter(out / "sessions.parquet", batch.schema, compression="zstd")
            writer.write_batch(batch)
if writer:
    writer.close()
