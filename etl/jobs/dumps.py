"""From dumps to the warehouse: a run whose pages come from files.

    lock -> pages into a ledger of their own -> publish -> catalog

An import is never resumed. If it is killed and begun again with the same files, the result is the same rows, because it
replaces that slice of that date. A file that is not whole leaves nothing behind.
"""

import datetime as dt
import itertools
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from etl.config import Settings
from etl.errors import ConfigError, SourceError
from etl.events import PageStored, reach, tell
from etl.extract.datasets import select_datasets
from etl.extract.dump import Dump
from etl.extract.service_model import describe_operation, model_session
from etl.jobs.workplace import Published, workplace
from etl.ledger.directory import remove_ledger
from etl.ledger.ledger import Ledger
from etl.load.delta.sources import Filler, check_filler, check_key
from etl.model import Dataset, Page, RunState, Slice, SliceState, digest
from etl.outcome import Outcome
from etl.pipeline.plan import check_layouts
from etl.pipeline.publish import publish
from etl.transform.schema import layout_of


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What one invocation imports: files that hold one slice of one dataset, as it was on one date.

    `parents` are the parameters that it was listed with (studioId). If `account_id` or `region` is None, it is taken
    from the records.
    """

    files: Sequence[Path]
    dataset: str
    snapshot_date: dt.date
    parents: Mapping[str, str] = field(default_factory=dict)
    account_id: str | None = None
    region: str | None = None
    publish_partial: bool = False
    allow_fall: bool = False
    accept_source: bool = False


def import_dump(settings: Settings, request: ImportRequest) -> Outcome:
    """Publish the records in dumps, and return how the run stands.

    Raises:
        ConfigError: the request does not name a slice, or names a file that does not exist.
        SourceError: a file is not the output of the AWS CLI, or is incomplete; nothing is published.
        LockedError: another job works on this state directory.
        EtlError: the run cannot be published; see `publish`.
    """
    began = time.monotonic()
    _check(request)
    dataset = select_datasets([*settings.datasets, request.dataset], settings.privacy.rules)[request.dataset]
    operation = describe_operation(model_session(), dataset)
    layout = layout_of(dataset, operation, settings.privacy.secret)
    check_layouts({dataset.name: layout})
    parents = {**dataset.fixed_parents, **_bound(dataset, request.parents)}
    with workplace(settings) as place:
        dump = Dump(dataset, operation, request.account_id, request.region)
        pages = dump.pages(request.files)
        first = next(pages)
        if dump.account_id is None or dump.region is None:
            raise ConfigError(
                "the first records have no ARN with account and Region; name them with --account-id and --region"
            )
        slice_ = Slice(dataset.name, dump.account_id, dump.region, parents)
        check_key(place.tables, settings.privacy.secret)
        if not request.accept_source:
            check_filler(place.tables, Filler(None, dump.account_id))
        # The run is never open: a later run must not continue it, and `status` must not say so.
        request_digest = digest(["import", slice_.slice_id])
        ledger = place.begin_run(f"import of {slice_}", request.snapshot_date, request_digest, RunState.IMPORTING)
        with ledger:
            ledger.set_account(slice_.account_id)
            ledger.add_dataset(dataset, operation, published=True)
            ledger.add_slice(slice_)
            try:
                _store(ledger, slice_, itertools.chain([first], pages), partial=request.publish_partial)
            except BaseException:
                ledger.close()
                remove_ledger(ledger.path)
                raise
            limits = None if request.allow_fall else settings.publish
            outcome = place.finish_run(
                ledger,
                began,
                None,
                lambda change: Published(
                    publish(ledger, place.tables, layout, change, limits=limits, partial=request.publish_partial)
                ),
            )
        place.remove_old_ledgers()
    return outcome


def _check(request: ImportRequest) -> None:
    """Refuse a snapshot date, account or Region that cannot be right."""
    today = dt.datetime.now(dt.UTC).date()
    if request.snapshot_date > today:
        raise ConfigError(f"--snapshot-date: {request.snapshot_date} is in the future; today is {today} (UTC)")
    for flag, value, pattern, expected in (
        ("--account-id", request.account_id, r"\d{12}", "12 digits"),
        ("--region", request.region, r"[a-z]{2,4}(-[a-z]+)+-\d+", "a name such as us-west-2"),
    ):
        if value is not None and not re.fullmatch(pattern, value):
            raise ConfigError(f"{flag}: found {value!r}; expected {expected}")


def _bound(dataset: Dataset, parents: Mapping[str, str]) -> Mapping[str, str]:
    """Return the parameters that a slice of the dataset is listed with; refuse missing and superfluous ones."""
    wanted = list(dataset.for_each.of_slice) if dataset.for_each else []
    if sorted(parents) != sorted(wanted):
        flags = " ".join("--studio-id ID" if name == "studioId" else f"--parent {name}=ID" for name in wanted)
        found = " ".join(f"{name}={value}" for name, value in parents.items())
        raise ConfigError(
            f"dataset {dataset.name}: found {found or 'no parameters'}; expected {flags or 'none'}, as in the listing"
        )
    return {name: parents[name] for name in wanted}


def _store(ledger: Ledger, slice_: Slice, pages: Iterable[Page], *, partial: bool) -> None:
    """Store all pages; refuse files whose last document has a token, unless a partial listing is wanted."""
    token = None
    for page in pages:
        reach("page.received")
        ledger.store_page(slice_, page)
        tell(PageStored("page.stored", slice_, page))
        token = page.next_starting_token
    reach("slice.walked")
    if token is None:
        return
    why = f"{slice_}: the last document has a token, so more was listed than the files hold"
    if not partial:
        raise SourceError(
            f"{why}. Nothing was imported. Save the rest too and name all files in their order, or import the part "
            "that there is with --publish-partial"
        )
    ledger.fail_slice(slice_, SliceState.FAILED, why, resumable=False)
