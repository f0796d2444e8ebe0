"""Where datasets are listed: in which accounts, and for each service in which Regions.

A service whose only endpoint is that of the partition, such as IAM, is listed once for each account. Its slices carry
the partition's own name for that, `aws-global`. Source: botocore's endpoints.json.

Which accounts an organization has, and which Regions an account has opted into, are listings like any other: the
datasets below. Their pages go into the run's ledger, so a resumed run has the same accounts and Regions.
"""

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from typing import Any

from etl.config import GLOBAL, OPTED_IN, Account, SourceSettings
from etl.errors import ConfigError, did_you_mean
from etl.extract.service_model import model_session
from etl.model import Dataset

log = logging.getLogger(__name__)

ACCOUNTS = Dataset(name="etl_accounts", service="organizations", operation="list_accounts", key=("id",))
UNIT_ACCOUNTS = ACCOUNTS.model_copy(update={"operation": "list_accounts_for_parent"})
UNITS = Dataset(
    name="etl_units", service="organizations", operation="list_organizational_units_for_parent", key=("id",)
)
REGIONS = Dataset(name="etl_regions", service="account", operation="list_regions", key=("region_name",))
PARENT = "ParentId"
"""The parameter of the organizational unit that is listed."""
_ENABLED = ("ENABLED", "ENABLED_BY_DEFAULT")
_ALWAYS_GLOBAL = ("s3", "support")
"""Services with Regions, and yet every Region lists the same: s3 lists all buckets of an account."""


@dataclass(frozen=True, slots=True)
class Place:
    """One account in one Region; or all Regions of its partition, if the Region is one such as `aws-global`."""

    account_id: str
    region: str


