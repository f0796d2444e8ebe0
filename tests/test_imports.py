"""The house rule of DESIGN section 4: imports point down only, and each outside library has one room.

Every module is parsed, not imported: imports inside functions and below TYPE_CHECKING count too.
"""

import ast
from pathlib import Path

import pytest

import etl

PACKAGE = Path(etl.__file__).parent

FLOORS = (
    {"etl.errors", "etl.interpreter", "etl.names", "etl.version"},
    {"etl.model", "etl.sqlfiles", "etl.sqltext"},
    {"etl.config", "etl.events", "etl.outcome", "etl.storage"},
    {"etl.configerrors", "etl.configlayers"},
    {"etl.extract", "etl.ledger", "etl.transform", "etl.load", "etl.read", "etl.observe", "etl.configfile"}
    | {"etl.configinit", "etl.emulator"},
    {"etl.pipeline"},
    {"etl.jobs"},
    {"etl.cli", "etl.spark"},
    {"etl.__main__"},
)
"""From the ground up. A room may import from the floors below it, and from itself; never from beside or above."""

ONLY_IN = {
    "boto3": {"etl.extract"},
    "botocore": {"etl.extract"},
    "sqlite3": {"etl.ledger"},
    "deltalake": {"etl.load.delta"},
    "pyiceberg": {"etl.load.iceberg"},
    "sqlalchemy": {"etl.load.iceberg"},
    "obstore": {"etl.storage"},
    "fsspec": {"etl.storage"},
    "typer": {"etl.cli"},
    "pyspark": {"etl.spark", "etl.pipeline.executors"},
    "starlette": {"etl.emulator"},
    "uvicorn": {"etl.emulator"},
    "matplotlib": {"etl.read.report"},
    "jinja2": {"etl.read.report"},
}
"""Outside library -> the room, or the one module, that may import it."""

ONLY_IN_STORAGE = {"fsync", "fdatasync", "flock", "lockf", "link", "rename", "hardlink_to", "symlink_to"}
"""What makes a name durable, moves it or locks it: calls of these stand in etl/storage."""

UNPACKS = "etl.pipeline.travel.rename"
"""A worker unpacks the package before it can import the storage. Nothing of the warehouse or the state is moved."""

SETTINGS = "etl.config.Settings"
SETTINGS_USERS = {"etl.cli", "etl.jobs", "etl.config", "etl.configerrors", "etl.configlayers", "etl.configfile"}
"""Who may see all settings; everybody below gets what they need by name."""

EMULATOR_USERS = {"etl.cli", "etl.jobs"}

ALONE = {"etl.jobs": {"etl.jobs.workplace", "etl.jobs.warehouse", "etl.jobs.engine", "etl.jobs.origin"}}
"""Room whose modules do not import each other -> those that all of them may import: a job never starts a job."""


def is_hallway(module):
    """Whether a package only holds rooms: its own file says what they are for."""
    return any(room.startswith(f"{module}.") for rooms in FLOORS for room in rooms)


def floor_of(module):
    """Return (floor, room) of a module; floor None if the table does not know it."""
    for floor, rooms in enumerate(FLOORS):
        for room in rooms:
            if module == room or module.startswith(f"{room}."):
                return floor, room
    return None, None


