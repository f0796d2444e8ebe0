"""What a slice costs does not grow with the number of slices: counted in statements of SQLite, not in seconds."""

import sqlite3
from collections import Counter

import pytest
from support.job import DATE, job_at
from support.shapes import dataset, operation, page
from support.studios import studio_of

from etl.config import SourceSettings
from etl.emulator import World
from etl.ledger import database
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger
from etl.model import ForEach, Slice
from etl.pipeline.plan import Plan


@pytest.fixture
def statements(monkeypatch):
    """What SQLite is told, with the values that are bound."""
    told = []
    connect = sqlite3.connect

    def traced(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(told.append)
        return connection

    monkeypatch.setattr(database.sqlite3, "connect", traced)
    return told


def scans(path, statements):
    """Count the statements that look at every row of a table which grows with the slices, by their first words."""
    found = Counter()
    with sqlite3.connect(path) as connection:
        for statement, count in Counter(statements).items():
            if statement.split()[0] in {"select", "insert", "update", "delete"}:
                steps = [row[-1] for row in connection.execute(f"explain query plan {statement}")]
                if any(step.startswith(("SCAN slice", "SCAN page")) for step in steps):
                    found[statement[:60]] += count
    return found


def test_no_statement_that_looks_at_all_slices_is_made_for_each_of_them(tmp_path, monkeypatch, statements):
    """A night of twelve studios makes as many of them as one of two."""
    found = []
    for studios in (2, 12):
        with studio_of(World(studios=studios, sessions_per_studio=3)) as studio:
            job = job_at(tmp_path / str(studios), studio).lend_credentials(monkeypatch)
            statements.clear()
            (outcome,) = job.run()
            assert len(outcome.slices) == 1 + studios
            (path,) = ledger_paths(job.directory / "state")
            found.append(scans(path, statements))
    assert sum(found[0].values()) >= 3
    assert found[0] == found[1]


DETAILS = dataset(
    name="details",
    for_each=ForEach(dataset="things", bind={"kind": "state", "ids": "thing_id"}, batch={"ids": 2}),
)


def planned(ledger, accounts):
    """Return a plan, and the slice of the parent in each account, which lists things of two kinds."""
    shapes = {"things": operation(), "details": operation(parameters=("kind", "ids"))}
    datasets = {"things": dataset(for_each=None), "details": DETAILS}
    source = SourceSettings(region="us-west-2")
    plan = Plan.make(datasets, ["details"], lambda one: shapes[one.name], source, None)
    for name, one in datasets.items():
        ledger.add_dataset(one, shapes[name], published=True)
    parents = [next(iter(plan.first(account))) for account in accounts]
    ledger.add_slices((parent, None) for parent in parents)
    for parent in parents:
        things = [
            {"thingId": f"{parent.account_id}-{number}", "state": ["even", "odd"][number % 2]} for number in range(4)
        ]
        ledger.store_page(parent, page(things[:2], 1, token="t"))
        assert list(plan.following(ledger, parent)) == [], "its other values are not known yet"
        ledger.store_page(parent, page(things[2:], 2))
    return plan, parents


@pytest.mark.parametrize("accounts", [2, 20])
def test_the_values_of_a_batch_are_read_from_one_slice_of_the_parent(tmp_path, statements, accounts):
    path = tmp_path / "state/runs/20261120T020000Z-abcdef.sqlite"
    with Ledger.create(path, path.stem, DATE, "request") as ledger:
        plan, parents = planned(ledger, [f"{number:012d}" for number in range(accounts)])
        statements.clear()
        found = {}
        for parent in parents:
            for slice_ in plan.following(ledger, parent):
                found[slice_.account_id, slice_.parents["kind"]] = plan.batched(ledger, slice_)
    expected = {}
    for parent in parents:
        expected[parent.account_id, "even"] = [f"{parent.account_id}-{number}" for number in (0, 2)]
        expected[parent.account_id, "odd"] = [f"{parent.account_id}-{number}" for number in (1, 3)]
    assert found == expected
    assert not scans(path, statements)
    pages = [statement for statement in statements if statement.startswith("select * from page")]
    assert len(pages) == accounts * 2 * (1 + 2), "two pages of the parent, for its slices and for each of their batches"


def test_what_comes_from_a_parent_is_planned_without_looking_at_all_slices(tmp_path, statements):
    path = tmp_path / "state/runs/20261120T020000Z-abcdef.sqlite"
    with Ledger.create(path, path.stem, DATE, "request") as ledger:
        ledger.add_dataset(dataset(), operation(), published=True)
        slices = [Slice("things", "1", "us-west-2", {"studioId": str(number)}) for number in range(6)]
        for number in range(0, 6, 2):
            ledger.add_slices((one, None) for one in slices[number : number + 2])
        assert [facts.slice for facts in ledger.slices()] == slices
        statements.clear()
        ledger.add_slice(Slice("things", "1", "us-west-2", {"studioId": "last"}))
        assert [facts.slice.parents["studioId"] for facts in ledger.slices()][-1] == "last"
        added = statements[: statements.index("COMMIT" if "COMMIT" in statements else "commit")]
    assert not scans(path, added)
