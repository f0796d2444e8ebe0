"""Settings: what an operator can choose, validated and frozen. `etl.configfile` reads them from config.yaml."""

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from etl.errors import did_you_mean
from etl.model import Dataset, Frozen, Rule
from etl.names import tag_column

EMBEDDED = "embedded"
ENV_PREFIX = "NIMBLE_ETL_"
"""How the environment variables begin that override config.yaml."""
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> dt.timedelta:
    """Return the duration that a text such as `90s`, `15m`, `3h`, `2d` or `1h30m` means.

    Raises:
        ValueError: the text is not a duration.
    """
    expected = "expected a duration such as 90s, 15m, 3h or 1h30m"
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise ValueError(expected)
    try:
        return dt.timedelta(seconds=sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts))
    except OverflowError:
        raise ValueError(expected) from None


def _as_duration(value: Any) -> Any:
    if isinstance(value, int | float) and value < 0:
        raise ValueError("is negative; expected a duration such as 90s, 15m, 3h or 1h30m")
    return parse_duration(value) if isinstance(value, str) else value


def _url_or(*words: str) -> AfterValidator:
    """Return the validator of a text that is an http(s) URL without credentials, or one of these words."""

    def check(text: str) -> str:
        if text not in words and not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", text):
            raise ValueError(f"expected {', '.join([*words, 'null'])} or an http(s) URL without credentials in it")
        return text

    return AfterValidator(check)


def _as_text(value: dt.timedelta) -> str:
    """Return a duration as it is written: 1h30m."""
    seconds = value.total_seconds()
    parts = []
    for unit, size in reversed(_UNIT_SECONDS.items()):
        count, seconds = divmod(seconds, size) if size > 1 else (seconds, 0)
        if count:
            parts.append(f"{count:g}{unit}")
    return "".join(parts) or "0s"


Duration = Annotated[
    dt.timedelta, BeforeValidator(_as_duration), PlainSerializer(_as_text, return_type=str, when_used="json")
]


def _as_place(value: object) -> Path | str:
    """Return a directory, or the URI of a bucket and prefix."""
    if not isinstance(value, str | Path):
        raise ValueError("expected a path, or s3://bucket/prefix")  # noqa: TRY004  pydantic's
    text = str(value)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.'()=+-]+)+/?", text):
            raise ValueError("is a URL; expected a path, or s3://bucket/prefix")
        return text.rstrip("/")
    # deltalake 1.6 treats a path as part of a URL: it would write to one directory and read from another.
    found = sorted({character for character in text if character in "%?\\" or not character.isprintable()})
    if found:
        raise ValueError(f"has {', '.join(map(repr, found))} in it, which deltalake cannot handle; choose another")
    return Path(value)


Place = Annotated[Path | str, PlainValidator(_as_place), WithJsonSchema({"type": "string"})]
"""A directory, or `s3://bucket/prefix`."""


class Retry(Frozen):
    """How a page request is repeated after a temporary failure."""

    timeout: Duration = Field(dt.timedelta(minutes=10), description="give up on a page after this time")
    wait_max: Duration = Field(dt.timedelta(seconds=30), description="the longest pause between two tries")


class Privacy(Frozen):
    """Which values of records are hashed or dropped before they reach the warehouse."""

    rules: Mapping[str, Mapping[str, Rule]] = Field(
        {}, description="for a dataset, or * for all: column, or map entry such as tags.Artist -> allow, hash or drop"
    )
    key: SecretStr | None = Field(None, description="key of the hashes; set it only as NIMBLE_ETL_PRIVACY__KEY")

    @property
    def secret(self) -> bytes | None:
        """Return the key of the hashes; None if there is none."""
        return self.key.get_secret_value().encode() if self.key else None


OPTED_IN = "opted-in"
"""Stands in `regions` for the Regions that an account has opted into."""
GLOBAL = "-global"
"""Ends the name that stands for all Regions of a partition: aws-global."""
_ACCOUNT_ID = r"^\d{12}$"
_ROLE = r"^(arn:aws[a-z-]*:iam::\d{12}:role/)?[\w+=,.@/-]+$"
_REGION = re.compile(r"(?=.*[a-z*?])[a-z*?][a-z0-9*?-]*")
_TWELVE_DIGITS = "12 digits, in quotes"


