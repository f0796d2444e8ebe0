"""Dataset definitions: the built-in ones in datasets.toml, and those of the configuration."""

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from etl.errors import ConfigError, did_you_mean
from etl.model import Dataset, Rule


@cache
def builtin_datasets() -> dict[str, Dataset]:
    """Return the built-in definitions by name."""
    return {name: Dataset.model_validate({"name": name, **entry}) for name, entry in _toml("datasets.toml").items()}


@cache
def hints(service: str) -> dict[str, dict[str, Any]]:
    """Return what the service models do not say about a service: `keys` and `parents` by operation, see hints.toml."""
    return {what: by_service.get(service, {}) for what, by_service in _toml("hints.toml").items()}


@cache
def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("etl.extract") / name).read_text(encoding="utf-8"))


def select_datasets(
    wanted: Iterable[str | Dataset], privacy: Mapping[str, Mapping[str, Rule]] | None = None
) -> dict[str, Dataset]:
    """Return the wanted datasets and the parents that their slices come from, parents first.

    `privacy` holds rules by dataset, `*` for all datasets. A dataset's own rules here override its definition's.

    Raises:
        ConfigError: a name is unknown, or the parents form a circle.
    """
    wanted = list(wanted)
    known = builtin_datasets() | {entry.name: entry for entry in wanted if isinstance(entry, Dataset)}
    selected: dict[str, Dataset] = {}

    def add(name: str, children: tuple[str, ...]) -> None:
        if name not in known:
            raise ConfigError(
                f"datasets: {name!r} is not defined{did_you_mean(name, known)}; known are {', '.join(known)}"
            )
        if name in children:
            raise ConfigError(f"datasets: for_each goes in a circle: {' -> '.join((*children, name))}")
        parent = known[name].for_each
        if parent:
            add(parent.dataset, (*children, name))
        selected.setdefault(name, _with_privacy(known[name], privacy or {}))

    for entry in wanted:
        add(entry if isinstance(entry, str) else entry.name, ())
    for name in (privacy or {}).keys() - known.keys() - {"*"}:
        meant = did_you_mean(name, known)
        raise ConfigError(f"privacy.rules: {name!r} is no dataset{meant}; known are {', '.join(known)}")
    return selected


def _with_privacy(dataset: Dataset, rules: Mapping[str, Mapping[str, Rule]]) -> Dataset:
    general = {f"*.{column}": rule for column, rule in rules.get("*", {}).items()}
    return dataset.model_copy(update={"privacy": {**general, **dataset.privacy, **rules.get(dataset.name, {})}})
