"""From dumps to the warehouse: a run whose pages come out of files.

    lock -> pages into a ledger of their own -> publish -> catalog

An import is never resumed. Killed anywhere and begun again with the same files, it leaves the same rows: what it
publishes replaces that slice of that date. A file that is not whole leaves nothing behind.
"""

import datetime as dt
import itertools
import logging
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from etl.config import Settings
from etl.errors import ConfigError, SourceError
from etl.events import PageStored, reach, tell
from etl.extract.datasets import select_datasets
from etl.extract.dump import Dump
from etl.extract.service_model import describe_operation, model_session
from etl.jobs.workplace import workplace
from etl.ledger.directory import RUN_ID_TIME, remove_ledger, remove_old_ledgers
from etl.ledger.ledger import Ledger
from etl.model import Dataset, Operation, Page, RunState, Slice, SliceState, digest
from etl.outcome import Outcome
from etl.pipeline.plan import check_tables
from etl.pipeline.publish import publish, publish_facts
from etl.transform.privacy import check_key
from etl.transform.schema import layout_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What one invocation imports: the files are one slice of one dataset, as it was on one date.

    `parents` are the parameters that it was listed with (studioId); `account_id` and `region` None mean: as the
    records say.
    """

    files: Sequence[Path]
    dataset: str
    snapshot_date: dt.date
    parents: Mapping[str, str] = field(default_factory=dict)
    account_id: str | None = None
    region: str | None = None
    publish_partial: bool = False
    allow_fall: bool = False


def import_dump(settings: Settings, request: ImportRequest) -> Outcome:
    """Publish what is in dumps; return how the run stands.

    Raises:
        ConfigError: the request names no slice, or a file that is not there.
        SourceError: a file is not what the CLI prints, or not all of it; nothing is published.
        LockedError: another run is at work on this state directory.
        EtlError: as `publish` says.
    """
    began = time.monotonic()
    _check(request)
    dataset = select_datasets([*settings.datasets, request.dataset], settings.privacy.rules)[request.dataset]
    operation = describe_operation(model_session(), dataset)
    shape = layout_of(dataset, operation, settings.privacy.secret)
    check_key(shape)
    check_tables({dataset.name: shape})
    parents = {**dataset.fixed_parents, **_bound(dataset, request.parents)}
    with workplace(settings) as place:
        place.check_settled()
        tables = place.tables
        dump = Dump(dataset, operation, request.account_id, request.region)
        pages = dump.pages(request.files)
        first = next(pages)
        if dump.account_id is None or dump.region is None:
            raise ConfigError(
                "the first records have no ARN that says account and Region; name them with --account-id and --region"
            )
        slice_ = Slice(dataset.name, dump.account_id, dump.region, parents)
        ledger = _begin(settings, request, slice_, dataset, operation)
        with ledger:
            try:
                _store(ledger, slice_, itertools.chain([first], pages), partial=request.publish_partial)
            except BaseException:
                ledger.close()
                remove_ledger(ledger.path)
                raise
            limits = None if request.allow_fall else settings.publish
            publish(ledger, tables, shape, limits=limits, partial=request.publish_partial)
            ledger.add_time(time.monotonic() - began)
            outcome = Outcome(ledger.run(), tuple(ledger.slices()), time.monotonic() - began)
            publish_facts(tables, [(ledger, outcome)])
            reach("facts.published")
            outcome = replace(outcome, failed_checks=place.show())
            ledger.close_run(RunState.FAILED if outcome.exit_code == 1 else RunState.PUBLISHED)
            reach("run.closed")
        remove_old_ledgers(settings.state_dir, settings.run.keep_ledgers, settings.run.max_checkpoint_age)
    return outcome


def _check(request: ImportRequest) -> None:
    """Refuse what no dump can have."""
    today = dt.datetime.now(dt.UTC).date()
    if request.snapshot_date > today:
        raise ConfigError(f"--snapshot-date: {request.snapshot_date} is in the future; today is {today} (UTC)")
    for flag, value, pattern, expected in (
        ("--account-id", request.account_id, r"\d{12}", "12 digits"),
        ("--region", request.region, r"[a-z]{2}(-[a-z]+)+-\d", "a name such as us-west-2"),
    ):
        if value is not None and not re.fullmatch(pattern, value):
            raise ConfigError(f"{flag}: found {value!r}; expected {expected}")


def _bound(dataset: Dataset, parents: Mapping[str, str]) -> Mapping[str, str]:
    """Return the parameters that say which slice of a dataset the files are, if they are just those."""
    wanted = list(dataset.for_each.bind) if dataset.for_each else []
    if sorted(parents) != sorted(wanted):
        flags = " ".join("--studio-id ID" if name == "studioId" else f"--parent {name}=ID" for name in wanted)
        found = " ".join(f"{name}={value}" for name, value in parents.items())
        raise ConfigError(
            f"dataset {dataset.name}: found {found or 'no parameters'}; expected {flags or 'none'}: what was listed"
        )
    return {name: parents[name] for name in wanted}


def _begin(settings: Settings, request: ImportRequest, slice_: Slice, dataset: Dataset, operation: Operation) -> Ledger:
    """Return the ledger of a new run with one slice."""
    run_id = f"{dt.datetime.now(dt.UTC):{RUN_ID_TIME}}-{secrets.token_hex(3)}"
    log.info("run %s begins: import of %s, snapshot date %s", run_id, slice_, request.snapshot_date)
    path = settings.state_dir / "runs" / f"{run_id}.sqlite"
    # Never open: no later run may go on with it, and `status` must not promise so.
    request_digest = digest(["import", slice_.slice_id])
    ledger = Ledger.create(path, run_id, request.snapshot_date, request_digest, RunState.IMPORTING)
    ledger.set_account(slice_.account_id)
    ledger.add_dataset(dataset, operation, published=True)
    ledger.add_slice(slice_)
    return ledger


def _store(ledger: Ledger, slice_: Slice, pages: Iterable[Page], *, partial: bool) -> None:
    """Make all pages durable.

    Raises:
        SourceError: as the pages do; or the last document has a token.
    """
    token = None
    for page in pages:
        reach("page.received")
        ledger.store_page(slice_, page)
        tell(PageStored("page.stored", slice_, page))
        token = page.next_starting_token
    reach("slice.walked")
    if token is None:
        return
    why = f"{slice_}: the last document has a token, so that the listing went on"
    if not partial:
        raise SourceError(
            f"{why}; expected all of it. Save the rest too and name all files in their order, or take what there is "
            "with --publish-partial. Nothing was imported"
        )
    ledger.fail_slice(slice_, SliceState.FAILED, why, resumable=False)
