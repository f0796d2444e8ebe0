"""How much is tried: `make test` a part, `make faults` (THOROUGH=1 in the environment) all that takes minutes."""

import os
from collections.abc import Sequence
from typing import TypeVar

THOROUGH = bool(os.environ.get("THOROUGH"))

T = TypeVar("T")


def part(cases: Sequence[T], one_in: int) -> Sequence[T]:
    """Return one of so many cases, from the first on; all of them where tests are to be thorough."""
    return cases if THOROUGH else cases[::one_in]
