"""Walk all slices of a plan into the ledger of a run, many at a time."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

from etl.config import Run as Limits
from etl.errors import (
    ConfigError,
    EtlError,
    GoneError,
    SourceError,
    TokenRejectedError,
    TransientSourceError,
    UnforeseenError,
    did_you_mean,
)
from etl.events import PageStored, reach, tell, working_on
from etl.extract.source import Source
from etl.extract.walk import walk
from etl.ledger.ledger import Ledger
from etl.model import Slice, SliceState
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


@dataclass(frozen=True, slots=True)
class Walks:
    """The walks of one invocation. `limits` say how many slices are walked at a time, and how much of each.

    `starting_token` is where the walk of the only published slice begins; None for its first page.
    """

    plan: Plan
    source: Source
    limits: Limits
    stop: Stop
    starting_token: str | None

    def walk(self, ledger: Ledger) -> None:
        """Walk every slice that is not at its end, parents before the slices that come from them.

        Raises:
            ConfigError: the starting token could belong to several slices.
        """
        for name, dataset in self.plan.datasets.items():
            ledger.add_dataset(dataset, self.plan.operations[name], published=name in self.plan.published)
        for generation in self.plan.generations():
            for name in generation:
                self._plan_slices(ledger, name)
            found = [facts for facts in ledger.slices() if facts.slice.dataset in generation]
            walking = [facts.slice for facts in found if facts.state is SliceState.WALKING]
            with ThreadPoolExecutor(self.limits.concurrency, thread_name_prefix="walk") as pool:
                futures = [pool.submit(self._walk_alone, ledger, slice_) for slice_ in walking]
                try:
                    for future in futures:
                        # The kernel may give a signal to any thread. Python handles it when this one wakes up.
                        while not wait([future], _LOOK_S).done:
                            pass
                        future.result()
                except BaseException:
                    self.stop.set()  # the other walks end at their next page
                    raise

    def _plan_slices(self, ledger: Ledger, name: str) -> None:
        """Add the slices of a dataset to the ledger; those that it has stay as they are."""
        slices = list(self.plan.slices(ledger, name, self._account_id(ledger)))
        token = self.starting_token if name in self.plan.published else None
        if token and len(slices) != 1:
            raise ConfigError(
                f"--starting-token: {name} has {len(slices)} slices and a token belongs to one; "
                "name one slice with --dataset and --studio-id"
            )
        for slice_ in slices:
            ledger.add_slice(slice_, token)

    def _walk_alone(self, ledger: Ledger, slice_: Slice) -> None:
        """Walk one slice in a thread of its own, whose log lines say so."""
        with working_on(run_id=ledger.path.stem, dataset=slice_.dataset, slice=str(slice_)):
            self._walk(ledger, slice_)

    def _walk(self, ledger: Ledger, slice_: Slice) -> None:
        """Walk one slice from its checkpoint on. If it fails, the ledger notes why, and the other slices go on."""
        dataset = self.plan.datasets[slice_.dataset]
        for _ in range(_ATTEMPTS):
            pages = walk(
                slice_,
                lambda number, token, most: self.source.fetch_page(dataset, slice_, number, token, most),
                ledger.checkpoint(slice_),
                max_items=self.limits.max_items if slice_.dataset in self.plan.published else None,
                max_pages=self.limits.max_pages,
                stopped=self.stop.is_set,
            )
            try:
                for page in pages:
                    reach("page.received")
                    ledger.store_page(slice_, page)
                    tell(PageStored("page.stored", slice_, page))
            except TokenRejectedError as exc:
                log.warning("%s; walking the slice again from its first page", exc)
                ledger.restart_slice(slice_)
                failure: EtlError = exc
            except (SourceError, TransientSourceError, UnforeseenError) as exc:
                state = SliceState.GONE if isinstance(exc, GoneError) else SliceState.FAILED
                meant = self._meant(ledger, slice_) if isinstance(exc, GoneError) else ""
                log.error("%s%s", exc, meant)  # noqa: TRY400  no traceback: the operator's matter
                ledger.fail_slice(slice_, state, f"{exc}{meant}", resumable=isinstance(exc, TransientSourceError))
                return
            else:
                reach("slice.walked")
                return
        ledger.fail_slice(slice_, SliceState.FAILED, f"{failure}; {_ATTEMPTS} times in a row", resumable=True)

    def _meant(self, ledger: Ledger, slice_: Slice) -> str:
        """Return in words which listed parent may have been meant, if the operator has named one that is not listed."""
        dataset = self.plan.datasets[slice_.dataset]
        listed = {value for bound in self.plan.listed(ledger, dataset) for value in bound.values()}
        return "".join(did_you_mean(value, listed) for value in slice_.parents.values() if value not in listed)

    def _account_id(self, ledger: Ledger) -> str:
        """Return the account of the run. The first invocation asks for it; later ones read it from the ledger."""
        account_id = ledger.run().account_id
        if account_id is None:
            account_id = self.source.account_id
            ledger.set_account(account_id)
        return account_id
