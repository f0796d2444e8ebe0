"""What readers see, by the settings: the catalog of everything committed, and what its checks say."""

import logging

from etl.config import Settings
from etl.extract.datasets import builtin_datasets, select_datasets
from etl.load.catalog.build import Content, build_catalog
from etl.load.catalog.prices import PRICES, read_prices
from etl.load.delta.tables import Tables
from etl.outcome import CheckResult
from etl.transform.facts import ETL_TABLES

log = logging.getLogger(__name__)


def refresh_catalog(settings: Settings, tables: Tables) -> tuple[CheckResult, ...]:
    """Build the catalog, and return the checks of severity *error* that do not pass.

    Raises:
        ConfigError: the price table is not one; the old catalog stays.
        StorageError, WarehouseError: as `build_catalog` says.
    """
    found = build_catalog(tables, content(settings))
    failed = [check for check in found if check.failures]
    for check in failed:
        log.log(logging.ERROR if check.severity == "error" else logging.WARNING, "%s", check)
    return tuple(check for check in failed if check.severity == "error")


def content(settings: Settings) -> Content:
    """Return what the catalog shows besides what is committed.

    Raises:
        ConfigError: the price table is not one.
    """
    return Content(
        known=ETL_TABLES,
        datasets={**builtin_datasets(), **select_datasets(settings.datasets, settings.privacy.rules)},
        pinned_tags=settings.bi.pinned_tags,
        prices=read_prices(settings.marts.prices) if settings.marts.prices else PRICES.empty_table(),
        with_marts=settings.marts.build,
    )
