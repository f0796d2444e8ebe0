"""A price table from a saved price list of AWS. Nothing is requested, and no warehouse is touched."""

from pathlib import Path

from etl.errors import ConfigError, SourceError
from etl.extract.price_list import PriceList, read_price_list
from etl.load.catalog.prices import write_prices
from etl.storage.disk import storage_errors


def price_table(source: Path, region: str | None, operating_system: str) -> tuple[str, PriceList]:
    """Return the text of a price table as `marts.prices` takes it, and what it has.

    Raises:
        ConfigError: the file is missing, or cannot be opened.
        SourceError: the file is no price list, or has no price of an instance or a gp3 volume.
    """
    found = read_price_list(source, region, operating_system)
    if not found.prices:
        where = f" in {region}" if region else ""
        raise SourceError(
            f"{source}: found no price of an instance hour ({operating_system}) or a gp3 volume{where}; expected the"
            " price list of a service that has them, such as AmazonEC2"
        )
    return write_prices(found.prices), found


def save_table(text: str, path: Path) -> None:
    """Write a price table into a new file.

    Raises:
        ConfigError: the file is there already: it may have prices of former days.
        StorageError: the disk refused.
    """
    with storage_errors(path):
        try:
            file = path.open("x", encoding="utf-8", newline="")
        except FileExistsError:
            raise ConfigError(
                f"--output {path}: is there already; expected a new file. Name another one, or - for standard output,"
                " and add the new rows to it: prices of former days hold for these"
            ) from None
        with file:
            file.write(text)
