"""config.yaml, read and edited: every mistake in it is a `ConfigError` that names file and line.

Flags of the command line win over the environment, which wins over the file. Credentials never stand in the file: they
come from the AWS credential chain.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from etl.config import Settings
from etl.errors import ConfigError, first_line
from etl.model import Dataset
from etl.storage.disk import put_in_place, remove_files, storage_errors

ENV_PREFIX = "NIMBLE_ETL_"
_MAX_FILE_BYTES = 1_000_000
_MAX_DEPTH = 20
_SHOWN = 80
_UNKNOWN = "is not a setting; `nimble-etl config schema` lists them"
_SECRET = re.compile(r"access_?key|secret|session_?token|password|credential", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What flags of the command line replace; None keeps what the file and the environment say."""

    datasets: Sequence[str] | None = None
    studio_ids: Sequence[str] | None = None
    filters: Mapping[str, str | None] = field(default_factory=dict)
    max_items: int | None = None
    max_duration: str | None = None
    max_age: str | None = None

    def as_settings(self) -> dict[str, Any]:
        """Return those that are given where the settings have them."""
        filters = {name: value for name, value in self.filters.items() if value is not None}
        given: dict[str, dict[str, Any]] = {
            "source": {"studio_ids": self.studio_ids, "filters": filters},
            "run": {"max_items": self.max_items, "max_duration": self.max_duration},
            "status": {"max_age": self.max_age},
        }
        parts = {part: {name: value for name, value in values.items() if value} for part, values in given.items()}
        return {part: values for part, values in parts.items() if values}


class _Environment(EnvSettingsSource):
    """The variables that begin with NIMBLE_ETL_."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Read a list or mapping.

        Raises:
            ConfigError: it is not JSON. The value may be secret, so only the names of variables are said.
        """
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            names = [name for name, text in os.environ.items() if text == value and name.upper().startswith(ENV_PREFIX)]
            raise ConfigError(
                f"environment {', '.join(sorted(names))}: is not JSON; "
                'expected a list or mapping such as ["one", "two"]'
            ) from None


class _Layers(BaseSettings, Settings):
    """Settings put together from flags, environment and file; made from the arguments `flags` and `file`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the signature is pydantic-settings'
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the layers, the strongest first."""
        assert isinstance(init_settings, InitSettingsSource)
        flags, file = (InitSettingsSource(settings_cls, init_settings.init_kwargs[name]) for name in ("flags", "file"))
        return flags, _Environment(settings_cls), file


