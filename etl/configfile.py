"""Reads and edits config.yaml. Each mistake in it becomes a `ConfigError` that names the file and the line.

Flags of the command line override the environment, and the environment overrides the file. The file must not contain
credentials: they come from the AWS credential chain.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from etl.config import ENV_PREFIX, Settings
from etl.configerrors import check_variables, explain, flag, has_settings, line_of, variable_of
from etl.errors import ConfigError, DeniedError, first_line
from etl.model import Dataset
from etl.storage.disk import put_in_place, remove_files, storage_errors

_MAX_FILE_BYTES = 1_000_000
_MAX_DEPTH = 20
_MAY_BE_SECRET = {"on_finish.url", "on_finish.command", "on_finish.body", "iceberg.catalog"}
"""Settings whose values are not shown: health checks have keys in them."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """Values of command-line flags, or of a reader's options. None keeps the value of the environment or the file."""

    datasets: Sequence[str] | None = None
    studio_ids: Sequence[str] | None = None
    filters: Mapping[str, str | None] = field(default_factory=dict)
    max_items: int | None = None
    max_duration: str | None = None
    max_age: str | None = None
    engine: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    named: Callable[[str], str] = flag
    """From the name of a setting to what the message of a mistake calls its flag."""

    def as_settings(self) -> dict[str, Any]:
        """Return the given values as nested settings."""
        filters = {name: value for name, value in self.filters.items() if value is not None}
        given: dict[str, dict[str, Any]] = {
            "source": {
                "studio_ids": self.studio_ids,
                "region": self.region,
                "endpoint_url": self.endpoint_url,
                "filters": filters,
            },
            "run": {"max_items": self.max_items, "max_duration": self.max_duration},
            "status": {"max_age": self.max_age},
            "engine": {"kind": self.engine},
        }
        parts = {part: {name: value for name, value in values.items() if value} for part, values in given.items()}
        return {part: values for part, values in parts.items() if values}


def load_settings(path: Path, overrides: Overrides | None = None) -> Settings:
    """Return the settings of a file, overridden by the environment and flags. Relative paths start at its directory.

    Raises:
        ConfigError: the file is missing or is not YAML, or a value is invalid. The message names the line.
    """
    document = _read_yaml(path)
    overrides = overrides or Overrides()
    flags = overrides.as_settings()
    if unknown := list(check_variables()):
        raise ConfigError("\n".join(unknown))
    try:
        layers = _layered(document, flags)
    except ValidationError as exc:
        raise ConfigError(
            explain(exc, path, document, flags, overrides.named)
        ) from None  # the cause may repeat a secret value
    base, prices, names = path.resolve().parent, layers.marts.prices, layers.report.names
    values = {
        **dict(layers),
        "state_dir": base / layers.state_dir,
        "run": layers.run.model_copy(update={"keep_ledgers_at": _below(base, layers.run.keep_ledgers_at)}),
        "warehouse": layers.warehouse.model_copy(update={"path": _below(base, layers.warehouse.path)}),
        "engine": layers.engine.model_copy(update={"segments_at": _below(base, layers.engine.segments_at)}),
        "marts": layers.marts.model_copy(update={"prices": prices and base / prices}),
        "report": layers.report.model_copy(update={"names": names and base / names}),
    }
    return Settings.model_construct(**values).limited_to(overrides.datasets or ())


def _below(base: Path, place: Path | str | None) -> Path | str | None:
    """Return a path that is relative to a directory as one that is not; a URI, or nothing, as it is."""
    return base / place if isinstance(place, Path) else place


def _layered(document: Mapping[str, Any], flags: Mapping[str, Any]) -> Settings:
    """Return the settings of a file, and of the environment and flags where they say something."""
    if not flags and not any(name.upper().startswith(ENV_PREFIX) for name in os.environ):
        return Settings.model_validate(document)
    from etl.configlayers import Layers  # noqa: PLC0415  merging takes as long to import as all of pydantic's checks

    return Layers(flags=flags, file=document)  # type: ignore[call-arg]  # settings_customise_sources reads them


def list_settings(path: Path) -> list[dict[str, Any]]:
    """Return the setting, the value and where it comes from, of each setting. Values that may be secret are hidden.

    Raises:
        ConfigError: as `load_settings`.
    """
    settings, document = load_settings(path), _read_yaml(path)
    rows = []
    for keys, value in _leaves(settings.model_dump(mode="json"), ()):
        variable = variable_of(keys)
        if variable:
            source = f"environment {variable}"
        elif _has(document, keys):
            source = f"{path.name}, line {line_of(document, keys)}"
        else:
            source = "default"
        hidden = value and ".".join(keys) in _MAY_BE_SECRET
        rows.append({"setting": ".".join(keys), "value": "(hidden)" if hidden else value, "from": source})
    return rows


