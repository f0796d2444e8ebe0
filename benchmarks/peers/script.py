"""Peer 1: what a data engineer writes in ten minutes. boto3's paginator, pandas.json_normalize, to_parquet."""

import sys
from pathlib import Path

import boto3
import pandas as pd

out = Path(sys.argv[1])
client = boto3.client("nimble")
sessions, tags = [], []
for studio_page in client.get_paginator("list_studios").paginate():
    for studio in studio_page["studios"]:
        pages = client.get_paginator("list_streaming_sessions").paginate(studioId=studio["studioId"])
        for page in pages:
            for session in page["sessions"]:
                for key, value in session.pop("tags", {}).items():
                    tags.append((studio["studioId"], session["sessionId"], key, value))
                sessions.append({"studioId": studio["studioId"], **session})

pd.json_normalize(sessions, sep="_").to_parquet(out / "sessions.parquet", index=False)
pd.DataFrame(tags, columns=["studioId", "sessionId", "key", "value"]).to_parquet(out / "tags.parquet", index=False)
