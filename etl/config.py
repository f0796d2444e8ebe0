"""Settings: what an operator may decide, validated and frozen. `etl.configfile` reads them."""

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr, field_validator

from etl.model import CATALOG_NAME, Dataset, Frozen, Rule, tag_column

EMBEDDED = "embedded"


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


class SourceSettings(Frozen):
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


class Settings(Frozen):
    """All settings of one invocation."""

    source: SourceSettings = SourceSettings()
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

    def limited_to(self, datasets: Iterable[str]) -> "Settings":
        """Return the same settings for an invocation that exports only these datasets."""
        limited = self.model_copy()
        limited._only = tuple(datasets)  # noqa: SLF001  our own
        return limited
