"""The list of mutants fits the code as it is, and the runner tells a mutant that was noticed from one that was not."""

import shutil
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from mutants import ROOT, Mutant
from mutants.__main__ import Copy, judge

MUTANTS = Mutant.read_list()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_can_be_tried(mutant):
    assert list(mutant.problems(ROOT)) == []
    assert mutant.why
    assert mutant.tests


def test_every_mutant_has_a_name_of_its_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.fixture
def repository(tmp_path):
    """A repository with a package `etl` and a test; `etl` is not that of this project."""
    for name, text in {
        "pyproject.toml": "[tool.pytest.ini_options]\n",
        "etl/__init__.py": "def add(a, b):\n    return a + b\n\n\ndef double(a):\n    return 2 * a\n",
        "tests/test_etl.py": """
            import etl

            def test_add(): assert etl.add(2, 3) == 5

            def test_double(): assert etl.double(2) == 4
            """,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(dedent(text))
    shutil.copytree(
        Path(__file__).parent, tmp_path / "tests" / "mutants", ignore=shutil.ignore_patterns("test_*", "_*cache*")
    )
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    return tmp_path


def mutant(old, new, *tests):
    return Mutant(f"{old} becomes {new}", "etl/__init__.py", old, new, "…", tests)


def test_mutant_that_no_test_notices_survives(repository, capsys):
    before = (repository / "etl/__init__.py").read_text()

    exit_code = judge(
        [
            mutant("a + b", "a - b", "tests/test_etl.py"),
            mutant("2 * a", "a * a", "tests/test_etl.py::test_double"),
            mutant("2 * a", "a * 3", "tests/test_etl.py::test_double"),
        ],
        repository,
    )

    assert exit_code == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[:3]] == ["test_add", "SURVIVED", "test_double"]
    assert lines[3] == "2 of 3 mutants noticed"
    assert (repository / "etl/__init__.py").read_text() == before


def test_nothing_is_said_of_a_mutant_where_its_tests_fail_anyway(repository, capsys):
    (repository / "tests/test_etl.py").write_text("def test_double(): assert False\n")
    assert judge([mutant("2 * a", "a * 3", "tests/test_etl.py::test_double")], repository) == 2
    assert "These must pass before a mutant can be tried" in capsys.readouterr().out


def test_code_that_cannot_even_be_read_proves_nothing(repository, tmp_path_factory):
    verdict = Copy(tmp_path_factory.mktemp("copy"), repository).try_mutant(mutant("2 * a", "2 *", "tests/test_etl.py"))
    assert verdict.killed_by is None
    assert "SyntaxError" in verdict.broken


@pytest.mark.parametrize(
    ("stale", "problem"),
    [
        (mutant("a / b", "a", "tests/test_etl.py"), "the old text occurs 0 times"),
        (mutant("return", "yield", "tests/test_etl.py"), "the old text occurs 2 times"),
        (mutant("a + b", "a + b", "tests/test_etl.py"), "changes nothing"),
        (mutant("a + b", "a", "tests/test_nothing.py"), "there is no test tests/test_nothing.py"),
        (mutant("a + b", "a", "tests/test_etl.py::test_ad"), "there is no test tests/test_etl.py::test_ad"),
    ],
)
def test_mutant_that_cannot_be_tried_is_an_error(repository, capsys, stale, problem):
    assert judge([stale], repository) == 2
    assert problem in capsys.readouterr().out
