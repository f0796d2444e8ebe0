"""What a terminal shows while a run works."""

import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios

import pytest
from support.job import RUN, job_at
from support.studios import studio_of

from etl.emulator import World

COLUMNS = 80
WORLD = World(studios=12, sessions_per_studio=60)


def shown(job, *arguments):
    """Run a command on a terminal of 80 columns; return its exit code and the lines that it has shown."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update({**job.environment, "TERM": "xterm", "COLUMNS": str(COLUMNS)})
        os.execv(sys.executable, [sys.executable, "-m", "etl", *arguments, "--config", str(job.config)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    said = bytearray()
    while piece := _read(terminal):
        said += piece
    text = re.sub(r"\x1b\[[0-9;?]*m", "", said.decode())
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), re.split(r"(?:\x1b\[[0-9;?]*[A-Za-z]|\r|\n)+", text)


def _read(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that the other side is closed
        return b""


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_a_run_shows_how_much_of_last_time_is_done_and_what_it_does(engine, tmp_path):
    with studio_of(WORLD, page_size=10, latency_s=0.02) as studio:
        job = job_at(tmp_path / "job", studio, rest="run: {concurrency: 12}")
        code, first = shown(job, *RUN, "--log-level", "warning")
        assert code == 0, first
        pages = job.ask("select sum(pages)::int from etl_slices")[0][0]
        code, lines = shown(job, *RUN, "--engine", engine, "--log-level", "warning")
    assert code == 0, lines
    assert not any(re.search(r"of \d+ pages", line) for line in first), "nobody knows yet how many there are"
    bars = [line for line in lines if "pages" in line and "published" not in line]
    assert all(len(line) <= COLUMNS for line in bars)
    assert any("of 13 slices" in line for line in bars)
    assert any(f"{pages} of {pages} pages" in line for line in bars), bars[-20:]
    assert any("building the catalog" in line for line in bars)
    if engine == "threads":
        words = {word for line in bars for word in line.split()}
        assert words & set(WORLD.studio_ids), "what tells slices apart is not cut off"


def test_a_run_that_goes_on_expects_only_the_slices_that_are_left(tmp_path):
    with studio_of(WORLD, page_size=10) as studio:
        job = job_at(tmp_path / "job", studio)
        assert job.finish(*RUN) == 0
        assert job.finish(*RUN, NIMBLE_ETL_FAILPOINT="publication.planned") == -signal.SIGKILL
        code, lines = shown(job, *RUN, "--log-level", "warning")
    assert code == 0, lines
    assert not any(re.search(r"of 13 slices|of \d{2,} pages", line) for line in lines), "all were walked before"


def test_at_most_eight_slices_have_a_bar(tmp_path):
    with studio_of(WORLD, page_size=10, latency_s=0.05) as studio:
        job = job_at(tmp_path / "job", studio, rest="run: {concurrency: 12}")
        code, lines = shown(job, *RUN, "--log-level", "warning")
    assert code == 0, lines
    together, most = 0, 0
    for line in lines:
        together = together + 1 if "streaming_se" in line else 0
        most = max(most, together)
    assert 2 <= most <= 8