def load_settings(path: Path, overrides: Overrides | None = None) -> Settings:
    """Return the settings of a file, with relative paths made to start at its directory.

    Raises:
        ConfigError: the file is missing, is not YAML, or a value is not what the schema says; names the line.
    """
    document = _read_yaml(path)
    overrides = overrides or Overrides()
    flags = overrides.as_settings()
    try:
        layers = _Layers(flags=flags, file=document)  # type: ignore[call-arg]  # settings_customise_sources reads them
    except ValidationError as exc:
        raise ConfigError(_explain(exc, path, document, flags)) from None  # the cause repeats what may be secret
    base, prices = path.resolve().parent, layers.marts.prices
    values = {
        **dict(layers),
        "state_dir": base / layers.state_dir,
        "warehouse": layers.warehouse.model_copy(update={"path": base / layers.warehouse.path}),
        "marts": layers.marts.model_copy(update={"prices": prices and base / prices}),
    }
    return Settings.model_construct(**values).limited_to(overrides.datasets or ())


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML 1.2 file; its nodes still know their lines."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; name one with --config PATH") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {exc}") from exc
    if len(text) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path}: has {len(text)} characters; a configuration has at most {_MAX_FILE_BYTES}")
    try:
        depth = 0
        for event in YAML().parse(text):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise ConfigError(f"{path}, line {event.start_mark.line + 1}: nested too deep; expected a few levels")
            # An alias lets ten lines expand to gigabytes once the document is walked.
            if isinstance(event, AliasEvent):
                line = event.start_mark.line + 1
                raise ConfigError(f"{path}, line {line}: found an alias; write the value out instead")
        document = YAML().load(text)
    except DuplicateKeyError as exc:
        line = exc.problem_mark.line + 1
        found = str(exc.problem).partition('" with value ')[0]
        raise ConfigError(f'{path}, line {line}: {found}"; keep one') from None
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(
            f"{path}, line {line}: not YAML: {exc.problem or exc.context}"
        ) from None  # it quotes the line
    except YAMLError as exc:
        raise ConfigError(f"{path}: not YAML: {first_line(exc)}") from exc
    except ValueError as exc:  # what looks like a date, and is none
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
    """Say each mistake as `place: setting: found, expected`, never repeating a value that may be secret."""
    sentences = []
    for error in exc.errors(include_url=False):
        if error["loc"][-1:] == ("str",) and not isinstance(error["input"], str):
            continue  # the arm of `name or definition` that was not meant
        # The union reports the other arm under the name of its class, which is no key of the file.
        keys = [key for key in error["loc"] if key != Dataset.__name__]
        name = ".".join(str(key) for key in keys)
        if keys[-1] in flags.get(str(keys[0]), {}):
            sentences.append(f"--{str(keys[-1]).replace('_', '-')}: {_found(error)}")
            continue
        variable = ENV_PREFIX + "__".join(map(str, keys)).upper()
        where = f"environment {variable}" if variable in os.environ else f"{path}, line {_line_of(document, keys)}"
        what = _found(error)
        if error["type"] == "extra_forbidden":
            what = _UNKNOWN
            if _SECRET.search(name):
                what = "credentials do not belong in the configuration; use the AWS credential chain"
        sentences.append(f"{where}: {name}: {what}")
    return "\n".join(dict.fromkeys(sentences))


def _found(error: Any) -> str:
    """Say what one validation error found and what it expected."""
    value, problem = error["input"], error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return str(problem)
    if isinstance(value, str) and ("@" in value or error["loc"][0] == "on_finish"):
        # The password of a URL stands before an @; the URL of a health check is its key, an argument may be one.
        return f"found text that may be secret, not repeated here; {problem}"
    if isinstance(value, str | int | float | bool | None):
        shown = repr(value)
        return f"found {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + ' …'}; {problem}"
    kind = "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list | tuple) else "a value"
    return f"found {kind}; {problem}"


def _line_of(document: Any, keys: Iterable[Any]) -> int:
    """Return the 1-based line of the deepest of these nested keys that the file has."""
    line = 1
    for key in keys:
        try:
            line = (document.lc.item(key) if isinstance(key, int) else document.lc.key(key))[0] + 1
            document = document[key]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def append_datasets(path: Path, entries: str, definitions: Iterable[Dataset]) -> None:
    """Append entries to the `datasets` of a configuration file; every comment and other setting stays as it is.

    Args:
        path: the file.
        entries: YAML, a mapping with the one key `datasets`.
        definitions: the datasets that the entries must be read as.

    Raises:
        ConfigError: the file is written in a way that has no place for them; nothing has changed.
        StorageError: the disk refused; nothing has changed.
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
        if any(comment not in longer for comment in re.findall(r"#.*", text)) or _datasets(draft) != expected:
            raise ConfigError(
                f"{path}: `datasets` is not a list with an entry on each line; make it one, then try again"
            )
        with storage_errors(path):
            put_in_place(draft, path)
    finally:
        remove_files([draft])


def _datasets(path: Path) -> tuple[str | Dataset, ...] | None:
    try:
        return load_settings(path).datasets
    except ConfigError:
        return None


def _with_entries(text: str, entries: str) -> str:
    """Return a configuration with the lines of more entries in its `datasets`."""
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
    """Return the line that the text of a node ends on; that of a list or mapping ends before the next token."""
    if isinstance(node.value, str) or node.flow_style or not node.value:
        return int(node.end_mark.line)
    last = node.value[-1]
    return _last_line(last[1] if isinstance(last, tuple) else last)
