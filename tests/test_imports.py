"""The import rule: imports point down only, rooms do not know each other, an outside library has one room."""

import ast
import re
from pathlib import Path

import pytest

ETL = Path(__file__).parent.parent / "etl"

# From top to bottom. A module may import from the lines below its own, and from its own room.
LAYERS = (
    ("etl.__main__",),
    ("etl.cli",),
    ("etl.demo",),
    ("etl.pipeline", "etl.verify", "etl.status", "etl.describe", "etl.progress", "etl.render"),
    ("etl.plan", "etl.publish"),
    ("etl.extract", "etl.transform", "etl.load", "etl.ledger", "etl.query", "etl.emulator"),
    ("etl.config", "etl.sqlfiles"),
    ("etl.model",),
    ("etl.errors",),
)
ROOMS = ("etl.extract", "etl.transform", "etl.load", "etl.emulator")
ONLY = {
    "boto3": ("etl.extract",),
    "botocore": ("etl.extract",),
    "sqlite3": ("etl.ledger",),
    "deltalake": ("etl.load.tables",),
    "starlette": ("etl.emulator",),
    "uvicorn": ("etl.emulator",),
}


def modules(root):
    for path in sorted(root.rglob("*.py")):
        name = ".".join(("etl", *path.relative_to(root).with_suffix("").parts))
        yield name.removesuffix(".__init__"), path


def imported(path):
    """Names of modules that a file imports anywhere in it, with what it takes from a package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def layer(name):
    for depth, names in enumerate(LAYERS):
        if any(name == part or name.startswith(f"{part}.") for part in names):
            return depth
    raise AssertionError(f"{name} is in no layer")


def room(name):
    return next((part for part in ROOMS if name == part or name.startswith(f"{part}.")), name)


def violations(root):
    for name, path in modules(root):
        if name == "etl":
            continue
        for target in imported(path):
            top = target.split(".")[0]
            if top == "etl" and target != "etl":
                if room(target) != room(name) and layer(target) <= layer(name):
                    yield f"{name} imports {target}"
                if room(name) == "etl.emulator" != room(target):
                    yield f"{name} imports {target}"
            elif top in ONLY and not any(name == part or name.startswith(f"{part}.") for part in ONLY[top]):
                yield f"{name} imports {target}"


def test_imports_point_down_and_each_outside_library_has_one_room():
    assert list(violations(ETL)) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("transform/x.py", "from etl.load.tables import Tables"),
        ("load/x.py", "import etl.extract.client"),
        ("config.py", "from etl.pipeline import run"),
        ("ledger.py", "import boto3"),
        ("load/catalog.py", "from deltalake import DeltaTable"),
        ("emulator/x.py", "from etl.model import Slice"),
        ("verify.py", "def f():\n    import sqlite3"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, module, line):
    """The rule can fail, also for an import inside a function."""
    path = tmp_path / module
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{line}\n")

    assert len(list(violations(tmp_path))) >= 1


def test_the_map_in_the_readme_names_every_room():
    """Whoever has read only the README finds each file."""
    readme = (ETL.parent / "README.md").read_text(encoding="utf-8")
    for entry in ETL.iterdir():
        if entry.suffix == ".py" and not entry.name.startswith("__"):
            assert re.search(rf"\b{re.escape(entry.name)}\b", readme), entry.name
        elif entry.is_dir() and entry.name not in ("__pycache__", "sql"):
            assert f"{entry.name}/" in readme, entry.name
