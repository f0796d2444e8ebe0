"""From ledgers to the warehouse once more, without a request: after damage, or to believe what was held back.

A replay rebuilds whole dates: every slice is written from the ledger that published it last, all slices of a dataset
in one commit per table. Files that cannot be read are thereby replaced.
"""

import datetime as dt
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from etl.config import Settings
from etl.errors import ConfigError, WarehouseError
from etl.extract.datasets import select_datasets
from etl.extract.service_model import describe_operation, model_session
from etl.jobs.workplace import workplace
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger
from etl.load.delta.tables import Tables
from etl.model import Dataset, Operation, SliceFacts
from etl.outcome import Outcome
from etl.pipeline.publish import mark, publish_facts
from etl.pipeline.write import Walked, Writer, write_slices
from etl.transform.schema import layout_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Selection:
    """What to replay: the date of one run, or every date from one on.

    `allow_fall` also publishes the complete slices of that run, or of those dates' last runs, that were held back.
    """

    run_id: str | None = None
    since: dt.date | None = None
    allow_fall: bool = False


@dataclass
class _Date:
    """The ledgers of one date, oldest first, and for each slice the one that its rows come from."""

    ledgers: list[Ledger] = field(default_factory=list)
    winners: dict[str, tuple[dt.datetime, Ledger, SliceFacts]] = field(default_factory=dict)

    def add(self, ledger: Ledger, *, with_held_back: bool) -> None:
        """Add a ledger: of a slice in several, the one published last wins; held back, the time of its walk counts."""
        self.ledgers.append(ledger)
        wanted = ledger.datasets(published=True)
        for facts in ledger.slices():
            held_back = with_held_back and facts.whole and facts.slice.dataset in wanted
            at = facts.published_at or (facts.observed_until if held_back else None)
            former = self.winners.get(facts.slice.slice_id)
            if at and (former is None or former[0] < at):
                self.winners[facts.slice.slice_id] = (at, ledger, facts)

    def walked(self, dataset: str) -> list[Walked]:
        """Return the ledgers whose slices of a dataset are what readers see."""
        return [
            Walked(ledger, ready)
            for ledger in self.ledgers
            if (
                ready := [
                    facts
                    for _, owner, facts in self.winners.values()
                    if owner is ledger and facts.slice.dataset == dataset
                ]
            )
        ]


def replay(settings: Settings, selection: Selection) -> list[Outcome]:
    """Write the rows of past runs anew from their ledgers, and build the catalog. Returns how those runs stand.

    Datasets are laid out as the configuration and the service model say now; one that is no longer configured, as
    its ledger says.

    Raises:
        LockedError: a run is at work on this state directory.
        ConfigError: no ledger matches.
        WarehouseError: a data file cannot be read, and not everything in it is in the ledgers that there are.
    """
    with workplace(settings) as place, ExitStack() as opened:
        tables = place.tables
        dates = _select(settings, selection, opened)
        outcomes = [
            outcome for date, found in sorted(dates.items()) for outcome in _replay_date(settings, tables, date, found)
        ]
        if place.unsettled:
            place.settle()  # what was damaged may be whole by now
        failed = place.show()
    return [replace(outcome, failed_checks=failed) for outcome in outcomes]


def _select(settings: Settings, selection: Selection, opened: ExitStack) -> Mapping[dt.date, _Date]:
    """Return the dates to rebuild, with all their ledgers."""
    ledgers = [opened.enter_context(Ledger.open(path)) for path in ledger_paths(settings.state_dir)]
    runs = [(ledger, ledger.run()) for ledger in ledgers]
    chosen = {
        run.snapshot_date
        for _, run in runs
        if run.run_id == selection.run_id or (selection.since and run.snapshot_date >= selection.since)
    }
    if not chosen:
        wanted = selection.run_id or f"since {selection.since}"
        known = f"{runs[0][1].run_id} to {runs[-1][1].run_id}" if runs else "none"
        raise ConfigError(f"replay {wanted}: there is no such ledger in {settings.state_dir}; there are: {known}")
    dates: dict[dt.date, _Date] = {}
    for ledger, run in runs:
        if run.snapshot_date in chosen:
            believed = selection.allow_fall and selection.run_id in (None, run.run_id)
            dates.setdefault(run.snapshot_date, _Date()).add(ledger, with_held_back=believed)
    return dates


def _replay_date(settings: Settings, tables: Tables, date: dt.date, found: _Date) -> Iterator[Outcome]:
    prefix, rebuild = f"replay-{secrets.token_hex(8)}", _is_all(tables, date, found)
    for number, (dataset, operation) in enumerate(_definitions(settings, found.ledgers), start=1):
        # A number for each dataset: all of them commit to etl_rejects.
        writer = Writer(f"nimble-etl/{prefix}", number, prefix, rebuild=rebuild)
        walked = found.walked(dataset.name)
        if not walked:
            continue
        publications = []
        for one in walked:
            one.ledger.add_dataset(dataset, operation, published=True)
            slice_ids = [facts.slice.slice_id for facts in one.ready]
            publications.append(one.ledger.plan_publication(dataset.name, slice_ids))
        counts = write_slices(tables, layout_of(dataset, operation, settings.privacy.secret), walked, writer)
        for one, publication in zip(walked, publications, strict=True):
            mark(one.ledger, publication, one.ready, counts)
    outcomes = [Outcome(ledger.run(), tuple(ledger.slices()), 0) for ledger in found.ledgers]
    told = [(ledger, outcome) for ledger, outcome in zip(found.ledgers, outcomes, strict=True) if outcome.slices]
    if told:
        publish_facts(tables, told, rebuild=rebuild)
    yield from (outcome for outcome in outcomes if outcome.slices)


def _is_all(tables: Tables, date: dt.date, found: _Date) -> bool:
    """Tell whether the ledgers hold every slice that is published for a date; if so, damaged files may go."""
    try:
        rows = tables.rows("etl_slices", date, ["slice_id", "is_published"])
    except WarehouseError as exc:
        log.warning("%s: what it said is written anew from the ledgers here", exc)
        return True
    missing = {row["slice_id"] for row in rows if row["is_published"]} - found.winners.keys()
    if missing:
        log.warning("%s: %d published slices are in no ledger here; damaged files stay", date, len(missing))
    return not missing


def _definitions(settings: Settings, ledgers: Sequence[Ledger]) -> Iterator[tuple[Dataset, Operation]]:
    """Yield each dataset once, as it is configured now or else as the newest ledger has it."""
    stored = {name: pair for ledger in ledgers for name, pair in ledger.datasets().items()}
    configured = select_datasets(settings.datasets, settings.privacy.rules)
    session = model_session()
    for name, (dataset, operation) in stored.items():
        now = configured.get(name)
        same = now and (now.service, now.operation, now.for_each) == (
            dataset.service,
            dataset.operation,
            dataset.for_each,
        )
        yield (now, describe_operation(session, now)) if now and same else (dataset, operation)
