"""Settings: config.yaml, overridden by the environment, validated and frozen.

Every mistake in the file is a `ConfigError` that names file, line and what was expected. Credentials never stand in
the file: they come from the AWS credential chain.
"""

import datetime as dt
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from etl.errors import ConfigError
from etl.model import CATALOG_NAME, Dataset, Frozen, Rule, tag_column

EMBEDDED = "embedded"
ENV_PREFIX = "NIMBLE_ETL_"
_MAX_FILE_BYTES = 1_000_000
_MAX_DEPTH = 20
_SHOWN = 80
_UNKNOWN = "is not a setting; `nimble-etl config schema` lists them"
_SECRET = re.compile(r"access_?key|secret|session_?token|password|credential", re.IGNORECASE)


def parse_duration(text: str) -> dt.timedelta:
    """Return the duration that `90s`, `15m`, `3h`, `2d` or `1h30m` says.

    Raises:
        ValueError: it says no duration.
    """
    expected = "is not a duration such as 90s, 15m, 3h or 1h30m"
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise ValueError(expected)
    unit_names = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    try:
        return sum((dt.timedelta(**{unit_names[unit]: float(number)}) for number, unit in parts), dt.timedelta())
    except OverflowError:
        raise ValueError(expected) from None


def _as_duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _not_negative(value: dt.timedelta) -> dt.timedelta:
    if value < dt.timedelta():
        raise ValueError("is less than nothing; expected a duration such as 90s, 15m, 3h or 1h30m")
    return value


def _is_plain_url(text: str) -> bool:
    return re.fullmatch(r"https?://[^\s/@]+(/\S*)?", text) is not None


Duration = Annotated[dt.timedelta, BeforeValidator(_as_duration), AfterValidator(_not_negative)]


class Retry(Frozen):
    """How long one page request is repeated while it fails for a passing reason."""

    timeout: Duration = Field(dt.timedelta(minutes=10), description="give up on a page after this long")
    wait_max: Duration = Field(dt.timedelta(seconds=30), description="longest pause between two tries")


class Privacy(Frozen):
    """What of the records is not kept as it is."""

    rules: Mapping[str, Mapping[str, Rule]] = Field(
        {}, description="dataset, or * for all -> column, or entry such as tags.Artist -> allow, hash or drop"
    )
    key: SecretStr | None = Field(None, description="of the hashes; only from the environment, never from the file")

    @property
    def secret(self) -> bytes | None:
        """Return the key; None if there is none."""
        return self.key.get_secret_value().encode() if self.key else None