def _check_regions(value: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse what cannot be Regions. Which Regions there are is known to `etl.extract.places`."""
    for name in value:
        if not _REGION.fullmatch(name):
            raise ValueError(f"has {name!r}; expected names such as us-west-2, patterns such as us-*, or {OPTED_IN}")
        if value.count(name) > 1:
            raise ValueError(f"has {name!r} twice; keep one")
    if OPTED_IN in value and len(value) > 1:
        raise ValueError(f"has {OPTED_IN} beside other Regions; expected {OPTED_IN} alone, or names and patterns")
    return value


def _each(pattern: str, expected: str) -> AfterValidator:
    """Return the validator of a list of texts that match a pattern."""

    def check(value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not re.fullmatch(pattern, text):
                raise ValueError(f"has {text!r}; expected {expected}")
        return value

    return AfterValidator(check)


Regions = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    AfterValidator(_check_regions),
]


class Access(Frozen):
    """How credentials of an account are had: with a role that this job's credentials, or those of a profile, assume."""

    role: str | None = Field(
        None, pattern=_ROLE, description="role to assume there", examples=["the name of a role, or its ARN"]
    )
    external_id: str | None = Field(None, min_length=2, description="what the role's trust policy asks for")
    session_name: str = Field(
        "nimble-etl",
        pattern=r"^[\w+=,.@-]{2,64}$",
        description="names this job in CloudTrail",
        examples=["2 to 64 letters, digits and any of _+=,.@-"],
    )

    @model_validator(mode="after")
    def _is_about_a_role(self) -> Self:
        if self.external_id and not self.role:
            raise ValueError("has an external_id and no role; an external id belongs to a role")
        return self


class Account(Access):
    """An account to list."""

    id: str = Field(pattern=_ACCOUNT_ID, examples=[_TWELVE_DIGITS])
    profile: str | None = Field(None, min_length=1, description="profile of ~/.aws/config to begin with")
    regions: Regions = Field((), description="as source.regions, for this account")

    @model_validator(mode="after")
    def _has_its_own_role(self) -> Self:
        if self.role and self.role.startswith("arn:") and f"::{self.id}:" not in self.role:
            raise ValueError(f"has the id {self.id}, and its role is of another account: {self.role}")
        return self


class Organization(Access):
    """The accounts of an AWS organization. This job's credentials list them, and assume the same role in each."""

    role: str = Field(
        pattern=r"^[\w+=,.@/-]+$", description="name of the role to assume", examples=["the name of a role, no ARN"]
    )
    units: Annotated[tuple[str, ...], _each("(ou|r)-[a-z0-9-]+", "ids such as ou-ab12-cd34")] = Field(
        (), description="organizational units to list, with those below them; empty: the whole organization"
    )
    skip: Annotated[tuple[str, ...], _each(r"\d{12}", _TWELVE_DIGITS)] = Field((), description="accounts to leave out")


class SourceSettings(Frozen):
    """Where the pages come from."""

    endpoint_url: Annotated[str, _url_or(EMBEDDED)] | None = Field(
        EMBEDDED, description="embedded: the local studio that comes with this job; null: AWS; or any other URL"
    )
    region: str = Field(
        "us-west-2",
        pattern=r"^[a-z]{2,}(-[a-z]+)+-\d+$",
        description="AWS Region of the requests",
        examples=["a Region such as us-west-2"],
    )
    account_id: str | None = Field(
        None,
        pattern=_ACCOUNT_ID,
        description="null: taken from the credentials or STS",
        examples=[_TWELVE_DIGITS],
    )
    accounts: tuple[Account, ...] = Field((), description="accounts to list; empty: the one of the credentials")
    organization: Organization | None = Field(None, description="lists the accounts of an AWS organization")
    regions: Regions = Field(
        (), description=f"Regions to list: names, patterns such as us-*, or {OPTED_IN}; empty: source.region"
    )
    studio_ids: tuple[str, ...] = Field((), description="studios to export; empty: all that ListStudios returns")
    filters: Mapping[str, str] = Field({}, description="request parameters that narrow the listing, such as owned_by")
    max_page_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="refuse a response that is larger")
    retry: Retry = Retry()

    @property
    def pins(self) -> dict[str, tuple[str, ...]]:
        """Return the parameters whose values are configured; these values need no listing of the parent dataset."""
        return {"studioId": self.studio_ids} if self.studio_ids else {}

    @property
    def has_places(self) -> bool:
        """Tell whether accounts or Regions are named, so that slices are of several of them."""
        return bool(self.accounts or self.organization or self.regions)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        ids = [account.id for account in self.accounts]
        if twice := sorted({one for one in ids if ids.count(one) > 1}):
            raise ValueError(f"accounts has {twice[0]} twice; keep one")
        if self.accounts and self.organization:
            raise ValueError("has accounts and organization; keep the one that names what to list")
        if self.accounts and self.account_id:
            raise ValueError("has accounts and account_id; remove account_id")
        if self.has_places and self.studio_ids:
            raise ValueError(
                "has studio_ids beside several accounts or Regions; a studio is in one: remove one of them"
            )
        return self


