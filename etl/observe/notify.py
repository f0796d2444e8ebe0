"""Tells health checks and alerts how a run ended. A notification that fails is logged and has no other effect."""

import json
import logging
import subprocess
from dataclasses import asdict

import urllib3

from etl.config import OnFinish
from etl.events import Ended, Event, Listener

log = logging.getLogger(__name__)


def notifier(on_finish: OnFinish) -> Listener:
    """Return a listener that runs the configured command and calls the URL when an invocation of `run` has ended."""

    def on_event(event: Event) -> None:
        if isinstance(event, Ended):
            report = json.dumps(asdict(event), default=str)
            if on_finish.command:
                _run(on_finish, report)
            if on_finish.url:
                _post(on_finish, on_finish.url.replace("{exit_code}", str(event.exit_code)), report)

    return on_event


def _run(on_finish: OnFinish, report: str) -> None:
    timeout_s = on_finish.timeout.total_seconds()
    try:
        done = subprocess.run(on_finish.command, input=report, text=True, check=False, timeout=timeout_s)  # noqa: S603
        problem = f"exit code {done.returncode}" if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as exc:
        # The messages of these errors repeat the arguments, which may be keys.
        problem = getattr(exc, "strerror", None) or "did not end in time"
    if problem:
        log.error("on_finish.command: %s: %s", on_finish.command[0], problem)


def _post(on_finish: OnFinish, url: str, report: str) -> None:
    timeout_s = on_finish.timeout.total_seconds()
    retries = urllib3.Retry(total=2, backoff_factor=1, allowed_methods=None, status_forcelist=range(500, 600))
    headers = {"Content-Type": "application/json"}
    try:
        answer = urllib3.request("POST", url, body=report, headers=headers, timeout=timeout_s, retries=retries)
        problem = f"the answer is {answer.status}" if answer.status >= 400 else None  # noqa: PLR2004
    except urllib3.exceptions.HTTPError as exc:
        # The message repeats the URL, and the URL of a health check is its key.
        problem = type(exc).__name__
    if problem:
        log.error("on_finish.url: %s", problem)