class Places:
    """The accounts and Regions of a `source`.

    Raises:
        ConfigError: a Region is none, or is of another partition than source.region, or a pattern matches none.
    """

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        self._accounts: dict[str, Account] = {account.id: account for account in settings.accounts}
        self._matches: dict[str, list[str]] = {}
        self._left_out: set[tuple[str, str]] = set()
        self._served: dict[str, Collection[str]] = {}
        self.given = settings.has_places
        """Whether the configuration names accounts or Regions. Otherwise there is one account in one Region."""
        for name, regions in self._all_regions():
            for region in regions:
                self._check(name, region)

    def _all_regions(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield "source.regions", self._settings.regions
        for number, account in enumerate(self._settings.accounts):
            yield f"source.accounts.{number}.regions", account.regions

    @property
    def account_ids(self) -> tuple[str, ...]:
        """Return the accounts that the configuration names."""
        return tuple(self._accounts)

    @cached_property
    def listings(self) -> dict[str, Dataset]:
        """Return the datasets that tell accounts and Regions, by name."""
        organization = self._settings.organization
        found = []
        if organization:
            found += [UNITS, UNIT_ACCOUNTS] if organization.units else [ACCOUNTS]
        if any(OPTED_IN in regions for _, regions in self._all_regions()):
            found.append(REGIONS)
        return {dataset.name: dataset for dataset in found}

    @property
    def partition(self) -> str:
        """Return the name of the partition, which begins the ARNs of its roles: `aws`."""
        return str(self._partition["partition"])

    def are_opted_in(self, account_id: str) -> bool:
        """Tell whether an account is listed in the Regions that it has opted into, whichever these are."""
        return OPTED_IN in self._wanted(account_id)

    def home(self, service: str) -> str:
        """Return the Region of a service's requests that are about the account, not about a Region."""
        return self._global_region(service) or self._settings.region

    def all(self, service: str, account_id: str, opted_in: Collection[str] = ()) -> Iterator[Place]:
        """Yield where to list a service of an account. `opted_in` are the Regions that the account has opted into."""
        if not self.given:
            yield Place(account_id, self._settings.region)
        elif region := self._global_region(service):
            yield Place(account_id, region)
        else:
            wanted = self._wanted(account_id)
            found = [one for name in wanted for one in (opted_in if name == OPTED_IN else self._matching(name))]
            for region in dict.fromkeys(found):
                if self._has(service, region):
                    yield Place(account_id, region)
                elif (service, region) not in self._left_out:
                    self._left_out.add((service, region))
                    level = logging.WARNING if region in wanted else logging.INFO
                    log.log(level, "%s is not listed in %s: botocore knows no endpoint of it there", service, region)

    def _wanted(self, account_id: str) -> tuple[str, ...]:
        account = self._accounts.get(account_id)
        return (account.regions if account else ()) or self._settings.regions or (self._settings.region,)

    def region_of_requests(self, region: str) -> str:
        """Return the Region that a client of a place is made for."""
        return self._settings.region if self.given and region.endswith(GLOBAL) else region

    def is_active(self, account: Mapping[str, str]) -> bool:
        """Tell whether an account of an organization is to be listed, by the columns of its record."""
        organization = self._settings.organization
        # AWS replaces Status by State in 2026; until then, both are there.
        state = account.get("state") or account.get("status")
        return state == "ACTIVE" and organization is not None and account["id"] not in organization.skip

    @staticmethod
    def is_enabled(region: Mapping[str, str]) -> bool:
        """Tell whether an account has opted into a Region, by the columns of its record."""
        return region.get("region_opt_status") in _ENABLED

    def _matching(self, name: str) -> list[str]:
        if name not in self._matches:  # each account asks for the same names
            self._matches[name] = [one for one in self._partition["regions"] if fnmatchcase(one, name)] or [name]
        return self._matches[name]

    def _check(self, setting: str, name: str) -> None:
        partition = self._partition
        if name == OPTED_IN:
            return
        if "*" in name or "?" in name:
            if not any(fnmatchcase(region, name) for region in partition["regions"]):
                raise ConfigError(f"{setting}: {name!r} matches no Region; known are {', '.join(partition['regions'])}")
        elif (found := _partition_of(setting, name)) is not partition:
            raise ConfigError(
                f"{setting}: {name} is a Region of the partition {found['partition']}, source.region "
                f"{self._settings.region} of {partition['partition']}; use one configuration for each partition"
            )

    @cached_property
    def _partition(self) -> Any:
        return _partition_of("source.region", self._settings.region)

    def _global_region(self, service: str) -> str | None:
        """Return the name that a partition has for the one endpoint of a service; None: the service has Regions."""
        if service in _ALWAYS_GLOBAL:
            return f"{self.partition}{GLOBAL}"
        found = self._service(service)
        region: str | None = None if found.get("isRegionalized", True) else found.get("partitionEndpoint")
        return region

    def _has(self, service: str, region: str) -> bool:
        """Tell whether a service is in a Region. What botocore does not know may be anywhere."""
        known = self._partition["regions"].keys()
        if service not in self._served:
            self._served[service] = self._service(service).get("endpoints", {}).keys() & known
        there = self._served[service]
        return region in there or region not in known or not there

    def _service(self, service: str) -> Any:
        return self._partition["services"].get(_endpoint_prefix(service), {})


def _partition_of(setting: str, region: str) -> Any:
    """Return the partition that a Region is of.

    Raises:
        ConfigError: it is no Region of any partition.
    """
    partitions = _partitions()
    for partition in partitions:
        if region in partition["regions"] or re.fullmatch(partition["regionRegex"], region):
            return partition
    known = [name for partition in partitions for name in partition["regions"]]
    raise ConfigError(f"{setting}: {region!r} is no Region{did_you_mean(region, known)}; known are {', '.join(known)}")


@cache
def _partitions() -> Any:
    return model_session().get_component("data_loader").load_data("endpoints")["partitions"]


@cache
def _endpoint_prefix(service: str) -> str:
    return str(model_session().get_service_model(service).endpoint_prefix)