def imports(path):
    """Yield the dotted name of everything that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not used here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(package):
    """Yield (dotted name, path) of every module of a package directory."""
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def violations(package):
    """Return a sentence for each import that the rule forbids."""
    found = []
    for module, path in modules(package):
        floor, room = floor_of(module)
        if floor is None and not is_hallway(module):
            found.append(f"{module} stands on no floor")
            continue
        for name in imports(path):
            library = name.split(".")[0]
            if library == "etl":
                below, target = floor_of(name)
                if name == SETTINGS and room not in SETTINGS_USERS:
                    found.append(f"{module} imports {name}")
                if target == room:
                    shared = ALONE.get(room, {room})
                    if not any(name == place or name.startswith(f"{place}.") for place in shared):
                        found.append(f"{module} imports {name}")
                    continue
                if below is None or floor is None or below >= floor or room == "etl.emulator":
                    found.append(f"{module} imports {name}")
                if target == "etl.emulator" and room not in EMULATOR_USERS:
                    found.append(f"{module} imports the emulator")
            allowed = ONLY_IN.get(library, {module})
            if not any(module == place or module.startswith(f"{place}.") for place in allowed):
                found.append(f"{module} imports {library}")
    return list(dict.fromkeys(found))


def test_imports_point_down_only_and_each_library_has_one_room():
    assert violations(PACKAGE) == []


def durable_calls(package):
    """Return a sentence for each call outside of the storage that only the storage may make."""
    return [
        f"{module} calls {node.func.attr}"
        for module, path in modules(package)
        if not module.startswith("etl.storage.")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ONLY_IN_STORAGE
        if f"{module}.{node.func.attr}" != UNPACKS
    ]


def test_names_are_made_durable_moved_and_locked_in_the_storage_only(tmp_path):
    assert durable_calls(PACKAGE) == []
    (tmp_path / "etl" / "load").mkdir(parents=True)
    (tmp_path / "etl" / "load" / "new.py").write_text("import os\nos.fsync(1)\npath.rename('x')\n")
    assert durable_calls(tmp_path / "etl") == ["etl.load.new calls fsync", "etl.load.new calls rename"]


def test_every_module_stands_on_a_floor_and_every_room_of_the_table_exists():
    found = {floor_of(module)[1] for module, _ in modules(PACKAGE) if not is_hallway(module)}
    assert found == set().union(*FLOORS)


@pytest.mark.parametrize(
    ("module", "text", "expected"),
    [
        ("transform/new.py", "from etl.load import changes", "etl.transform.new imports etl.load.changes"),
        ("transform/new.py", "from etl.extract.walk import walk", "etl.transform.new imports etl.extract.walk.walk"),
        ("extract/new.py", "import etl.transform.arrays", "etl.extract.new imports etl.transform.arrays"),
        ("load/new.py", "def f():\n    import etl.ledger.ledger", "etl.load.new imports etl.ledger.ledger"),
        ("read/new.py", "from etl.load.delta import tables", "etl.read.new imports etl.load.delta.tables"),
        ("model.py", "from etl.config import Settings", "etl.model imports etl.config.Settings"),
        ("storage/new.py", "from etl.config import Settings", "etl.storage.new imports etl.config.Settings"),
        ("ledger/new.py", "from etl.pipeline.plan import Plan", "etl.ledger.new imports etl.pipeline.plan.Plan"),
        ("pipeline/new.py", "from etl.jobs import night", "etl.pipeline.new imports etl.jobs.night"),
        ("pipeline/new.py", "from etl.config import Settings", "etl.pipeline.new imports etl.config.Settings"),
        ("load/new.py", "from etl.config import Settings as S", "etl.load.new imports etl.config.Settings"),
        ("jobs/new.py", "from etl.jobs.night import run", "etl.jobs.new imports etl.jobs.night.run"),
        ("jobs/new.py", "from etl.cli import output", "etl.jobs.new imports etl.cli.output"),
        ("emulator/new.py", "from etl.errors import EtlError", "etl.emulator.new imports etl.errors.EtlError"),
        ("pipeline/new.py", "import etl.emulator", "etl.pipeline.new imports the emulator"),
        ("transform/new.py", "if TYPE_CHECKING:\n    import botocore.model", "etl.transform.new imports botocore"),
        ("pipeline/new.py", "import sqlite3", "etl.pipeline.new imports sqlite3"),
        ("spark.py", "from etl.cli.output import Output", "etl.spark imports etl.cli.output.Output"),
        ("jobs/new.py", "import pyspark.sql", "etl.jobs.new imports pyspark"),
        ("load/delta/new.py", "import pyiceberg.catalog", "etl.load.delta.new imports pyiceberg"),
        ("load/catalog/new.py", "from deltalake import DeltaTable", "etl.load.catalog.new imports deltalake"),
        ("newcomer.py", "", "etl.newcomer stands on no floor"),
    ],
)
def test_forbidden_import_is_found(tmp_path, module, text, expected):
    """The rule can fail: each of these would go unnoticed by a test that only ever sees good code."""
    path = tmp_path / "etl" / module
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert violations(tmp_path / "etl") == [expected]


def test_allowed_imports_are_not_found(tmp_path):
    path = tmp_path / "etl/extract/new.py"
    path.parent.mkdir(parents=True)
    path.write_text("import boto3\nfrom etl.model import Page\nfrom etl.extract.walk import walk\nimport json\n")
    assert violations(tmp_path / "etl") == []
