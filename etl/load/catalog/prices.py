"""The operator's price table: what an hour of an instance and a month of storage cost, where and since when.

It is one CSV file. Whoever reads it gets prices of which, for each item, Region and day, exactly one holds, and all
that hold in one Region on one day have one currency. What contradicts that is refused with the line that does.
"""

import csv
import datetime as dt
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from decimal import Decimal
from typing import TYPE_CHECKING, get_args

import pyarrow as pa

from etl.errors import ConfigError, did_you_mean
from etl.load.catalog.relations import described
from etl.model import Price, PriceItem

if TYPE_CHECKING:
    from pathlib import Path

PRICES = pa.schema(
    [
        described("item", pa.string(), f"what has the price: {', '.join(get_args(PriceItem))}"),
        described("ec2_instance_type", pa.string(), "EC2 instance type of an instance_hour; null for other items"),
        described("region", pa.string(), "AWS Region; null: every Region that has no price of its own"),
        described("valid_from", pa.date32(), "first UTC day of the price; null: always"),
        described("price", pa.decimal128(16, 10), "the price; no rows: no price table is named"),
        described("currency", pa.string(), "of the price, as the table says it"),
    ]
)
_FORMER = ("ec2_instance_type", "price_per_hour", "currency")
"""The columns of a table that only has instance hours of every Region, at all times."""
_PRICE = re.compile(r"[0-9]{1,6}([.][0-9]{1,10})?")
_REGION = re.compile(r"[a-z]+(-[a-z]+)+-[0-9]+")

_Numbered = tuple[int, Price]
"""A price, and the line of the file that it stands on."""


def read_prices(path: "Path") -> pa.Table:
    """Return the rows of a price table, in the schema `PRICES`: at least one.

    Raises:
        ConfigError: the file is missing or is no price table; the message names the line.
    """
    place = f"marts.prices: {path}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{place}: there is no such file") from None
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{place}: byte {exc.start} is not UTF-8; expected CSV in UTF-8") from None
    except OSError as exc:
        raise ConfigError(f"{place}: {exc.strerror}; expected a CSV file that can be read") from exc
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        numbered = ((rows.line_num, [cell.strip() for cell in cells]) for cells in rows)
        found = list(_prices(numbered, place))
    except csv.Error as exc:
        raise ConfigError(f"{place}, line {rows.line_num}: {exc}; expected CSV") from exc
    _check_currencies(found, place)
    return pa.Table.from_pylist(
        [dict(zip(PRICES.names, astuple(price), strict=True)) for _, price in found], schema=PRICES
    )


def write_prices(prices: Iterable[Price]) -> str:
    """Return a price table as `read_prices` reads it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PRICES.names)
    for price in prices:
        writer.writerow(
            "" if value is None else f"{value:f}" if value is price.price else value for value in astuple(price)
        )
    return text.getvalue()


def _prices(rows: Iterator[tuple[int, list[str]]], place: str) -> Iterator[_Numbered]:
    """Yield the prices of a file with their lines."""
    _, columns = next(rows, (0, []))
    expected = _FORMER if "price_per_hour" in columns and "item" not in columns else PRICES.names
    header = f"expected CSV with a header and the columns {', '.join(expected)}"
    if not columns:
        raise ConfigError(f"{place}: found no header; {header}")
    for name in expected:
        if columns.count(name) != 1:
            found = f"the column {name} twice" if name in columns else f"no column {name}"
            raise ConfigError(f"{place}, line 1: found {found}; {header}")
    lines: dict[Sequence[object], int] = {}
    for line, cells in rows:
        if not any(cells):
            continue
        if len(cells) != len(columns):
            raise ConfigError(f"{place}, line {line}: found {len(cells)} values; expected {len(columns)}, as in line 1")
        values = dict(zip(columns, cells, strict=True))
        price = _price(values, expected, f"{place}, line {line}: ")
        key = astuple(price)[:4]
        if key in lines:
            raise ConfigError(
                f"{place}, line {line}: {_name(price)} is there twice, in line {lines[key]} too; keep one price"
            )
        lines[key] = line
        yield line, price
    if not lines:
        raise ConfigError(f"{place}: found no price below the header; expected at least one")


def _price(values: Mapping[str, str], columns: Sequence[str], place: str) -> Price:
    """Return the price of one row. `place` begins every message."""
    if columns is _FORMER:
        values = {"item": "instance_hour", "price": values["price_per_hour"], **values}
    named = "price" if columns is not _FORMER else "price_per_hour"
    items = {name: name for name in get_args(PriceItem)}
    item: PriceItem | None = items.get(values["item"])
    if item is None:
        meant = did_you_mean(values["item"], items)
        raise ConfigError(f"{place}item: found {values['item']!r}{meant}; expected one of {', '.join(items)}")
    kind = values["ec2_instance_type"]
    if (item == "instance_hour") != bool(kind):
        wanted = "an instance type such as g5.xlarge" if not kind else f"nothing, because {item} has none"
        raise ConfigError(f"{place}ec2_instance_type: found {kind!r}; expected {wanted}")
    region = values.get("region", "")
    if region and not _REGION.fullmatch(region):
        raise ConfigError(
            f"{place}region: found {region!r}; expected a Region such as us-west-2, or nothing: every one"
        )
    price = values["price"]
    if not _PRICE.fullmatch(price):
        raise ConfigError(
            f"{place}{named}: found {price!r}; expected a number from 0 to 999999, with a point and at most 10 digits"
            " after it"
        )
    if not values["currency"]:
        raise ConfigError(f"{place}currency: found ''; expected a currency such as USD")
    since = _date(values.get("valid_from", ""), place)
    return Price(item, kind or None, region or None, since, Decimal(price), values["currency"])


def _date(text: str, place: str) -> dt.date | None:
    if not text:
        return None
    try:
        date = dt.date.fromisoformat(text)
    except ValueError:
        date = None
    if date is None or str(date) != text:  # Python reads 20261101 and 2026-W45-1 too
        raise ConfigError(f"{place}valid_from: found {text!r}; expected a date such as 2026-11-01, or nothing: always")
    return date


def _name(price: Price) -> str:
    since = f" from {price.valid_from}" if price.valid_from else ""
    return f"{price.ec2_instance_type or price.item}{f' in {price.region}' if price.region else ''}{since}"


def _check_currencies(found: Sequence[_Numbered], place: str) -> None:
    """Refuse two currencies that hold in one Region on one day: the costs of a day are summed up."""
    for region in sorted({price.region for _, price in found}, key=str):
        own = [(line, price) for line, price in found if price.region in (None, region)]
        if len({price.currency for _, price in own}) == 1:
            continue
        own.sort(key=lambda numbered: (numbered[1].region is not None, numbered[1].valid_from or dt.date.min))
        for day in sorted({price.valid_from or dt.date.min for _, price in own}):
            # Of the prices of one item, the last one in this order holds.
            holding = {
                (price.item, price.ec2_instance_type): (line, price)
                for line, price in own
                if (price.valid_from or dt.date.min) <= day
            }
            by_currency = {price.currency: line for line, price in holding.values()}
            if len(by_currency) > 1:
                (one, first), (other, second), *_ = sorted(by_currency.items(), key=lambda item: item[1])
                where = region or "every Region"
                since = f" from {day} on" if day > dt.date.min else ""
                raise ConfigError(
                    f"{place}, line {second}: found {other}, and {one} in line {first}, for {where}{since}; expected"
                    " one currency for one Region and day, because the costs of a day are summed up"
                )
