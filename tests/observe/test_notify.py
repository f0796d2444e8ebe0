"""Health checks and alerts hear how a run ended, whatever way it ended; their trouble is not the job's."""

import datetime as dt
import json
import socket
import sys
import threading
from contextlib import suppress

import pytest
from support.answers import Answers, http

from etl.config import OnFinish
from etl.events import Ended
from etl.ledger.directory import lock
from etl.observe import notify as module
from etl.observe.notify import notifier

URL_KEY = "c0ffee-check-key"


@pytest.fixture
def listener():
    """A server that keeps what it is told."""
    with Answers(http()) as server:
        yield server


def url_of(listener):
    return f"{listener.url}/{URL_KEY}/{{exit_code}}"


def tell(job, **on_finish):
    job.configure(f"on_finish: {json.dumps(on_finish)}")


def test_a_url_is_told_the_outcome_of_a_run(job, listener):
    tell(job, url=url_of(listener))

    done = job.cli("run", "--snapshot-date", "2026-11-20")

    assert done.returncode == 0
    (path,), (report,) = listener.paths, listener.sent
    assert path == f"/{URL_KEY}/0"
    assert report["exit_code"] == 0
    assert report["runs"][0]["snapshot_date"] == "2026-11-20"
    assert report["runs"][0]["rows"] > 0


def test_a_url_is_told_what_its_template_says(job, studio, listener):
    body = {
        "text": "{exit_code} for {snapshot_date}: {error}",
        "blocks": [{"rows": "{rows}", "n": 5}],
        "all": "{report}",
    }
    tell(job, url=url_of(listener), body=body)
    studio.set_faults(["access-denied:times=ever"])

    assert job.cli("run", "--snapshot-date", "2026-11-20").returncode == 1

    (told,) = listener.sent
    assert told["text"].startswith("1 for 2026-11-20: ")
    assert "nimble:ListStudios answered 403" in told["text"]
    assert told["blocks"] == [{"rows": "0", "n": 5}]
    assert json.loads(told["all"])["exit_code"] == 1, "quotes of a value do not end the text"


def test_a_failure_is_told_with_its_message(job, studio, listener):
    tell(job, url=url_of(listener))
    studio.set_faults(["access-denied:times=ever"])

    done = job.cli("run")

    assert studio.fired
    assert done.returncode == 1
    (path,), (report,) = listener.paths, listener.sent
    assert path == f"/{URL_KEY}/1"
    assert "AccessDenied" in json.dumps(report)


def test_a_run_that_found_the_lock_taken_is_told_too(job, listener):
    tell(job, url=url_of(listener))
    with lock(job.directory / "state"):
        assert job.cli("run").returncode == 4
    assert listener.paths == [f"/{URL_KEY}/4"]


def test_a_command_gets_the_outcome_on_its_standard_input(job):
    program = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"
    target = job.directory / "told.json"
    tell(job, command=[sys.executable, "-c", program, str(target)])

    assert job.cli("run").returncode == 0

    assert json.loads(target.read_text())["exit_code"] == 0


@pytest.mark.parametrize(
    ("on_finish", "says"),
    [
        ({"command": ["/nowhere/at-all", "key-in-argument"]}, "on_finish.command: /nowhere/at-all: No such file"),
        ({"command": [sys.executable, "-c", "raise SystemExit(7)"]}, "exit code 7"),
        (
            {"command": [sys.executable, "-c", "import threading; threading.Event().wait()"], "timeout": "0.2s"},
            "in time",
        ),
        ({"url": f"http://127.0.0.1:1/{URL_KEY}", "timeout": "1s"}, "on_finish.url: MaxRetryError"),
    ],
)
def test_its_failure_is_logged_without_its_keys_and_changes_nothing(job, on_finish, says):
    tell(job, **on_finish)

    done = job.cli("run")

    assert done.returncode == 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert URL_KEY not in done.stderr
    assert "key-in-argument" not in done.stderr


def test_a_url_that_answers_no_is_logged(job, listener):
    listener.queue = [http(status="404 Not Found")]
    tell(job, url=url_of(listener))

    done = job.cli("run")

    assert done.returncode == 0
    assert "on_finish.url: the answer is 404" in done.stderr


def test_fault_63_a_redirect_is_not_followed(job, listener):
    """The report says who failed at what: it is for the host that was configured, and for nobody else."""
    with Answers(http(status="307 Temporary Redirect", Location=f"{listener.url}/elsewhere")) as first:
        tell(job, url=url_of(first))

        done = job.cli("run")

    assert done.returncode == 0
    assert first.paths
    assert listener.paths == []
    assert "on_finish.url: the answer is 307" in done.stderr


def test_fault_63_a_server_that_drips_is_not_waited_for(caplog, monkeypatch):
    """Each byte comes in time, the answer never: what is bounded is the time of all."""
    over = threading.Event()
    monkeypatch.setattr(module, "_PAUSES_S", 0)

    def drip(connection):
        with connection, suppress(OSError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not over.wait(0.02):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: drip(server.accept()[0]), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        notifier(OnFinish(url=url, timeout=dt.timedelta(seconds=0.2)))(Ended(0, None))
        assert thread.is_alive(), "it still drips"
        over.set()
        thread.join()

    assert "on_finish.url: no answer in time" in caplog.text
