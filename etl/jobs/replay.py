"""Publish past runs again from their ledgers, without a request: after damage, or to publish slices held back.

A replay rebuilds whole dates: every slice is written from the ledger that published it last, all slices of a dataset
in one commit per table. So files that cannot be read are replaced.
"""

import datetime as dt
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from etl.config import Settings
from etl.errors import ConfigError, LedgerError, WarehouseError
from etl.extract.datasets import builtin_datasets, select_datasets
from etl.extract.service_model import describe_operation, model_session
from etl.jobs.workplace import workplace
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger
from etl.load.changes import logged_dataset
from etl.load.delta.atomic import Change, all_or_nothing, undone_if_it_fails
from etl.load.delta.sources import note_key
from etl.load.delta.tables import Tables
from etl.load.snapshots import newest_publications
from etl.model import Dataset, Operation, SliceFacts
from etl.outcome import Outcome
from etl.pipeline.publish import mark, publish_facts
from etl.pipeline.rewrite import apply_rules
from etl.pipeline.write import Walked, Writer, is_logged, log_changes, write_slices
from etl.transform.schema import Layout, layout_of

log = logging.getLogger(__name__)

_EVER = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Selection:
    """What to replay: the date of one run, or every date since a date.

    `allow_fall` also publishes complete slices that were held back, of that run or of the last runs of those dates.
    """

    run_id: str | None = None
    since: dt.date | None = None
    allow_fall: bool = False


@dataclass
class _Date:
    """The ledgers of one date, oldest first, and for each slice the ledger that its rows come from."""

    ledgers: list[Ledger] = field(default_factory=list)
    winners: dict[str, tuple[Ledger, SliceFacts]] = field(default_factory=dict)

    def add(self, ledger: Ledger, *, with_held_back: bool) -> None:
        """Add a ledger. The latest publication of a slice wins; one held back wins over those walked before it."""
        self.ledgers.append(ledger)
        for facts in ledger.slices():
            held_back = with_held_back and facts.whole and facts.is_wanted
            if facts.publication is None and not held_back:
                continue
            former = self.winners.get(facts.slice.slice_id)
            if former is None or _is_newer(facts, former[1]):
                self.winners[facts.slice.slice_id] = (ledger, facts)

    def walked(self, dataset: str) -> list[Walked]:
        """Return each ledger with those of its slices of a dataset that readers see."""
        found = []
        for ledger in self.ledgers:
            owned = [facts for owner, facts in self.winners.values() if owner is ledger]
            ready = [facts for facts in owned if facts.slice.dataset == dataset]
            if ready:
                found.append(Walked(ledger, ready))
        return found


def _is_newer(facts: SliceFacts, other: SliceFacts) -> bool:
    """Tell whether facts of a slice are newer than others of the same date.

    Numbers of publications tell, and no clock. A walk that was never published has none.
    """
    if facts.publication is None or other.publication is None:
        return (facts.observed_until or _EVER) > (other.observed_until or _EVER)
    return (facts.publication, facts.published_at or _EVER) > (other.publication, other.published_at or _EVER)


