"""All slices of a plan into the ledger of a run, many at a time."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from etl.config import Run as Limits
from etl.errors import ConfigError, EtlError, GoneError, SourceError, TokenRejectedError, TransientSourceError
from etl.events import PageStored, reach, tell
from etl.extract.source import Source
from etl.extract.walk import walk
from etl.ledger.ledger import Ledger
from etl.model import Slice, SliceState
from etl.pipeline.plan import Plan

log = logging.getLogger(__name__)

_ATTEMPTS = 3
"""How often one invocation begins a slice again because its token expired."""


class Stop(threading.Event):
    """Set it, and every walk ends at its next page boundary; the run stays resumable.

    After a deadline what is complete is still published; after a signal the process ends as soon as it can.
    """

    by_deadline = False


class Walks:
    """The walks of one invocation.

    Args:
        plan: what is walked.
        source: where pages come from.
        limits: how many slices at a time, and how much of each.
        stop: ends every walk at its next page.
        starting_token: where the only slice that is published begins; None for its first page.
    """

    def __init__(self, plan: Plan, source: Source, limits: Limits, stop: Stop, starting_token: str | None) -> None:
        self._plan = plan
        self._source = source
        self._limits = limits
        self._stop = stop
        self._starting_token = starting_token

    def walk(self, ledger: Ledger) -> None:
        """Walk every slice that is not at its end; parents before the slices that come from them."""
        for name, dataset in self._plan.datasets.items():
            ledger.add_dataset(dataset, self._plan.operations[name], published=name in self._plan.published)
        for generation in self._plan.generations():
            for name in generation:
                self._plan_slices(ledger, name)
            walking = [
                facts.slice
                for facts in ledger.slices()
                if facts.slice.dataset in generation and facts.state is SliceState.WALKING
            ]
            with ThreadPoolExecutor(self._limits.concurrency, thread_name_prefix="walk") as pool:
                futures = [pool.submit(self._walk, ledger, slice_) for slice_ in walking]
                try:
                    for future in futures:
                        future.result()
                except BaseException:
                    self._stop.set()  # the other walks end at their next page
                    raise

    def _plan_slices(self, ledger: Ledger, name: str) -> None:
        """Write the slices of a dataset into the ledger; those that are there stay as they are."""
        slices = list(self._plan.slices(ledger, name, self._account_id(ledger)))
        token = self._starting_token if name in self._plan.published else None
        if token and len(slices) != 1:
            raise ConfigError(
                f"--starting-token: {name} has {len(slices)} slices and a token belongs to one; "
                "name one with --dataset and --studio-id"
            )
        for slice_ in slices:
            ledger.add_slice(slice_, token)

    def _walk(self, ledger: Ledger, slice_: Slice) -> None:
        """Walk one slice from its checkpoint on. Its failure is its own, and noted in the ledger."""
        dataset = self._plan.datasets[slice_.dataset]
        for _ in range(_ATTEMPTS):
            pages = walk(
                slice_,
                lambda number, token, most: self._source.fetch_page(dataset, slice_, number, token, most),
                ledger.checkpoint(slice_),
                max_items=self._limits.max_items if slice_.dataset in self._plan.published else None,
                max_pages=self._limits.max_pages,
                stopped=self._stop.is_set,
            )
            try:
                for page in pages:
                    reach("page.received")
                    ledger.store_page(slice_, page)
                    tell(PageStored("page.stored", slice_, page))
            except TokenRejectedError as exc:
                log.warning("%s; the slice is walked again from its first page", exc)
                ledger.restart_slice(slice_)
                failure: EtlError = exc
            except (SourceError, TransientSourceError) as exc:
                log.error("%s", exc)  # noqa: TRY400  the operator's matter, not ours: no traceback
                state = SliceState.GONE if isinstance(exc, GoneError) else SliceState.FAILED
                ledger.fail_slice(slice_, state, str(exc), resumable=isinstance(exc, TransientSourceError))
                return
            else:
                reach("slice.walked")
                return
        ledger.fail_slice(slice_, SliceState.FAILED, f"{failure}; {_ATTEMPTS} times in a row", resumable=True)

    def _account_id(self, ledger: Ledger) -> str:
        """Return the account of the run: asked for once, and never another one later."""
        account_id = ledger.run().account_id
        if account_id is None:
            account_id = self._source.account_id
            ledger.set_account(account_id)
        return account_id
