"""A pytest plugin for a run in a copy of the repository.

It refuses to test any other code than the copy's. Hypothesis tries the same examples each time, and does not look for
the smallest one that fails: that one does is enough.
"""

from pathlib import Path

import hypothesis
import pytest

import etl


def pytest_configure(config: pytest.Config) -> None:
    """Compare the places; an editable install would lead to the original."""
    found = Path(etl.__file__).parents[1]
    if found != config.rootpath:
        raise pytest.UsageError(f"etl is that of {found}; expected that of {config.rootpath}")
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", phases=phases, derandomize=True, database=None)
    hypothesis.settings.load_profile("mutants")