class Source(Frozen):
    """Where the pages come from."""

    endpoint_url: str | None = Field(
        EMBEDDED, description="embedded: the studio that comes with this job; null: AWS itself; or any URL"
    )
    region: str = Field("us-west-2", pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    account_id: str | None = Field(None, pattern=r"^\d{12}$", description="null: asked of the credentials, then of STS")
    studio_ids: tuple[str, ...] = Field((), description="empty: every studio that ListStudios returns")
    filters: Mapping[str, str] = Field({}, description="parameters of the operation, as created_by: …")
    retry: Retry = Retry()

    @field_validator("endpoint_url")
    @classmethod
    def _is_endpoint(cls, value: str | None) -> str | None:
        if value in (None, EMBEDDED):
            return value
        if not _is_plain_url(value or ""):
            raise ValueError("is not 'embedded', null, or an http(s) URL without credentials in it")
        return value

    @property
    def pins(self) -> dict[str, tuple[str, ...]]:
        """Return the parameters whose values the operator names, so that no parent listing is needed for them."""
        return {"studioId": self.studio_ids} if self.studio_ids else {}


class Run(Frozen):
    """How a night goes."""

    concurrency: int = Field(8, ge=1, le=64, description="slices walked at the same time")
    max_duration: Duration | None = Field(None, description="then stop at a page boundary, resumable")
    max_items: int | None = Field(None, ge=1, description="records per slice and invocation, then stop resumable")
    max_pages: int = Field(1_000_000, ge=1, description="per slice: a source that never ends is an error")
    max_checkpoint_age: Duration = Field(
        dt.timedelta(hours=12), description="an older unfinished run is left, not resumed"
    )
    keep_ledgers: Duration = Field(
        dt.timedelta(days=90), description="then a ledger is deleted, and its run can no longer be verified or replayed"
    )


class Publish(Frozen):
    """What is not believed without a word: a service that answers, but with too little."""

    max_fall: float = Field(
        0.5, ge=0, le=1, description="a slice with a larger share less than in its last snapshot is held back"
    )
    fall_tolerance: int = Field(20, ge=0, description="records that may always be missing, except for the last ones")


class StatusLimits(Frozen):
    """When `status` calls for help."""

    max_age: Duration | None = Field(None, description="exit code 5 where a listed slice's snapshot is older")


class OnFinish(Frozen):
    """Who is told how a run ended."""

    command: tuple[str, ...] = Field((), description="program and arguments; the outcome is JSON on its standard input")
    url: str | None = Field(None, description="the outcome is POSTed there as JSON; {exit_code} stands for the code")
    timeout: Duration = Field(dt.timedelta(seconds=30), gt=dt.timedelta(0))

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not _is_plain_url(value):
            raise ValueError("is not null, or an http(s) URL without credentials in it")
        return value


class Warehouse(Frozen):
    """Where the tables are written."""

    path: Path = Path("warehouse")
    keep_snapshots: Duration | None = Field(
        None, description="`vacuum` lets go of older daily partitions; versions and newest snapshots stay"
    )
    vacuum_grace: Duration = Field(
        dt.timedelta(days=2), description="`vacuum` keeps files so long after they were replaced, for their readers"
    )

    @property
    def catalog(self) -> Path:
        """The file that people connect to; not there before the first night."""
        return self.path / CATALOG_NAME

    @field_validator("path")
    @classmethod
    def _has_a_name_for_all(cls, value: Path) -> Path:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(value)):
            raise ValueError("is a URL; expected a directory: other stores are not written to yet")
        # deltalake 1.6 writes to one directory and reads from another: to it, a path is half a URL.
        found = sorted({character for character in str(value) if character in "%?\\" or not character.isprintable()})
        if found:
            raise ValueError(f"has {', '.join(map(repr, found))} in it, which deltalake cannot handle; choose another")
        return value


class Bi(Frozen):
    """What the flat views for BI tools show besides the columns of the API."""

    pinned_tags: tuple[str, ...] = Field((), description="tags with a column of their own, which stays when they go")

    @field_validator("pinned_tags")
    @classmethod
    def _are_columns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        columns: dict[str, str] = {}
        for tag in value:
            former = columns.setdefault(tag_column(tag), tag)
            if former != tag or not tag_column(tag).removeprefix("tag_") or value.count(tag) > 1:
                raise ValueError(f"has {former!r} and {tag!r}, whose columns would both be {tag_column(tag)}; keep one")
        return value


class Marts(Frozen):
    """What is computed after each publish."""

    build: bool = Field(
        default=True, description="false: no marts, checks, flat views and dictionary, only tables and their views"
    )
    prices: Path | None = Field(
        None, description="CSV with ec2_instance_type, price_per_hour and currency; null: costs are null"
    )


class Emulator(Frozen):
    """The world of the embedded studio."""

    studios: int = Field(2, ge=1, le=1000)
    sessions_per_studio: int = Field(1500, ge=0, description="live sessions; about constant over time")
    page_size: int = Field(100, ge=1, le=10_000)
    latency_ms: float = Field(0, ge=0)
    seed: int = 7


class Settings(BaseSettings):
    """All settings of one invocation."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    source: Source = Source()
    datasets: tuple[str | Dataset, ...] = ("studios", "streaming_sessions")
    run: Run = Run()
    privacy: Privacy = Privacy()
    publish: Publish = Publish()
    status: StatusLimits = StatusLimits()
    on_finish: OnFinish = OnFinish()
    state_dir: Path = Path("state")
    warehouse: Warehouse = Warehouse()
    marts: Marts = Marts()
    bi: Bi = Bi()
    emulator: Emulator = Emulator()
    _only: tuple[str, ...] = PrivateAttr(())

    @property
    def exported(self) -> tuple[str | Dataset, ...]:
        """The datasets of this invocation: those that flags name, or else all that are configured."""
        configured = {entry if isinstance(entry, str) else entry.name: entry for entry in self.datasets}
        return tuple(configured.get(name, name) for name in self._only) or self.datasets

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose content arrives as the initial values."""
        return env_settings, init_settings


