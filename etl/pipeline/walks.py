"""Walk all slices of a plan into the ledger of a run, many at a time."""

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain, islice, takewhile

from etl.config import Run as Limits
from etl.errors import (
    ConfigError,
    EtlError,
    GoneError,
    LaterError,
    SourceError,
    TokenRejectedError,
    ToleratedError,
    TransientSourceError,
    UnforeseenError,
    did_you_mean,
)
from etl.events import PageStored, Planned, reach, tell, working_on
from etl.extract.batches import in_batches
from etl.extract.source import Source
from etl.extract.walk import Fetch, walk
from etl.ledger.ledger import Ledger
from etl.model import Dataset, Page, Slice, SliceFacts, SliceState
from etl.pipeline.ahead import Ahead
from etl.pipeline.line import Key, Line
from etl.pipeline.plan import Plan

log = logging.getLogger(__name__)

_LOOK_S = 0.1
"""How often the main thread wakes up while slices are walked."""
_ATTEMPTS = 3
"""How often one invocation walks a slice whose tokens expire."""


class Stop(threading.Event):
    """Once set, every walk ends at its next page boundary; the run stays resumable.

    After a deadline, complete slices are still published. After a signal, the process ends as soon as it can.
    """

    by_deadline = False


@dataclass(frozen=True)
class Walks:
    """The walks of one invocation. `limits` say how many slices are walked at a time, and how much of each.

    `starting_token` is where the walk of the only published slice begins; None for its first page. `ahead` stages the
    rows of datasets while their pages arrive. With `plans_only`, slices of published datasets are planned, not walked.
    """

    plan: Plan
    source: Source
    limits: Limits
    stop: Stop
    starting_token: str | None
    ahead: Mapping[str, Ahead] = field(default_factory=dict)
    plans_only: bool = False
    _planning: threading.Lock = field(default_factory=threading.Lock)
    _known: set[str] = field(default_factory=set)
    _ended: set[str] = field(default_factory=set)

    def walk(self, ledger: Ledger) -> None:
        """Walk every slice that is not at its end, parents before the slices that come from them.

        Raises:
            ConfigError: the starting token could belong to several slices.
        """
        known = ledger.slices()
        self._line.add(self.begin(ledger, known))
        stored = [facts for facts in known if facts.slice.dataset in self.ahead and _is_to_be_published(facts)]
        for facts in stored:
            self.ahead[facts.slice.dataset].expect_stored(facts)
        del known  # a slice takes about a kilobyte
        with ThreadPoolExecutor(self.limits.concurrency + 1, thread_name_prefix="walk") as pool:
            futures = [pool.submit(self._walk_in_turn, ledger) for _ in range(self.limits.concurrency)]
            futures.append(pool.submit(self._stage_stored, ledger, stored))
            try:
                # The kernel may give a signal to any thread. Python handles it when this one wakes up.
                while (seen := wait(futures, _LOOK_S, FIRST_EXCEPTION)).not_done:
                    for future in seen.done:
                        future.result()
                for future in futures:
                    future.result()
            except BaseException:
                self.stop.set()  # the other walks end at their next page
                raise

    def begin(self, ledger: Ledger, known: Sequence[SliceFacts]) -> list[Slice]:
        """Plan the slices to begin with, and return those to walk. `known` are those that the ledger has already.

        Raises:
            ConfigError: as `walk`.
        """
        self._add_datasets(ledger)
        self._ended.update(facts.slice.slice_id for facts in known if facts.state is not SliceState.WALKING)
        # A slice that no parent lists any more is walked, too: its parent was walked again.
        walking = (facts.slice for facts in known if facts.state is SliceState.WALKING)
        first = self._checked(self.plan.first(self._account_id(ledger)), None)
        return list(self._planned(ledger, chain(first, walking)))

    def after(self, ledger: Ledger, slice_: Slice) -> list[Slice]:
        """Plan the slices that come from one whose walk has ended, and return those to walk.

        Raises:
            ConfigError: as `walk`.
        """
        return list(self._planned(ledger, self._checked(self.plan.following(ledger, slice_), slice_.dataset)))

    def _add_datasets(self, ledger: Ledger) -> None:
        plan = self.plan
        for dataset in (*plan.places.listings.values(), *plan.datasets.values()):
            published = dataset.name in plan.published
            ledger.add_dataset(dataset, plan.operations[dataset.name], published=published)

    @cached_property
    def _line(self) -> Line:
        def key_of(slice_: Slice) -> Key:
            return slice_.account_id, slice_.region, self.plan.dataset(slice_.dataset).service

        return Line(key_of, lambda slice_, running: self.source.wait_s(key_of(slice_)[2], slice_, running))

    def _planned(self, ledger: Ledger, slices: Iterable[Slice]) -> Iterator[Slice]:
        """Add slices to the ledger, all at once, and yield those to walk. What comes from others is planned, too."""
        found = {slice_.slice_id: slice_ for slice_ in slices if self.plan.walks(slice_)}
        with self._planning:
            new = [slice_ for slice_id, slice_ in found.items() if slice_id not in self._known]
            self._known.update(found)
        tokens = dict.fromkeys(self.plan.published, self.starting_token)
        if new:
            tell(Planned([slice_ for slice_ in new if slice_.slice_id not in self._ended]))
            ledger.add_slices((slice_, tokens.get(slice_.dataset)) for slice_ in new)
        for slice_ in new:
            if slice_.slice_id in self._ended:
                yield from self.after(ledger, slice_)
            elif not self.plans_only or slice_.dataset not in self.plan.published:
                yield slice_

    def _checked(self, slices: Iterable[Slice], parent: str | None) -> Iterable[Slice]:
        """Return the slices that come from a dataset, or from none; refuse a starting token that is for several."""
        if self.starting_token is None:
            return slices
        found = list(slices)
        for name in self.plan.published:
            for_each = self.plan.datasets[name].for_each
            needs = for_each.dataset if for_each and for_each.dataset in self.plan.datasets else None
            count = sum(slice_.dataset == name for slice_ in found)
            if parent == needs and count != 1:
                raise ConfigError(
                    f"--starting-token: {name} has {count} slices and a token belongs to one; "
                    "name one slice with --dataset and --studio-id"
                )
        return found

    def _stage_stored(self, ledger: Ledger, stored: Sequence[SliceFacts]) -> None:
        """Stage what former invocations have walked, while this one waits for answers."""
        for facts in stored:
            pages = takewhile(lambda _: not self.stop.is_set(), ledger.pages(facts.slice))
            self.ahead[facts.slice.dataset].add_stored(facts.slice, islice(pages, facts.pages))

    def _walk_in_turn(self, ledger: Ledger) -> None:
        """Walk slice after slice, in a thread of its own, until none is left."""
        while slice_ := self._line.take(self.stop.is_set):
            # Log lines of this thread say what it works on.
            with working_on(run_id=ledger.path.stem, dataset=slice_.dataset, slice=str(slice_)):
                again_in = self._walk(ledger, slice_)
            if again_in is None:
                self._line.leave(slice_, self.after(ledger, slice_))
            else:
                self._line.leave(slice_, again_in=again_in)

    def _walk(self, ledger: Ledger, slice_: Slice) -> float | None:
        """Walk one slice from its checkpoint on. If it fails, the ledger notes why, and the other slices go on.

        Return after how many seconds to go on with it; None: its walk has ended.
        """
        dataset = self.plan.dataset(slice_.dataset)
        ahead = self.ahead.get(slice_.dataset) if self.plan.shard.owns(slice_) else None
        for _ in range(_ATTEMPTS):
            pages = walk(
                slice_,
                self._fetch(ledger, dataset, slice_),
                ledger.checkpoint(slice_),
                max_items=self.limits.max_items if slice_.dataset in self.plan.published else None,
                max_pages=self.limits.max_pages,
                stopped=self.stop.is_set,
                expect=partial(self.source.expect_page, dataset, slice_),
            )
            try:
                for page in pages:
                    reach("page.received")
                    ledger.store_page(slice_, page)
                    if ahead:
                        ahead.add(slice_, page)
                    tell(PageStored("page.stored", slice_, page))
            except TokenRejectedError as exc:
                log.warning("%s; walking the slice again from its first page", exc)
                ledger.restart_slice(slice_)
                failure: EtlError = exc
            except LaterError as exc:
                log.log(logging.WARNING if exc.__cause__ else logging.DEBUG, "%s; trying again", exc)
                return exc.wait_s
            except ToleratedError as exc:
                log.info("%s", exc)
                ledger.fail_slice(slice_, SliceState.SKIPPED, str(exc), resumable=False)
                return None
            except (SourceError, TransientSourceError, UnforeseenError) as exc:
                state = SliceState.GONE if isinstance(exc, GoneError) else SliceState.FAILED
                meant = self._meant(ledger, slice_) if isinstance(exc, GoneError) else ""
                log.error("%s%s", exc, meant)  # noqa: TRY400  no traceback: the operator's matter
                ledger.fail_slice(slice_, state, f"{exc}{meant}", resumable=isinstance(exc, TransientSourceError))
                return None
            else:
                reach("slice.walked")
                return None
        ledger.fail_slice(slice_, SliceState.FAILED, f"{failure}; {_ATTEMPTS} times in a row", resumable=True)
        return None

    def _fetch(self, ledger: Ledger, dataset: Dataset, slice_: Slice) -> Fetch:
        """Return what fetches the pages of a slice."""
        if not dataset.for_each or not dataset.for_each.batch:
            return partial(self.source.fetch_page, dataset, slice_)
        ((name, size),) = dataset.for_each.batch.items()

        def fetch(values: Sequence[str], number: int, token: str | None, most: int | None) -> Page:
            asked = dataset.model_copy(update={"parameters": {**dataset.parameters, name: values}})
            return self.source.fetch_page(asked, slice_, number, token, most)

        return in_batches(fetch, self.plan.batched(ledger, slice_), size)

    def _meant(self, ledger: Ledger, slice_: Slice) -> str:
        """Return in words which listed parent may have been meant, if the operator has named one that is not listed."""
        dataset = self.plan.dataset(slice_.dataset)
        listed = {value for bound in self.plan.listed(ledger, dataset) for value in bound.values()}
        return "".join(did_you_mean(value, listed) for value in slice_.parents.values() if value not in listed)

    def _account_id(self, ledger: Ledger) -> str:
        """Return the account of the run. The first invocation asks for it; later ones read it from the ledger."""
        account_id = ledger.run().account_id
        if account_id is None:
            account_id = self.source.account_id
            ledger.set_account(account_id)
        return account_id


def _is_to_be_published(facts: SliceFacts) -> bool:
    """Tell whether a slice has pages, and will be published if its walk comes to its end."""
    is_going_well = facts.state in {SliceState.WALKING, SliceState.COMPLETE}
    return facts.is_wanted and facts.pages > 0 and not facts.publication and is_going_well