def replay(settings: Settings, selection: Selection) -> list[Outcome]:
    """Rewrite the rows of past runs from their ledgers, build the catalog, and return how those runs stand.

    Rows of these dates that no ledger has stay as they are, except for rules of privacy.

    Datasets are laid out as the configuration and the service model define them now. If a dataset is no longer
    configured, the definition in its ledger is used.

    Raises:
        LockedError: another job works on this state directory.
        ConfigError: no ledger matches.
        WarehouseError: a data file cannot be read, and the ledgers do not have all of its rows.
    """
    with workplace(settings) as place, ExitStack() as opened, place.alone():
        for failure in place.fetch_ledgers():
            log.error("%s. It is left out", failure)
        chosen = sorted(_select(settings, selection, opened, place.tables).items())
        with all_or_nothing(place.tables) as change:
            dates = [_replay_date(settings, place.tables, change, date, found) for date, found in chosen]
            place.unsettled.extend(_apply_rules(settings, selection, place.tables, {date for date, _ in chosen}))
            # Only now: what a date is compared with may be damaged or under former rules, too.
            written = [one for date in dates for one in date.written]
            anyway = {
                (one.ledger.run().snapshot_date, facts.slice.slice_id)
                for _, walked, _ in written
                for one in walked
                for facts in one.ready
                if is_logged(facts)
            }
            for layout, walked, writer in written:
                try:
                    with undone_if_it_fails(place.tables):
                        log_changes(place.tables, layout, walked, writer, anyway)
                except WarehouseError as exc:  # what the date is compared with has no ledger; it costs this comparison
                    log.error("%s: %s", layout.changes_table, exc)  # noqa: TRY400
                    place.unsettled.append(exc)
            note_key(place.tables, settings.privacy.secret)
        for _, found in chosen:
            for ledger in found.ledgers:
                ledger.confirm()
        failed = place.show()
    if failed and not dates:
        raise WarehouseError(str(failed[0]))
    return [replace(outcome, failed_checks=failed) for date in dates for outcome in date.outcomes]


def _select(settings: Settings, selection: Selection, opened: ExitStack, tables: Tables) -> Mapping[dt.date, _Date]:
    """Return the dates to rebuild, with all their ledgers."""
    runs = []
    for path in ledger_paths(settings.state_dir):
        try:
            ledger = opened.enter_context(Ledger.open(path))
            runs.append((ledger, ledger.run()))
        except LedgerError as exc:
            if path.stem == selection.run_id:
                raise
            log.error("%s. It is left out", exc)  # noqa: TRY400  the operator's
    chosen = {
        run.snapshot_date
        for _, run in runs
        if run.run_id == selection.run_id or (selection.since and run.snapshot_date >= selection.since)
    }
    if not chosen and not _dates_since(selection, tables):
        wanted = selection.run_id or f"since {selection.since}"
        known = f"{runs[0][1].run_id} to {runs[-1][1].run_id}" if runs else "none"
        raise ConfigError(f"replay {wanted}: {settings.state_dir} has no such ledger; its ledgers are: {known}")
    dates: dict[dt.date, _Date] = {}
    for ledger, run in runs:
        if run.snapshot_date in chosen:
            believed = selection.allow_fall and selection.run_id in (None, run.run_id)
            dates.setdefault(run.snapshot_date, _Date()).add(ledger, with_held_back=believed)
    return dates


