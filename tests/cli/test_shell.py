"""`nimble-etl sql` without a statement is the duckdb command on a terminal, and reads standard input elsewhere."""

import os
import pty
import shutil
import sys
from pathlib import Path

import pytest

COMMAND = Path(__file__).parents[2] / ".venv-duckdb" / "shell" / "duckdb_cli" / "duckdb"
WORDS = b"select 40 + count(*) as answer from streaming_sessions;\ncreate table mine (i int);\n.quit\n"


@pytest.mark.on_disk
def test_on_a_terminal_it_is_a_shell_that_can_only_read(job, tmp_path, monkeypatch):
    if not COMMAND.exists():
        assert os.environ.get("CI") != "true", "make installs it"
        pytest.skip("the duckdb command has no wheel for this platform")
    job.run()
    ((count,),) = job.ask("select 40 + count(*) from streaming_sessions")
    found = tmp_path / "bin"
    found.mkdir()
    (found / "duckdb").symlink_to(COMMAND)
    monkeypatch.setenv("PATH", f"{found}:{os.environ['PATH']}")
    arguments = [sys.executable, "-m", "etl", "sql", "--config", str(job.config)]
    monkeypatch.setenv("TERM", "dumb")
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, arguments)
    said, answers = bytearray(), {b"\x1b[c": b"\x1b[?1c", b" D ": WORDS}
    while piece := _read(terminal):
        said += piece
        for asked in [asked for asked in answers if asked in said]:
            os.write(terminal, answers.pop(asked))
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 1, "as duckdb ends after a statement that failed"
    assert str(count).encode() in said
    assert b"read-only" in said


def _read(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that the other side is closed
        return b""


def test_without_a_terminal_the_statement_comes_from_standard_input(job):
    job.run()
    ended = job.cli("sql", "--format", "csv", input="select 6 * 7 as answer")
    assert (ended.returncode, ended.stdout) == (0, "answer\n42\n")


def test_without_the_duckdb_command_the_message_names_what_brings_it(job, monkeypatch):
    job.run()
    if shutil.which("duckdb", path=Path(sys.executable).parent):
        pytest.skip("this environment has the duckdb command")
    monkeypatch.setenv("PATH", "/nowhere")
    ours, theirs = pty.openpty()
    ended = job.cli("sql", stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert ended.returncode == 2
    assert "install nimble-etl[shell]" in ended.stderr
