"""Mutants: the code broken in one place, and the tests that must notice. `python -m mutants` tries them all."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutants.toml")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change that must not pass unnoticed.

    Attributes:
        name: what the broken code does wrong.
        file: where, from the root of the repository.
        old: text that occurs there exactly once.
        new: what stands there instead.
        why: what would happen to people's rows.
        tests: node ids of which at least one must turn red.
    """

    name: str
    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]

    @classmethod
    def read_list(cls, path: Path = LIST) -> list["Mutant"]:
        """Return the mutants of a list."""
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
        return [cls(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]

    def apply(self, text: str) -> str:
        """Return the text of the file with the change made."""
        return text.replace(self.old, self.new, 1)

    def problems(self, root: Path) -> Iterator[str]:
        """Say what keeps the mutant from being tried: the code has moved on, or a test has gone."""
        path = root / self.file
        found = path.read_text(encoding="utf-8").count(self.old) if path.is_file() else 0
        if found != 1:
            yield f"{self.name}: the old text occurs {found} times in {self.file}; expected once"
        if self.old == self.new:
            yield f"{self.name}: changes nothing"
        yield from (f"{self.name}: there is no test {test}" for test in self.tests if not _exists(root, test))


def _exists(root: Path, node_id: str) -> bool:
    file, _, name = node_id.partition("::")
    path = root / file
    return path.is_file() and (not name or f"def {name.partition('[')[0]}(" in path.read_text(encoding="utf-8"))
