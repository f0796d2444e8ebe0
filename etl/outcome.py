"""The outcome of work on a run, and the exit code that follows from it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from etl.errors import EtlError
from etl.model import RunFacts, RunState, SliceFacts, SliceState

RESUMABLE = 3
"""Exit code of a run that has not ended."""
COUNTS = ("pages", "records", "rows", "rejects", "duplicates", "retries")
"""Counts of each slice; those of a run are their sums."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found. It passed if `failures` is 0. `examples` is JSON text."""

    name: str
    severity: Literal["error", "warning"]
    meaning: str
    failures: int
    examples: str | None

    def __str__(self) -> str:
        """Return the message of the check. It leaves out the examples: they are data and stay in the catalog."""
        return f"check {self.name}: found {self.failures} rows, expected none: {self.meaning} See etl_checks"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state of a run after an invocation worked on it for `seconds`.

    `interrupted`: a signal stopped the work before it could publish. `failed_checks` have severity *error*. `failure`:
    why slices that are complete could not be published; the next run tries again.
    """

    run: RunFacts
    slices: tuple[SliceFacts, ...]
    seconds: float
    interrupted: bool = False
    failed_checks: tuple[CheckResult, ...] = ()
    failure: EtlError | None = None

    @property
    def finished(self) -> bool:
        """Tell whether a later invocation has nothing left to walk or publish."""
        is_planned = bool(self.slices or self.run.shard.text)  # a shard may own nothing
        walked = is_planned and all(facts.state is not SliceState.WALKING for facts in self.slices)
        is_left = self.run.state is RunState.OPEN and any(facts.is_owed for facts in self.slices)
        return walked and not is_left and not self.interrupted and not self.failure

    @property
    def exit_code(self) -> int:
        """Return 0, 1, 3 or 5, with the meanings of the README."""
        if self.failure:
            return 5 if any(facts.publication is not None for facts in self.slices) else self.failure.exit_code
        if not self.finished and self.run.state is RunState.OPEN:
            return RESUMABLE
        if not self.finished or any(facts.error and facts.state is not SliceState.SKIPPED for facts in self.slices):
            return 5 if any(facts.publication is not None for facts in self.slices) else 1
        return 5 if self.counts["rejects"] or self.failed_checks else 0

    @property
    def told(self) -> tuple[SliceFacts, ...]:
        """Return the slices that this run tells of: those of its shard, and others whose walk did not end well here."""
        owns, well = self.run.shard.owns, {SliceState.COMPLETE, SliceState.SKIPPED}
        return tuple(facts for facts in self.slices if owns(facts.slice) or facts.state not in well)

    @property
    def counts(self) -> dict[str, int]:
        """Return the sum of each count over all slices that the run tells of, by name."""
        told = self.told
        return {name: sum(getattr(facts, name) or 0 for facts in told) for name in COUNTS}

    def report(self) -> dict[str, Any]:
        """Return the facts of the closing line and of each slice, for programs."""
        return {
            "snapshot_date": self.run.snapshot_date,
            "run_id": self.run.run_id,
            "shard": self.run.shard.text,
            "exit_code": self.exit_code,
            "error": str(self.failure) if self.failure else None,
            "slices": [
                {
                    "slice": str(facts.slice),
                    "state": facts.state.value,
                    **{name: getattr(facts, name) for name in ("pages", "records", "rows", "starting_token", "error")},
                }
                for facts in self.told
            ],
            **self.counts,
            "seconds": round(self.seconds, 3),
        }


def exit_code_of(outcomes: Iterable[Outcome]) -> int:
    """Return the exit code of an invocation that worked on several runs, with the meanings of the README.

    It is 3 as long as any run can be resumed. It is 5 if the runs differ otherwise.
    """
    codes = {outcome.exit_code for outcome in outcomes}
    if RESUMABLE in codes:
        return RESUMABLE
    return max(codes, default=0) if len(codes) <= 1 else 5
