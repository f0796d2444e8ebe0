"""Try the mutants: every one must be noticed by its tests.

    PYTHONPATH=tests python -m mutants [WORD…]

First all their tests run on the code as it is, and must pass; so what fails afterwards fails because of the mutant.
Each mutant is made in a copy of the working tree, never in the tree itself. With words, only the mutants whose name
or file has one of them are tried.

Exit code 0: all were noticed. 1: one was not. 2: nothing was learned, for a mutant is stale or a test fails anyway.
"""

import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

import pytest

from mutants import ROOT, Mutant

AT_ONCE = 2
TIMEOUT_S = 300
_RED = re.compile(r"^(?:FAILED|ERROR) (?P<test>tests/.+?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant: `killed_by` is a test; None: it survived. `broken` says why nothing was learned."""

    killed_by: str | None
    seconds: float
    broken: str | None = None


class Copy:
    """A copy of the working tree that tests run in: what git knows or would add."""

    def __init__(self, directory: Path, source: Path) -> None:
        self.root = directory / "tree"
        self._scratch = directory / "scratch"
        self._seconds = itertools.count()
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=source, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (source / name).is_file():  # not removed since
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, self.root / name)
        for environment in source.glob(".venv-*"):  # of servers and engines that tests start
            (self.root / environment.name).symlink_to(environment)

    def run_tests(
        self, tests: Iterable[str], *options: str, timeout_s: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run some tests on the code of this copy.

        Raises:
            TimeoutExpired: they do not end.
        """
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.root), str(self.root / "tests")]),
        }
        return subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-x", "-rfE", "--no-header", "-p", "mutants.inside",
                "-p", "no:cacheprovider", f"--basetemp={self._scratch}", *options, *tests,
            ],
            cwd=self.root, env=environment, capture_output=True, text=True, check=False, timeout=timeout_s,
        )  # fmt: skip

    def try_mutant(self, mutant: Mutant) -> Verdict:
        """Return what the tests of a mutant say; the copy is then as it was."""
        path = self.root / mutant.file
        text = path.read_text(encoding="utf-8")
        began = time.monotonic()
        self._write(path, mutant.apply(text))
        try:
            ended = self.run_tests(mutant.tests, timeout_s=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return Verdict(None, time.monotonic() - began, f"its tests have not ended after {TIMEOUT_S} s")
        finally:
            self._write(path, text)
        seconds = time.monotonic() - began
        if ended.returncode not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
            return Verdict(None, seconds, f"pytest ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
        red = _RED.search(ended.stdout) if ended.returncode else None
        return Verdict(red["test"].rpartition("::")[2] if red else None, seconds)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        # Python takes two texts of one length and one second for the same, and would run the bytecode of the former.
        second = next(self._seconds)
        os.utime(path, (second, second))


def judge(mutants: Iterable[Mutant], source: Path) -> int:
    """Try mutants, print a line for each, and return the exit code."""
    mutants = list(mutants)
    problems = [problem for mutant in mutants for problem in mutant.problems(source)]
    if problems:
        print(*problems, sep="\n")
        return 2
    with TemporaryDirectory(prefix="mutants-") as directory, ThreadPoolExecutor(AT_ONCE) as pool:
        Path(directory).chmod(0o755)  # some tests run a process as somebody else
        copies = [Copy(Path(directory, str(number)), source) for number in range(AT_ONCE)]
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        unchanged = copies[0].run_tests(tests, "-n", str(AT_ONCE))
        if unchanged.returncode:
            print(f"{unchanged.stdout}{unchanged.stderr}\nThese must pass before a mutant can be tried.")
            return 2
        free: SimpleQueue[Copy] = SimpleQueue()
        for copy in copies:
            free.put(copy)

        def attempt(mutant: Mutant) -> Verdict:
            copy = free.get()
            try:
                return copy.try_mutant(mutant)
            finally:
                free.put(copy)

        verdicts = []
        width = max(len(mutant.name) for mutant in mutants)
        for mutant, verdict in zip(mutants, pool.map(attempt, mutants), strict=True):
            verdicts.append(verdict)
            word = "BROKEN" if verdict.broken else verdict.killed_by or "SURVIVED"
            print(f"{mutant.name:<{width}}  {verdict.seconds:4.0f} s  {word}", flush=True)
            if verdict.broken:
                print(verdict.broken)
    noticed = sum(verdict.killed_by is not None for verdict in verdicts)
    print(f"{noticed} of {len(mutants)} mutants noticed")
    if any(verdict.broken for verdict in verdicts):
        return 2
    return 0 if noticed == len(mutants) else 1


def main() -> int:
    """Try those that the command line names."""
    words = sys.argv[1:]
    chosen = [
        mutant
        for mutant in Mutant.read_list()
        if not words or any(word in f"{mutant.name} {mutant.file}" for word in words)
    ]
    if not chosen:
        print(f"no mutant has {' or '.join(words)} in its name or file")
        return 2
    return judge(chosen, ROOT)


if __name__ == "__main__":
    sys.exit(main())
