"""Tells health checks and alerts how a run ended. A notification that fails is logged and has no other effect."""

import json
import logging
import re
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

import urllib3

from etl.config import REPORTED, OnFinish
from etl.events import Ended, Event, Listener, problems

log = logging.getLogger(__name__)

_TRIES, _PAUSES_S = 3, 3
"""How often a report is POSTed, and how long the pauses between are together, in seconds."""


def notifier(on_finish: OnFinish) -> Listener:
    """Return a listener that runs the configured command and calls the URL when an invocation of `run` has ended."""

    def on_event(event: Event) -> None:
        if isinstance(event, Ended):
            report = json.dumps(asdict(event), default=str)
            if on_finish.command:
                _run(on_finish, report)
            if on_finish.url:
                body = (
                    report if on_finish.body is None else json.dumps(_filled(on_finish.body, _reported(event, report)))
                )
                _post(on_finish, on_finish.url.replace("{exit_code}", str(event.exit_code)), body)

    return on_event


def _reported(event: Ended, report: str) -> dict[str, str]:
    """Return the text of each name that a template may have: see `etl.config.REPORTED`."""
    run = event.runs[-1] if event.runs else {}
    error = event.error or next((problem for one in event.runs for problem in problems(one)), "")
    counts = {name: sum(one[name] for one in event.runs) for name in ("rows", "rejects")}
    facts = {"exit_code": event.exit_code, "error": error, **counts, "report": report}
    return {name: str(facts[name] if name in facts else run.get(name, "")) for name in REPORTED}


def _filled(template: Any, facts: Mapping[str, str]) -> Any:
    """Return a template with its texts filled in."""
    if isinstance(template, Mapping):
        return {name: _filled(value, facts) for name, value in template.items()}
    if isinstance(template, list | tuple):
        return [_filled(value, facts) for value in template]
    return re.sub(r"\{(\w+)\}", lambda name: facts[name[1]], template) if isinstance(template, str) else template


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
    """POST the report in a thread that can be abandoned: a server that sends a byte now and then never times out."""
    answer: Future[str | None] = Future()
    timeout_s = on_finish.timeout.total_seconds()
    threading.Thread(target=lambda: answer.set_result(_problem(url, report, timeout_s)), daemon=True).start()
    try:
        problem = answer.result(_TRIES * timeout_s + _PAUSES_S)
    except TimeoutError:
        problem = "no answer in time"
    if problem:
        log.error("on_finish.url: %s", problem)


def _problem(url: str, report: str, timeout_s: float) -> str | None:
    """Return what went wrong with a POST. A redirect is not followed: the report would reach another host."""
    retries = urllib3.Retry(total=_TRIES - 1, backoff_factor=1, allowed_methods=None, status_forcelist=range(500, 600))
    headers = {"Content-Type": "application/json"}
    try:
        answer = urllib3.request(
            "POST", url, body=report, headers=headers, timeout=timeout_s, retries=retries, redirect=False
        )
    except urllib3.exceptions.HTTPError as exc:
        return type(exc).__name__  # its message repeats the URL, and the URL of a health check is its key
    return f"the answer is {answer.status}" if answer.status >= 300 else None  # noqa: PLR2004