class Run(Frozen):
    """How long a run lasts, how much it fetches, and how long it can be resumed."""

    concurrency: int = Field(8, ge=1, le=64, description="number of slices walked at the same time")
    max_duration: Duration | None = Field(None, description="stop after this time; the next run continues there")
    max_items: int | None = Field(
        None, ge=1, description="stop each slice after N more records; the next run continues"
    )
    max_pages: int = Field(1_000_000, ge=1, description="fail a slice with more pages: its source may never end")
    max_checkpoint_age: Duration = Field(
        dt.timedelta(hours=12), description="abandon an unfinished run if its last page is older, and begin a new run"
    )
    keep_ledgers: Duration = Field(
        dt.timedelta(days=90),
        description="delete older ledgers, except the newest; such runs cannot be verified or replayed",
    )
    keep_ledgers_at: Place | None = Field(
        None, description="directory, or s3://bucket/prefix, for copies of ledgers: other machines can use them"
    )


class Publish(Frozen):
    """Guards against a source that suddenly yields too few rows, compared with a slice's last snapshot."""

    max_fall: float = Field(
        0.5, ge=0, le=1, description="hold a slice back if it lost a larger share and more than fall_tolerance rows"
    )
    fall_tolerance: int = Field(20, ge=0, description="accept losing up to this many rows, unless none are left")


class StatusLimits(Frozen):
    """When `nimble-etl status` reports a problem."""

    max_age: Duration | None = Field(None, description="exit with 5 if a listed slice has no younger snapshot")


REPORTED = ("exit_code", "error", "snapshot_date", "run_id", "rows", "rejects", "report")
"""What a template of `on_finish.body` may name in braces; `report` is all that is reported, as JSON."""


def _check_template(value: Any) -> Any:
    """Refuse a template that names something which is not reported."""
    for name in re.findall(r"\{(\w+)\}", str(value)):
        if name not in REPORTED:
            raise ValueError(f"names {{{name}}}{did_you_mean(name, REPORTED)}; expected one of {', '.join(REPORTED)}")
    return value


class OnFinish(Frozen):
    """Who is told how a run ended."""

    command: tuple[str, ...] = Field((), description="program and arguments; it reads the outcome as JSON from stdin")
    url: Annotated[str, _url_or()] | None = Field(
        None, description="URL that gets the outcome as a JSON POST; {exit_code} in it becomes the exit code"
    )
    body: Annotated[Mapping[str, Any], AfterValidator(_check_template)] | None = Field(
        None, description="JSON to POST instead of the outcome; texts in it may name {exit_code}, {error}, {report}, …"
    )
    timeout: Duration = Field(dt.timedelta(seconds=30), gt=dt.timedelta(0), description="for the command, and the URL")


