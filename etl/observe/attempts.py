"""Notes how the last invocation of `run` ended, even if it published nothing: `status` tells it."""

import datetime as dt
import json
import logging
import secrets
from pathlib import Path
from typing import Any

from etl.errors import StorageError
from etl.events import Ended, Event, Listener, problems
from etl.storage.disk import put_in_place, remove_files, storage_errors

log = logging.getLogger(__name__)

_NAME = "last_attempt.json"


def attempt_noter(state_dir: Path) -> Listener:
    """Return a listener that notes in the state directory how an invocation has ended."""

    def on_event(event: Event) -> None:
        if isinstance(event, Ended) and state_dir.exists():
            path, draft = state_dir / _NAME, state_dir / f"{_NAME}.{secrets.token_hex(4)}"
            try:
                with storage_errors(path):
                    draft.write_text(json.dumps(_facts(event), default=str), encoding="utf-8")
                    put_in_place(draft, path)
            except StorageError as exc:
                remove_files([draft])
                log.warning("`status` will not tell how this run ended: %s", exc)

    return on_event


def last_attempt(state_dir: Path) -> dict[str, Any] | None:
    """Return how the last invocation ended: ended_at, exit_code, snapshot_date, run_id, error; None if nobody knows."""
    try:
        found = json.loads((state_dir / _NAME).read_bytes())
    except (FileNotFoundError, ValueError):  # never, or not written by this program
        return None
    return found if isinstance(found, dict) else None


def _facts(event: Ended) -> dict[str, Any]:
    run = event.runs[-1] if event.runs else {}
    return {
        "ended_at": dt.datetime.now(dt.UTC).replace(microsecond=0),
        "exit_code": event.exit_code,
        "snapshot_date": run.get("snapshot_date"),
        "run_id": run.get("run_id"),
        "error": event.error or next((problem for one in event.runs for problem in problems(one)), None),
    }
