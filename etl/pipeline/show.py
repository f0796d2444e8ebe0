"""What readers see: the catalog of everything committed, and what its checks say."""

import logging

from etl.load.catalog.build import Content, build_catalog
from etl.load.delta.tables import Tables
from etl.outcome import CheckResult

log = logging.getLogger(__name__)


def show(tables: Tables, content: Content) -> tuple[CheckResult, ...]:
    """Build the catalog, and return the checks of severity *error* that do not pass.

    Raises:
        StorageError, WarehouseError: as `build_catalog` says.
    """
    failed = [check for check in build_catalog(tables, content) if check.failures]
    for check in failed:
        log.log(logging.ERROR if check.severity == "error" else logging.WARNING, "%s", check)
    return tuple(check for check in failed if check.severity == "error")