class S3(Frozen):
    """How the bucket of a warehouse is reached. Credentials come from the same places as those of boto3."""

    region: str | None = Field(None, description="Region of the bucket; null: source.region")
    endpoint_url: str | None = Field(None, description="another server than AWS; null: what the AWS configuration says")
    profile: str | None = Field(None, description="profile with the credentials for the bucket; null: the usual ones")
    addressing: Literal["virtual", "path"] = Field(
        "virtual", description="where the bucket stands in URLs: `path` is what most servers other than AWS need"
    )
    encryption: Literal["AES256", "aws:kms"] | None = Field(
        None, description="of new objects; null: that of the bucket"
    )
    kms_key_id: str | None = Field(None, description="the key for `aws:kms`; null: that of the account")
    lease: Duration = Field(
        dt.timedelta(seconds=30), description="a job that stands still for so long has lost the lock of the warehouse"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.kms_key_id and self.encryption != "aws:kms":
            raise ValueError("has kms_key_id, and encryption is not aws:kms; set encryption: aws:kms")
        return self


class Warehouse(Frozen):
    """Where the tables are written, and how long replaced data stays."""

    path: Place = Field(Path("warehouse"), description="directory of the tables and the catalog, or s3://bucket/prefix")
    s3: S3 = S3()
    keep_snapshots: Duration | None = Field(
        None, description="`vacuum` drops older daily partitions, except the newest snapshots; the change log stays"
    )
    vacuum_grace: Duration = Field(
        dt.timedelta(days=2), description="`vacuum` keeps replaced files this long, because readers may still use them"
    )
    lock_timeout: Duration = Field(
        dt.timedelta(minutes=10), description="wait this long while another job commits to this warehouse"
    )


class Engine(Frozen):
    """Who walks the slices of a night, and turns their pages into rows."""

    kind: Literal["threads", "processes", "spark"] = Field(
        "threads", description="threads of this process, several processes of this machine, or Spark"
    )
    workers: int | None = Field(None, ge=1, le=1024, description="with `processes`: how many; null: as many as cores")
    remote: str | None = Field(
        None,
        pattern=r"^sc://[\w.-]+(:\d+)?(/;use_ssl=true)?$",
        description="with `spark`: sc://host:port of Spark Connect; null: as SPARK_REMOTE or spark-submit says",
        examples=["sc://host:port; a token belongs into SPARK_REMOTE"],
    )
    tasks: int = Field(
        64, ge=1, le=100_000, description="cut the slices into so many tasks; a worker has one at a time"
    )
    segment_pages: int = Field(
        64, ge=1, description="workers make so many pages durable at once; a worker that dies loses no more"
    )
    segments_at: Place | None = Field(
        None,
        description="directory that all workers share, or s3://bucket/prefix, for these pages; null: the warehouse",
    )


def _check_properties(value: Mapping[str, str]) -> Mapping[str, str]:
    """Refuse credentials, which a catalog of Iceberg finds elsewhere."""
    for name, text in value.items():
        if re.search(r"access.?key|secret|token|password|credential|authorization", name, re.IGNORECASE) or "@" in text:
            variable = f"PYICEBERG_CATALOG__{value.get('name', 'nimble-etl')}__{name}"
            raise ValueError(
                f"has {name}, which may hold a secret and does not belong in the configuration; set the variable "
                f"{re.sub('-', '_', variable.replace('.', '__')).upper()}"
            )
    return value


class Iceberg(Frozen):
    """Where the tables of the warehouse are registered as tables of Apache Iceberg."""

    catalog: Annotated[Mapping[str, str], AfterValidator(_check_properties)] = Field(
        {}, description="properties of pyiceberg's catalog, such as type, uri and warehouse; empty: none is kept"
    )
    namespace: str = Field(
        "nimble",
        pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$",
        description="of the tables in the catalog",
        examples=["letters, digits and _; a dot between the levels"],
    )


class Bi(Frozen):
    """What the flat views for BI tools show in addition to the columns of the API."""

    pinned_tags: tuple[str, ...] = Field((), description="tags with a column of their own, even if no record has them")

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
    """What is computed after each publication."""

    build: bool = Field(
        default=True, description="false: build no marts, checks, flat views or dictionary, only tables and their views"
    )
    prices: Path | None = Field(
        None,
        description="CSV file with item, ec2_instance_type, region, valid_from, price, currency; null: costs are null",
    )


class Report(Frozen):
    """What `nimble-etl report` shows besides the answers of the catalog."""

    names: Path | None = Field(
        None, description="CSV file with owned_by and name; the report shows these names. null: owners are ids"
    )


class Emulator(Frozen):
    """The world of the embedded studio."""

    studios: int = Field(2, ge=1, le=1000, description="number of studios; with accounts and Regions, in each of them")
    accounts: int = Field(1, ge=1, le=1000, description="number of accounts in the organization")
    sessions_per_studio: int = Field(1500, ge=0, description="live sessions in each studio; about constant over time")
    page_size: int = Field(100, ge=1, le=10_000, description="records on a page")
    latency_ms: float = Field(0, ge=0, description="pause before each answer, in milliseconds")
    seed: int = Field(7, description="another seed makes another world")


class Settings(Frozen):
    """All settings of one invocation."""

    source: SourceSettings = SourceSettings()
    datasets: tuple[str | Dataset, ...] = Field(
        ("studios", "streaming_sessions"), description="names of built-in datasets, or definitions of other ones"
    )
    run: Run = Run()
    privacy: Privacy = Privacy()
    publish: Publish = Publish()
    status: StatusLimits = StatusLimits()
    on_finish: OnFinish = OnFinish()
    state_dir: Path = Field(Path("state"), description="directory of the ledgers and the lock")
    warehouse: Warehouse = Warehouse()
    engine: Engine = Engine()
    iceberg: Iceberg = Iceberg()
    marts: Marts = Marts()
    bi: Bi = Bi()
    report: Report = Report()
    emulator: Emulator = Emulator()
    _only: tuple[str, ...] = PrivateAttr(())

    @property
    def exported(self) -> tuple[str | Dataset, ...]:
        """Return the datasets of this invocation: those that flags name, otherwise all that are configured."""
        configured = {entry if isinstance(entry, str) else entry.name: entry for entry in self.datasets}
        return tuple(configured.get(name, name) for name in self._only) or self.datasets

    def limited_to(self, datasets: Iterable[str]) -> "Settings":
        """Return the same settings for an invocation that exports only these datasets; empty: all."""
        limited = self.model_copy()
        limited._only = tuple(datasets)  # noqa: SLF001  our own
        return limited
