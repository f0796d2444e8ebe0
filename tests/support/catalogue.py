"""The fault catalogue, the tests that carry its numbers, and `pytest --faults`, which lays the two side by side."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CATALOGUE = TESTS.parent / "docs" / "faults.md"

_ROW = re.compile(r"\| (?P<number>\d+) \| (?P<what>.+?) (?<!\\)\| .+? (?<!\\)\|")
_NAME = re.compile(r"test_fault_(?P<numbers>\d+(_to_\d+|_\d+)*)(?=_|$)")


@dataclass(frozen=True, slots=True)
class Row:
    """One fault."""

    number: int
    what: str


def read_rows(text: str) -> list[Row]:
    """Return the rows of the tables in a catalogue, in their order."""
    return [
        Row(int(found["number"]), found["what"].replace("\\|", "|"))
        for found in map(_ROW.fullmatch, text.splitlines())
        if found
    ]


def numbers_in(name: str) -> frozenset[int]:
    """Return the faults that a test is for, as test_fault_12_…, test_fault_1_2_… or test_fault_29_to_35_… say so."""
    found = _NAME.match(name)
    if not found:
        return frozenset()
    words = found["numbers"].split("_")
    ranges = [
        range(int(first), int(last) + 1)
        for first, word, last in zip(words, words[1:], words[2:], strict=False)
        if word == "to"
    ]
    return frozenset(int(word) for word in words if word != "to").union(*ranges)


def names_of_tests(directory: Path) -> Iterator[str]:
    """Yield the name of every test function in the test files below a directory."""
    for path in sorted(directory.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield node.name


def untested(rows: Iterable[Row], names: Iterable[str]) -> list[int]:
    """Return the numbers of the rows that no test carries."""
    carried = frozenset().union(*map(numbers_in, names))
    return [row.number for row in rows if row.number not in carried]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--faults` and `--store`."""
    parser.addoption("--faults", action="store_true", help="print the fault catalogue with the outcome of its tests")
    parser.addoption("--store", default="disk", help="where jobs have their warehouses: disk, moto or ministack")


def pytest_configure(config: pytest.Config) -> None:
    """Follow the outcomes, if asked to; not in the workers of pytest-xdist, which report to the first process."""
    if config.getoption("faults") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FaultTable())


class FaultTable:
    """A pytest plugin that prints the catalogue with the outcome of its tests; a row without one fails the session."""

    def __init__(self) -> None:
        self._rows = read_rows(CATALOGUE.read_text(encoding="utf-8"))
        self._outcomes: dict[str, str] = {}
        """By node id; what failed stays so, be it in set-up, call or tear-down."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note an outcome; with pytest-xdist it comes from a worker."""
        if self._outcomes.get(report.nodeid) != "failed" and (report.when == "call" or not report.passed):
            self._outcomes[report.nodeid] = report.outcome

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail where a row has no test."""
        if exitstatus == pytest.ExitCode.OK and any(outcome == "missing" for *_, outcome in self._lines()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        terminalreporter.section("fault catalogue")
        lines = [("", "fault", "tests", "outcome")]
        lines += [(str(row.number), row.what, str(count), outcome) for row, count, outcome in self._lines()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for number, what, count, outcome in lines:
            text = f"{number:>{widths[0]}}  {what:<{widths[1]}}  {count:>{widths[2]}}  {outcome}"
            terminalreporter.write_line(text, red=outcome in {"failed", "missing"})

    def _lines(self) -> Iterator[tuple[Row, int, str]]:
        by_number: dict[int, list[str]] = {}
        for node_id, outcome in self._outcomes.items():
            for number in numbers_in(node_id.partition("[")[0].rpartition("::")[2]):
                by_number.setdefault(number, []).append(outcome)
        for row in self._rows:
            outcomes = by_number.get(row.number, [])
            # A test that was skipped has shown nothing.
            known = next((name for name in ("failed", "passed") if name in outcomes), None)
            yield row, len(outcomes), known or "missing"
