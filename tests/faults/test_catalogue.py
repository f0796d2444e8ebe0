"""The catalogue is whole, and what `pytest --faults` says of it is true."""

import subprocess
import sys
from textwrap import dedent

import pytest
from support.catalogue import CATALOGUE, TESTS, names_of_tests, numbers_in, read_rows, untested

ROWS = read_rows(CATALOGUE.read_text(encoding="utf-8"))


def test_catalogue_has_the_rows_1_to_93_each_once():
    assert [row.number for row in ROWS] == list(range(1, 94))


def test_every_fault_has_a_test_that_carries_its_number():
    assert untested(ROWS, names_of_tests(TESTS)) == []


def test_rows_are_read_with_what_they_say():
    text = dedent("""
        | # | fault | what the job does |
        |---|---|---|
        | 7 | closed (`… \\| head`) | ends |
        | 8 | S3 | reads back |
        | a | not a row | … |
    """)
    assert [(row.number, row.what) for row in read_rows(text)] == [(7, "closed (`… | head`)"), (8, "S3")]


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("test_fault_12_token_cycle", {12}),
        ("test_fault_1_2_a_page", {1, 2}),
        ("test_fault_26_28_53_hostile", {26, 28, 53}),
        ("test_fault_29_to_35_killed", set(range(29, 36))),
        ("test_fault_3_29_to_31_44_killed", {3, 29, 30, 31, 44}),
        ("test_fault_9", {9}),
        ("test_fault_9_to_the_end", {9}),
        ("test_fault_50ms_is_no_number", set()),
        ("test_default_1_is_no_fault", set()),
        ("test_every_fault_12_has_a_test", set()),
    ],
)
def test_name_of_a_test_says_which_faults_it_is_for(name, numbers):
    assert numbers_in(name) == numbers


def test_row_that_no_test_carries_is_found():
    names = [f"test_fault_{row.number}_is_survived" for row in ROWS if row.number not in {12, 44}]
    assert untested(ROWS, names) == [12, 44]


SUITE = """
    import pytest

    def test_fault_1_to_63_pass(): pass

    @pytest.mark.parametrize("n", range(3))
    def test_fault_2_passes_twice_and_fails_once(n): assert n != 1

    @pytest.fixture
    def broken():
        yield
        raise OSError

    def test_fault_3_fails_when_it_is_torn_down(broken): pass

    @pytest.mark.skip(reason="it is one")
    def test_fault_64_is_skipped(): pass
"""


def test_table_shows_failed_missing_and_passed_rows_with_the_number_of_their_tests(tmp_path):
    """In two processes: outcomes arrive from the workers of pytest-xdist."""
    table, exit_code = run_with_faults(tmp_path, SUITE, workers=2)

    assert exit_code == 1
    assert table.keys() == {str(row.number) for row in ROWS}
    assert table["1"] == ("1", "passed")
    assert table["2"] == ("4", "failed")
    assert table["3"] == ("2", "failed")
    assert table["64"] == ("1", "missing"), "a skipped test shows nothing"


@pytest.mark.parametrize(("names", "expected"), [("1_to_93", 0), ("1_to_80", 1)])
def test_row_without_a_test_fails_the_session(tmp_path, names, expected):
    table, exit_code = run_with_faults(tmp_path, f"def test_fault_{names}_pass(): pass")

    assert exit_code == expected
    assert table["89"][1] == ("missing" if expected else "passed")


def run_with_faults(directory, suite, workers=0):
    """Return what `pytest --faults` prints for each row, and its exit code."""
    (directory / "test_suite.py").write_text(dedent(suite))
    ended = subprocess.run(
        [
            sys.executable, "-m", "pytest", "--faults", "-n", str(workers), "-p", "no:cacheprovider",
            "-p", "support.catalogue", directory,
        ],
        cwd=TESTS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line.split() for line in ended.stdout.partition("fault catalogue")[2].splitlines()]
    return {line[0]: (line[-2], line[-1]) for line in lines if line[:1] and line[0].isdigit()}, ended.returncode
