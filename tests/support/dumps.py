"""What the AWS CLI prints, saved to files; and the rows that come of it."""

import datetime as dt
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from support.job import Job

SESSION_TABLES = ("streaming_sessions_history", "streaming_session_tags_history")


def printed(document: Any, instant: Callable[[dt.datetime], Any] = dt.datetime.isoformat) -> str:
    """Return text as the CLI prints a document, or a response of boto3; `instant` says how it prints timestamps."""
    if isinstance(document, dict):
        document = {name: value for name, value in document.items() if name != "ResponseMetadata"}
    return json.dumps(document, indent=4, default=instant, ensure_ascii=False) + "\n"


def save(directory: Path, *contents: str | bytes) -> list[Path]:
    """Write a file of each content; return their paths."""
    paths = []
    for number, content in enumerate(contents):
        paths.append(directory / f"dump-{number}")
        paths[-1].write_bytes(content if isinstance(content, bytes) else content.encode())
    return paths


def rows_apart_from_pages(job: Job, tables: Sequence[str] = SESSION_TABLES) -> list[list[str]]:
    """Return the rows of tables; what a page is differs between an import and an export, and nothing else."""
    return [job.rows(f"(select * exclude (page_number) from {table})") for table in tables]