def _leaves(settings: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the keys and the value of each setting that has no further settings below it."""
    for name, value in settings.items():
        keys = (*above, name)
        if isinstance(value, Mapping) and has_settings(keys):
            yield from _leaves(value, keys)
        else:
            yield keys, value


def _has(document: Any, keys: Iterable[str]) -> bool:
    for key in keys:
        if not isinstance(document, Mapping) or key not in document:
            return False
        document = document[key]
    return True


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML 1.2 file; its nodes know their line numbers."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file; `nimble-etl init` writes one, or name one with --config PATH"
        ) from None
    except OSError as exc:
        raise DeniedError.at(path, exc) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {exc.start}); save it as UTF-8") from exc
    if len(text) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path}: has {len(text)} characters; a configuration has at most {_MAX_FILE_BYTES}")
    try:
        depth = 0
        for event in YAML().parse(text):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            line = event.start_mark.line + 1
            if depth > _MAX_DEPTH:
                raise ConfigError(f"{path}, line {line}: nested too deep; expected at most {_MAX_DEPTH} levels")
            if isinstance(event, AliasEvent):  # ten lines of aliases can expand to gigabytes
                raise ConfigError(f"{path}, line {line}: found an alias; write the value out instead")
        document = YAML().load(text)
    except DuplicateKeyError as exc:
        found = str(exc.problem).partition('" with value ')[0]
        raise ConfigError(f'{path}, line {exc.problem_mark.line + 1}: {found}"; keep one') from None
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 1
        # The cause quotes the line, which may hold a secret.
        raise ConfigError(f"{path}, line {line}: not YAML: {exc.problem or exc.context}") from None
    except YAMLError as exc:
        raise ConfigError(f"{path}: not YAML: {first_line(exc)}") from exc
    except ValueError as exc:  # such as 2001-13-45, which looks like a date
        raise ConfigError(f"{path}: found a value that cannot be read: {exc}; put it in quotes") from exc
    if document is None:
        return {}
    if not isinstance(document, dict):
        kind = "a list" if isinstance(document, list) else "a single value"
        raise ConfigError(f"{path}, line 1: found {kind}; expected settings such as `source:`")
    for key in document:
        if not isinstance(key, str):
            raise ConfigError(f"{path}, line {line_of(document, [key])}: the key {key!r} is not a name")
    privacy = document.get("privacy")
    if isinstance(privacy, dict) and "key" in privacy:
        line = line_of(document, ["privacy", "key"])
        raise ConfigError(f"{path}, line {line}: privacy.key does not belong in the file; set {ENV_PREFIX}PRIVACY__KEY")
    return document


def append_datasets(path: Path, entries: str, definitions: Iterable[Dataset]) -> None:
    """Append entries to the `datasets` of a configuration file. All comments and other settings stay unchanged.

    Args:
        path: the file.
        entries: YAML text, a mapping with the one key `datasets`.
        definitions: the datasets that the entries must mean when they are read back.

    Raises:
        ConfigError: the layout of the file leaves no place for the entries; the file is unchanged.
        StorageError: the file cannot be written; it is unchanged.
    """
    path = path.resolve()
    expected = (*load_settings(path).datasets, *definitions)
    text = path.read_text(encoding="utf-8")
    longer = _with_entries(text, entries)
    draft = path.with_name(f".{path.name}.new")
    try:
        with storage_errors(path):
            draft.write_text(longer, encoding="utf-8")
            draft.chmod(path.stat().st_mode)
        read_back = None
        with suppress(ConfigError):
            read_back = load_settings(draft).datasets
        if read_back != expected or any(comment not in longer for comment in re.findall(r"#.*", text)):
            found = "`datasets` is not a list with an entry on each line"
            raise ConfigError(f"{path}: {found}; rewrite it in this form, then try again")
        with storage_errors(path):
            put_in_place(draft, path)
    finally:
        remove_files([draft])


def _with_entries(text: str, entries: str) -> str:
    """Return the text of a configuration with more entries in its `datasets`."""
    heading, _, lines = entries.partition("\n")
    if text and not text.endswith("\n"):
        text += "\n"
    root = YAML().compose(text)
    found = [value for key, value in root.value if key.value == "datasets"] if root else []
    if not found:
        default = "".join(f"- {name}\n" for name in Settings.model_fields["datasets"].default)
        return f"{text}{heading}\n{default}{lines}"
    (node,) = found
    if node.flow_style:
        start, end = node.start_mark.index, node.end_mark.index
        comment, newline, rest = text[end:].partition("\n")
        listed = "".join(f"- {text[item.start_mark.index : item.end_mark.index]}\n" for item in node.value)
        return f"{text[:start].rstrip()}{comment}{newline}{listed}{lines}{rest}"
    last = _last_line(node) + 1
    above, below = text.splitlines(keepends=True)[:last], text.splitlines(keepends=True)[last:]
    margin = " " * node.start_mark.column
    return "".join([*above, *(margin + line for line in lines.splitlines(keepends=True)), *below])


def _last_line(node: Any) -> int:
    """Return the last line of a node's text. ruamel ends a block list or mapping only at the next token."""
    if isinstance(node.value, str) or node.flow_style or not node.value:
        return int(node.end_mark.line)
    last = node.value[-1]
    return _last_line(last[1] if isinstance(last, tuple) else last)
