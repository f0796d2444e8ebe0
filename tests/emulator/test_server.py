"""The studio on a socket."""

import json
import signal
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from etl.emulator import EmbeddedStudio, PortInUseError, StudioSettings, World, serve

WORLD = World(sessions_per_studio=40)


def test_port_in_use_is_named() -> None:
    """Fault 59: the operator learns which port, and what to do."""
    with EmbeddedStudio(WORLD) as studio:
        port = urlsplit(studio.endpoint_url).port
        assert port
        with pytest.raises(PortInUseError, match=f"port {port} .* choose another"):
            EmbeddedStudio(WORLD, port=port)


def test_world_moves_while_the_studio_runs(night: datetime, connect: Any) -> None:
    """Three nights in a row need one studio."""
    with EmbeddedStudio(WORLD, StudioSettings(instant=night)) as studio:
        client = connect(studio)

        def listed() -> list[Any]:
            sessions: list[Any] = client.list_streaming_sessions(studioId=WORLD.studio_ids[0])["sessions"]
            return sessions

        first = listed()
        studio.set_instant(night + timedelta(days=1))
        second = listed()
        studio.set_instant(night)
        assert first != second
        assert listed() == first


def test_request_log_is_written_as_json_lines(tmp_path: Path, connect: Any) -> None:
    """Another process can prove what was asked for."""
    log = tmp_path / "requests.jsonl"
    with EmbeddedStudio(WORLD, StudioSettings(request_log=log)) as studio:
        connect(studio).list_studios()
        logged = [json.loads(line) for line in log.read_text().splitlines()]
        assert logged == [request._asdict() for request in studio.requests]
    assert logged[0]["operation"] == "ListStudios"


def test_closed_studio_refuses_connections_and_frees_its_port() -> None:
    studio = EmbeddedStudio(WORLD)
    port = urlsplit(studio.endpoint_url).port
    assert port
    studio.close()
    with EmbeddedStudio(WORLD, port=port) as again:
        assert again.endpoint_url == studio.endpoint_url


def test_serve_answers_when_it_says_so(connect: Any) -> None:
    """The command line's entry: it blocks, so it runs in a thread here that dies with the tests."""
    ready: Queue[str] = Queue()
    options: dict[str, Any] = {"port": 0, "on_ready": ready.put}
    threading.Thread(target=serve, args=(WORLD, StudioSettings()), kwargs=options, daemon=True).start()

    class Remote:
        endpoint_url = ready.get(timeout=60)
        world = WORLD
        credentials = EmbeddedStudio.credentials

    assert len(connect(Remote).list_studios()["studios"]) == 2


def test_the_command_serves_an_organization() -> None:
    """The keys that it prints are those of the management account, which may list the others."""
    command = [sys.executable, "-m", "etl", "emulator", "--port", "0", "--studios", "1", "--sessions", "0"]
    with subprocess.Popen([*command, "--accounts", "3"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            said, keys = process.stdout.readline(), process.stdout.readline().split()
            key_id, secret = (key.partition("=")[2] for key in keys)
            client = boto3.client(
                "organizations", "us-west-2", endpoint_url=said.split("answers at ")[1].partition(";")[0],
                aws_access_key_id=key_id, aws_secret_access_key=secret,
            )  # fmt: skip
            assert len(client.list_accounts()["Accounts"]) == 3
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0