class _Final(Settings):
    """Settings that flags were merged into: the environment has had its say before."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing but the given values."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What flags of the command line replace; None keeps what the file and the environment say."""

    datasets: Sequence[str] | None = None
    studio_ids: Sequence[str] | None = None
    filters: Mapping[str, str | None] = field(default_factory=dict)
    max_items: int | None = None
    max_duration: str | None = None
    max_age: str | None = None


def load_settings(path: Path, overrides: Overrides | None = None) -> Settings:
    """Return the settings of a file, with relative paths made to start at its directory.

    Raises:
        ConfigError: the file is missing, is not YAML, or a value is not what the schema says; names the line.
    """
    document = _read_yaml(path)
    try:
        settings = Settings(**document)
    except ValidationError as exc:
        raise ConfigError(_explain(exc, path, document)) from None  # the cause repeats values, which may be secret
    except SettingsError as exc:
        # Only the environment is parsed before it is validated. The cause of this error holds the value: it stays here.
        name = ENV_PREFIX + str(exc).split('"')[1].upper()
        names = ", ".join(sorted(variable for variable in os.environ if variable.upper().startswith(name)))
        raise ConfigError(
            f'environment {names}: is not JSON; expected a list or mapping such as ["one", "two"]'
        ) from None
    if overrides:
        settings = _override(settings, overrides)
    base, prices = path.resolve().parent, settings.marts.prices
    return settings.model_copy(
        update={
            "state_dir": base / settings.state_dir,
            "warehouse": settings.warehouse.model_copy(update={"path": base / settings.warehouse.path}),
            "marts": settings.marts.model_copy(update={"prices": prices and base / prices}),
        }
    )


def _override(settings: Settings, flags: Overrides) -> Settings:
    source: dict[str, Any] = {"studio_ids": flags.studio_ids}
    given = {name: value for name, value in flags.filters.items() if value is not None}
    source["filters"] = {**settings.source.filters, **given} if given else None
    run = {"max_items": flags.max_items, "max_duration": flags.max_duration}
    merged = settings.model_dump()
    merged["source"].update((name, value) for name, value in source.items() if value)
    merged["run"].update((name, value) for name, value in run.items() if value)
    merged["status"]["max_age"] = flags.max_age or merged["status"]["max_age"]
    try:
        final = _Final(**merged)
    except ValidationError as exc:
        mistakes = [(str(error["loc"][-1]).replace("_", "-"), _found(error)) for error in exc.errors()]
        raise ConfigError("\n".join(f"--{name}: {what}" for name, what in mistakes)) from exc
    final._only = tuple(flags.datasets or ())  # noqa: SLF001  no key of the file, but known to what the file becomes
    return final


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
        raise ConfigError(f"{path}: not YAML: {str(exc).splitlines()[0]}") from exc
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
        if key.startswith("_"):
            # pydantic-settings takes such arguments as orders to itself: _env_file reads any file.
            raise ConfigError(f"{path}, line {_line_of(document, [key])}: {key}: {_UNKNOWN}")
    privacy = document.get("privacy")
    if isinstance(privacy, dict) and "key" in privacy:
        line = _line_of(document, ["privacy", "key"])
        raise ConfigError(f"{path}, line {line}: privacy.key does not belong in the file; set {ENV_PREFIX}PRIVACY__KEY")
    return document


def _explain(exc: ValidationError, path: Path, document: Mapping[str, Any]) -> str:
    """Say each mistake as `file, line: setting: found, expected`, never repeating a value that may be secret."""
    sentences = []
    for error in exc.errors(include_url=False):
        if error["loc"][-1:] == ("str",) and not isinstance(error["input"], str):
            continue  # the arm of `name or definition` that was not meant
        # The union reports the other arm under the name of its class, which is no key of the file.
        keys = [key for key in error["loc"] if key != Dataset.__name__]
        name = ".".join(str(key) for key in keys)
        variable = ENV_PREFIX + "__".join(map(str, keys)).upper()
        where = f"environment {variable}" if variable in os.environ else f"{path}, line {_line_of(document, keys)}"
        if error["type"] == "extra_forbidden":
            what = _UNKNOWN
            if _SECRET.search(name):
                what = "credentials do not belong in the configuration; use the AWS credential chain"
        else:
            what = _found(error)
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
