"""Every engine exports the same night: 40 studios with 2,000 sessions each, and 200 slices of 20 accounts.

`make spark` tries these sizes; `tests/e2e/test_engines.py` and `test_engine.py` small ones, two nights of each.
"""

from collections.abc import Callable

import pytest
from support.alike import everything
from support.engines import ROOT, started
from support.job import NIGHT, RUN, job_at
from support.studios import studio_of
from support.thorough import THOROUGH

from etl.emulator import EmbeddedStudio, Organization, World

_IS_THERE = THOROUGH and (ROOT / ".venv-spark" / "run").exists()
pytestmark = pytest.mark.skipif(not _IS_THERE, reason="`make spark` tries these sizes")

ACCOUNTS = "  organization: {role: nimble-etl-reader}"
STUDIOS: dict[str, tuple[Callable[[], EmbeddedStudio], str, int]] = {
    "40 studios": (lambda: studio_of(World(studios=40, sessions_per_studio=2000), page_size=100), "", 41),
    "200 slices": (
        lambda: studio_of(World(studios=9, sessions_per_studio=60), organization=Organization.of(20)), ACCOUNTS, 201,
    ),
}  # fmt: skip
"""Name -> what starts the studio, further lines of `source`, and how many slices a night has."""
ENGINES = [("sail", "sail"), ("spark", "local-cluster[2,1,1024]"), ("spark35", "local[2,8]"), ("processes", "")]


@pytest.fixture(scope="module", params=STUDIOS)
def night(request, tmp_path_factory):
    """A running studio, the lines of `source`, and what threads export of it."""
    start, source, slices = STUDIOS[request.param]
    with start() as studio:
        job = job_at(tmp_path_factory.mktemp("threads"), studio, source=source)
        assert job.finish(*RUN) == 0, job.log
        expected = everything(job)
        assert len(expected["etl_slices"]) == slices
        yield studio, source, expected


@pytest.mark.parametrize(("name", "master"), ENGINES, ids=[name for name, _ in ENGINES])
def test_every_table_is_what_threads_export(name, master, night, tmp_path):
    studio, source, expected = night
    kind = "processes" if name == "processes" else "spark"
    job = job_at(tmp_path / "job", studio, source=source, rest=f"engine: {{kind: {kind}, tasks: 8}}")
    if kind == "processes":
        assert job.finish(*RUN) == 0, job.log
    else:
        with started((name, master), job, NIGHT) as program:
            _, told = program.communicate()
        assert program.returncode == 0, told
    found = everything(job)
    assert {table: len(rows) for table, rows in found.items()} == {table: len(rows) for table, rows in expected.items()}
    assert [table for table in expected if found[table] != expected[table]] == []
