"""The operator's price table: the price per hour of each instance type."""

from pathlib import Path

import pyarrow as pa

from etl.errors import ConfigError, first_line
from etl.load.catalog.relations import described

PRICES = pa.schema(
    [
        described("ec2_instance_type", pa.string(), "EC2 instance type"),
        described("price_per_hour", pa.float64(), "what an hour costs; no rows: no price table is named"),
        described("currency", pa.string(), "of the price, as the table says it"),
    ]
)


def read_prices(path: Path) -> pa.Table:
    """Read a CSV file with the columns of `PRICES`.

    Raises:
        ConfigError: the file is missing, lacks a column or a value, or names an instance type twice.
    """
    from pyarrow import csv  # noqa: PLC0415  most have no prices

    expected = f"expected CSV with a header and the columns {', '.join(PRICES.names)}"
    try:
        options = csv.ConvertOptions(column_types=PRICES, include_columns=PRICES.names, strings_can_be_null=True)
        table = csv.read_csv(path, convert_options=options)
    except FileNotFoundError:
        raise ConfigError(f"marts.prices: {path}: there is no such file") from None
    except (OSError, KeyError, pa.ArrowException) as exc:
        raise ConfigError(f"marts.prices: {path}: {first_line(exc)}; {expected}") from exc
    if any(column.null_count for column in table.itercolumns()):
        raise ConfigError(f"marts.prices: {path}: a row lacks a value; {expected}")
    types = table.column("ec2_instance_type").to_pylist()
    twice = sorted({name for name in types if types.count(name) > 1})
    if twice:
        raise ConfigError(f"marts.prices: {path}: {', '.join(twice)} is there twice; keep one price for each type")
    return table.cast(PRICES)
