"""Tell others how a run ended: health checks and alerts. What fails here is logged, and changes nothing."""

import json
import logging
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import urllib3

from etl.config import OnFinish
from etl.events import Ended, Event, Listener

log = logging.getLogger(__name__)


def notifier(on_finish: OnFinish) -> Listener:
    """Return the listener that tells others how an invocation of `run` ended."""

    def on_event(event: Event) -> None:
        if isinstance(event, Ended):
            _notify(on_finish, asdict(event))

    return on_event


def _notify(on_finish: OnFinish, report: Mapping[str, Any]) -> None:
    """Give the report, as JSON, to the command's standard input and to the URL, where they are configured.

    Args:
        on_finish: whom to tell.
        report: JSON-able; its `exit_code` takes the place of `{exit_code}` in the URL.
    """
    text = json.dumps(report, default=str)
    timeout_s = on_finish.timeout.total_seconds()
    if on_finish.command:
        try:
            done = subprocess.run(on_finish.command, input=text, text=True, check=False, timeout=timeout_s)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as exc:
            # Arguments may be keys, and these errors repeat them.
            why = getattr(exc, "strerror", None) or "did not end in time"
            log.error("on_finish.command: %s: %s", on_finish.command[0], why)  # noqa: TRY400  the operator's matter
        else:
            if done.returncode:
                log.error("on_finish.command: %s: exit code %s", on_finish.command[0], done.returncode)
    if on_finish.url:
        url = on_finish.url.replace("{exit_code}", str(report["exit_code"]))
        retries = urllib3.Retry(total=2, backoff_factor=1, allowed_methods=None, status_forcelist=range(500, 600))
        try:
            with urllib3.PoolManager(timeout=timeout_s, retries=retries) as pool:
                answer = pool.request("POST", url, body=text, headers={"Content-Type": "application/json"})
        except urllib3.exceptions.HTTPError as exc:
            # The URL of a health check is its key: what urllib3 says would put it into the log.
            log.error("on_finish.url: %s", type(exc).__name__)  # noqa: TRY400
        else:
            if answer.status >= 400:  # noqa: PLR2004
                log.error("on_finish.url: the answer is %s", answer.status)
