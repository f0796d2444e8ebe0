"""Reads and edits config.yaml. Each mistake in it becomes a `ConfigError` that names the file and the line.

Flags of the command line override the environment, and the environment overrides the file. The file must not contain
credentials: they come from the AWS credential chain.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, PydanticBaseSettingsSource
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from etl.config import Settings
from etl.errors import ConfigError, DeniedError, first_line
from etl.model import Dataset
from etl.storage.disk import put_in_place, remove_files, storage_errors

ENV_PREFIX = "NIMBLE_ETL_"
_MAX_FILE_BYTES = 1_000_000
_MAX_DEPTH = 20
_SHOWN = 80
_UNKNOWN = "is not a setting; `nimble-etl config schema` lists them"
_CREDENTIALS = "credentials do not belong in the configuration; use the AWS credential chain"
_SECRET = re.compile(r"access_?key|secret|session_?token|password|credential", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Overrides:
    """Values of command-line flags. None keeps the value of the environment or the file."""

    datasets: Sequence[str] | None = None
    studio_ids: Sequence[str] | None = None
    filters: Mapping[str, str | None] = field(default_factory=dict)
    max_items: int | None = None
    max_duration: str | None = None
    max_age: str | None = None

    def as_settings(self) -> dict[str, Any]:
        """Return the given values as nested settings."""
        filters = {name: value for name, value in self.filters.items() if value is not None}
        given: dict[str, dict[str, Any]] = {
            "source": {"studio_ids": self.studio_ids, "filters": filters},
            "run": {"max_items": self.max_items, "max_duration": self.max_duration},
            "status": {"max_age": self.max_age},
        }
        parts = {part: {name: value for name, value in values.items() if value} for part, values in given.items()}
        return {part: values for part, values in parts.items() if values}


class _Environment(EnvSettingsSource):
    """The environment variables that begin with NIMBLE_ETL_."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Return the list or mapping that a variable holds as JSON."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            # The value may be secret, so the message only names the variables.
            names = [name for name, text in os.environ.items() if text == value and name.upper().startswith(ENV_PREFIX)]
            expected = 'expected a list or mapping such as ["one", "two"]'
            raise ConfigError(f"environment {', '.join(sorted(names))}: is not JSON; {expected}") from None


class _Layers(  # type: ignore[misc]  # pydantic merges the `model_config` of both bases
    BaseSettings, Settings, env_prefix=ENV_PREFIX, env_nested_delimiter="__", nested_model_default_partial_update=True
):
    """Settings merged from three layers: the argument `flags`, the environment, and the argument `file`."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Any, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the layers, the strongest first."""
        flags, file = (InitSettingsSource(settings_cls, init_settings.init_kwargs[name]) for name in ("flags", "file"))
        return flags, _Environment(settings_cls), file


def load_settings(path: Path, overrides: Overrides | None = None) -> Settings:
    """Return the settings of a file, overridden by the environment and flags. Relative paths start at its directory.

    Raises:
        ConfigError: the file is missing or is not YAML, or a value is invalid. The message names the line.
    """
    document = _read_yaml(path)
    overrides = overrides or Overrides()
    flags = overrides.as_settings()
    try:
        layers = _Layers(flags=flags, file=document)  # type: ignore[call-arg]  # settings_customise_sources reads them
    except ValidationError as exc:
        raise ConfigError(_explain(exc, path, document, flags)) from None  # the cause may repeat a secret value
    base, prices = path.resolve().parent, layers.marts.prices
    values = {
        **dict(layers),
        "state_dir": base / layers.state_dir,
        "warehouse": layers.warehouse.model_copy(update={"path": base / layers.warehouse.path}),
        "marts": layers.marts.model_copy(update={"prices": prices and base / prices}),
    }
    return Settings.model_construct(**values).limited_to(overrides.datasets or ())


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML 1.2 file; its nodes know their line numbers."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; name one with --config PATH") from None
    except OSError as exc:
        raise DeniedError.at(path, exc) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {exc}; save it as UTF-8") from exc
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
            raise ConfigError(f"{path}, line {_line_of(document, [key])}: the key {key!r} is not a name")
    privacy = document.get("privacy")
    if isinstance(privacy, dict) and "key" in privacy:
        line = _line_of(document, ["privacy", "key"])
        raise ConfigError(f"{path}, line {line}: privacy.key does not belong in the file; set {ENV_PREFIX}PRIVACY__KEY")
    return document


def _explain(exc: ValidationError, path: Path, document: Mapping[str, Any], flags: Mapping[str, Any]) -> str:
    """Return one line for each mistake: place, setting, found, expected. Values that may be secret are left out."""
    sentences = []
    for error in exc.errors(include_url=False):
        if error["loc"][-1:] == ("str",) and not isinstance(error["input"], str):
            continue  # an entry of `datasets` is a name or a definition; this one is no name
        # pydantic adds the class of the definition to the location; it is not a key of the file.
        keys = [key for key in error["loc"] if key != Dataset.__name__]
        name = ".".join(str(key) for key in keys)
        if keys[-1] in flags.get(str(keys[0]), {}):
            sentences.append(f"--{str(keys[-1]).replace('_', '-')}: {_found(error)}")
            continue
        variable = ENV_PREFIX + "__".join(map(str, keys)).upper()
        where = f"environment {variable}" if variable in os.environ else f"{path}, line {_line_of(document, keys)}"
        what = _found(error)
        if error["type"] == "extra_forbidden":
            what = _CREDENTIALS if _SECRET.search(name) else _UNKNOWN
        sentences.append(f"{where}: {name}: {what}")
    return "\n".join(dict.fromkeys(sentences))


def _found(error: Any) -> str:
    """Return what one validation error found and what it expected."""
    value, problem = error["input"], error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return str(problem)
    if isinstance(value, str) and ("@" in value or error["loc"][0] == "on_finish"):
        # A URL may hold a password before its @. URLs of health checks and arguments of commands may be keys.
        return f"found text that may be secret, not repeated here; {problem}"
    if isinstance(value, str | int | float | bool | None):
        shown = repr(value)
        return f"found {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + ' …'}; {problem}"
    kind = "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list | tuple) else "a value"
    return f"found {kind}; {problem}"


def _line_of(document: Any, keys: Iterable[Any]) -> int:
    """Return the line number, from 1, of the deepest of these nested keys that the file has."""
    line = 1
    with suppress(AttributeError, KeyError, IndexError, TypeError):
        for key in keys:
            line = (document.lc.item(key) if isinstance(key, int) else document.lc.key(key))[0] + 1
            document = document[key]
    return line


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