@dataclass
class _Replayed:
    """What was written for one date, dataset by dataset, and how its runs stand."""

    written: list[tuple[Layout, Sequence[Walked], Writer]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


def _replay_date(settings: Settings, tables: Tables, change: Change, date: dt.date, found: _Date) -> _Replayed:
    """Rewrite every slice of a date, and the facts about its runs, but no change log yet."""
    replayed = _Replayed()
    writer = Writer(f"replay-{secrets.token_hex(8)}", rebuild=_leave_to_others(tables, date, found))
    for dataset, operation in _definitions(settings, found.ledgers):
        walked = found.walked(dataset.name)
        if not walked:
            continue
        publications = []
        for one in walked:
            one.ledger.add_dataset(dataset, operation, published=True)
            slice_ids = [facts.slice.slice_id for facts in one.ready]
            publications.append(one.ledger.plan_publication(dataset.name, slice_ids))
        layout = layout_of(dataset, operation, settings.privacy.secret)
        counts = write_slices(tables, layout, walked, writer)
        replayed.written.append((layout, walked, writer))
        for one, publication in zip(walked, publications, strict=True):
            mark(one.ledger, publication, change.sequence, one.ready, counts)
    told = [(one, Outcome(one.run(), tuple(slices), 0)) for one in found.ledgers if (slices := one.slices())]
    if told:
        publish_facts(tables, told, rebuild=writer.rebuild)
    replayed.outcomes += [outcome for _, outcome in told]
    return replayed


def _leave_to_others(tables: Tables, date: dt.date, found: _Date) -> bool:
    """Leave out slices that another machine has published later. Tell whether nothing of the date is missing then.

    Only if the ledgers have every published slice of the date may damaged files be replaced.
    """
    try:
        published = newest_publications(tables, date)
    except WarehouseError as exc:
        log.warning("%s: its rows are rewritten from the ledgers", exc)
        return True
    own = {ledger.run().run_id for ledger in found.ledgers}
    for slice_id, row in published.items():
        ledger, facts = found.winners.get(slice_id, (None, None))
        if not (ledger and facts):
            continue
        later = (row.get("publication") or 0) > (facts.publication or 0)
        if row["run_id"] not in own and later:
            log.info("%s, %s: run %s of another machine has published it later", date, facts.slice, row["run_id"])
            del found.winners[slice_id]
        elif row["run_id"] == ledger.run().run_id and row.get("pages_sha256") not in {None, facts.pages_sha256}:
            log.warning("%s, %s: its ledger has other pages than were published; its rows stay", date, facts.slice)
            del found.winners[slice_id]
    missing = published.keys() - found.winners.keys()
    if missing:
        log.warning("%s: %d published slices are in no ledger; damaged files stay", date, len(missing))
    return not missing


def _dates_since(selection: Selection, tables: Tables) -> set[dt.date]:
    """Return the dates of all tables that a selection of dates means, whether they have ledgers or not."""
    dates = {date for name in tables.names() for date in tables.dates(name)}
    return {date for date in dates if selection.since and date >= selection.since}


def _apply_rules(
    settings: Settings, selection: Selection, tables: Tables, replayed: set[dt.date]
) -> Iterator[WarehouseError]:
    """Apply the rules of privacy to rows that no ledger can write again; yield what cannot be rewritten."""
    dates = replayed | _dates_since(selection, tables)
    rules = settings.privacy.rules
    names = [name for name in builtin_datasets() if name in tables.names()]
    session = model_session()
    defined = select_datasets([*settings.datasets, *names], rules)
    writer = Writer(f"rules-{secrets.token_hex(8)}")
    for dataset in defined.values():
        if dataset.privacy and dataset.name in tables.names():
            layout = layout_of(dataset, describe_operation(session, dataset), settings.privacy.secret)
            for date in sorted(dates):
                try:
                    apply_rules(tables, layout, date, writer)
                except WarehouseError as exc:  # it costs this date
                    log.error("%s, %s: not under the present rules of privacy: %s", date, dataset.name, exc)  # noqa: TRY400
                    yield exc
    for name in tables.names():
        table = tables.read(name)
        undefined = logged_dataset(table.schema) if table else None
        ruled = [place for place in rules.get("*", {}) if table and place.partition(".")[0] in table.schema.names]
        has_rows = undefined and (tables.dates(undefined) or tables.dates(name))  # `forget` leaves an empty table
        if undefined not in defined and ruled and has_rows:
            failure = WarehouseError(
                f"table {undefined}: the rule for *.{ruled[0]} cannot be applied to its former rows, because the "
                "dataset is not defined any more. Define it again, or remove it: "
                f"`nimble-etl forget --dataset {undefined}`"
            )
            log.error("%s", failure)
            yield failure


def _definitions(settings: Settings, ledgers: Sequence[Ledger]) -> Iterator[tuple[Dataset, Operation]]:
    """Yield each dataset once: as it is configured now, or as the newest ledger has it."""
    stored = {name: pair for ledger in ledgers for name, pair in ledger.datasets().items()}
    configured = select_datasets(settings.datasets, settings.privacy.rules)
    session = model_session()
    for name, (dataset, operation) in stored.items():
        now = configured.get(name, dataset)
        same = (now.service, now.operation, now.for_each) == (dataset.service, dataset.operation, dataset.for_each)
        yield (now, describe_operation(session, now)) if name in configured and same else (dataset, operation)
