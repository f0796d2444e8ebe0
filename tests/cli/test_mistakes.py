"""Mistakes of an operator, row by row: command line, environment, configuration, files, user.

Each row of mistakes.toml names the exit code and the words that the message must hold: place, found, expected, next
step. No mistake is a traceback, and no message has words of a library.
"""

import os
import re
import shlex
import shutil
import tempfile
import tomllib
from pathlib import Path

import pytest
from support.job import _FORKS, DATE, finished, run_in

ROWS = tomllib.loads(Path(__file__).with_name("mistakes.toml").read_text(encoding="utf-8"))["mistake"]
CONFIG = "emulator: {studios: 1, sessions_per_studio: 20}\n"
LIBRARIES = re.compile(
    r"Traceback|pydantic|Input should|Value error|valid (tuple|dictionary|string|integer)|\btuple\b|\bPT?\d+[DHMS]\b"
    r"|\bNone\b|nanobind|Errno|match pattern|\^\[|<class|\bobject at\b"
)
"""What no operator should have to read."""


@pytest.fixture(scope="module")
def night():
    """A directory with a configuration and a published night, which every user may enter."""
    with tempfile.TemporaryDirectory() as parent:  # pytest's own may be entered by nobody else
        Path(parent).chmod(0o755)
        directory = Path(parent) / "night"
        directory.mkdir()
        (directory / "config.yaml").write_text(CONFIG, encoding="utf-8")
        assert finished(start(directory, f"run --snapshot-date {DATE}")) == 0, (directory / "log").read_text()
        yield directory


def start(directory, command, environment=None, user=None):
    """Start a command in a directory; its output goes to `log` there."""
    log = directory / "log"
    log.touch()
    log.chmod(0o666)
    names = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none"}
    process = _FORKS.Process(
        target=run_in, args=(directory, shlex.split(command), {**names, **(environment or {})}, log, user)
    )
    process.start()
    return process


def place(directory, name, content):
    """Put a file of a row where it belongs: a text, or DIR, MODE:…, BYTES:…, LINK:… or nothing."""
    path = directory / name
    if content == "MODE:0":
        path.chmod(0)
        return
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    what, _, rest = content.partition(":")
    if content == "DIR":
        path.mkdir()
    elif what == "BYTES":
        path.write_bytes(bytes.fromhex(rest))
    elif what == "LINK":
        path.symlink_to(rest)
    elif content != "GONE":
        path.write_text(content, encoding="utf-8")


def outcome(row, night):
    """Make the mistake of a row in a directory of its own; return the exit code and what was written."""
    with tempfile.TemporaryDirectory(dir=night.parent) as parent:
        Path(parent).chmod(0o755)
        directory = Path(parent) / "job"
        if row["kind"] in {"files", "user", "command line"}:
            shutil.copytree(night, directory)
            (directory / "log").unlink()
        else:
            directory.mkdir()
        (directory / "config.yaml").write_text(row.get("config", CONFIG), encoding="utf-8")
        for name, content in row.get("files", {}).items():
            place(directory, name, content)
        code = finished(start(directory, row.get("do", ""), row.get("environment"), row.get("user")))
        return code, (directory / "log").read_text(encoding="utf-8").replace(str(directory), "/job")


def test_there_are_300_mistakes_of_five_kinds():
    assert len(ROWS) >= 300
    assert {row["kind"] for row in ROWS} == {"command line", "environment", "configuration", "files", "user"}
    assert all(row["says"] for row in ROWS)


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row['kind']}: {row.get('config', '')} {row.get('do', '')}"[:90]
)
def test_a_mistake_is_a_sentence(row, night):
    if row.get("user") and os.geteuid():
        pytest.skip("only root may become another user")
    code, output = outcome(row, night)
    assert code == row["exit"], output
    assert [words for words in row["says"] if words not in output] == [], output
    assert LIBRARIES.search(output) is None, output
