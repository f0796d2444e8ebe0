"""Prices out of a saved price list of AWS: the JSON file of a service, as the Price List Bulk API has it.

A file has `products` by SKU, then `terms` by kind and SKU. It is read value by value: memory holds what may be a wanted
product, and never the file. That of EC2 has hundreds of MB and more.

Source: docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/reading-service-price-list-file-for-services.html
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from etl.errors import ConfigError, SourceError
from etl.extract.json_window import JsonWindow
from etl.model import Price, PriceItem

_EXPECTED = "expected the JSON price list of an AWS service, with products and then terms"
_VOLUMES: Mapping[str, PriceItem] = {
    "EBS:VolumeUsage.gp3": "volume_gib_month",
    "EBS:VolumeP-IOPS.gp3": "volume_iops_month",
    "EBS:VolumeP-Throughput.gp3": "volume_throughput_month",
}
"""How the usage types of gp3 volumes end. Before that, they name the Region: USW2-EBS:VolumeUsage.gp3."""
_UNITS: Mapping[PriceItem, Mapping[str, int]] = {
    "instance_hour": {"hrs": 1, "hours": 1, "hour": 1},
    "volume_gib_month": {"gb-mo": 1, "gb-month": 1},
    "volume_iops_month": {"iops-mo": 1, "iops-month": 1},
    "volume_throughput_month": {"gibps-mo": 1024, "mibps-mo": 1, "mbps-mo": 1},
}
"""Item -> units in small letters, and how many of ours each has: throughput is sold by the GiB/s."""
_USUAL: Mapping[str, str] = {
    "locationType": "AWS Region",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
    "licenseModel": "No License required",
}
"""Attributes of an instance that is simply started. One that a product lacks does not count against it."""
_DIGITS = Decimal(10) ** -10

_Key = tuple[PriceItem, str | None, str]
"""Item, instance type, Region."""


@dataclass(frozen=True, slots=True)
class PriceList:
    """What a price list has: `prices`, and a sentence for each price that is `left_out`."""

    prices: list[Price] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def read_price_list(path: Path, region: str | None, operating_system: str) -> PriceList:
    """Return the prices of instance hours and gp3 volumes, on demand, in one Region or in all.

    Raises:
        ConfigError: the file is missing, or cannot be opened.
        SourceError: the file is no price list, or was cut off.
    """
    try:
        file = path.open("rb")
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}; {_EXPECTED}") from exc
    wanted: dict[str, _Key] = {}
    found: dict[tuple[_Key, dt.date | None], set[Price]] = {}
    read, left_out = set[str](), list[str]()
    with file:
        window = JsonWindow(str(path), file, _EXPECTED)
        window.demand("{", "a price list")
        for name in _members(window):
            read.add(name)
            if name == "products":
                for sku in _members(window):
                    key = _key(_object(window), operating_system)
                    if key and region in {None, key[2]}:
                        wanted[sku] = key
            elif name == "terms":
                if "products" not in read:
                    raise window.error("found terms before products")
                for sku, term in _on_demand(window, wanted):
                    for price in _prices(window, wanted[sku], term, left_out):
                        found.setdefault((wanted[sku], price.valid_from), set()).add(price)
            else:
                window.value()
    if lacking := {"products", "terms"} - read:
        raise SourceError(f"{path}: found no {' and no '.join(sorted(lacking))}; {_EXPECTED}")
    prices: list[Price] = []
    for key, since in sorted(found, key=str):
        several = found[key, since]
        if len(several) == 1:
            prices += several
        else:
            listed = ", ".join(sorted(f"{price.price:f} {price.currency}" for price in several))
            left_out.append(f"{_place(key)}: found {listed}; expected one price")
    return PriceList(prices, left_out)


def _members(window: JsonWindow) -> Iterator[str]:
    """Step into an object, and yield the name of each member; the caller reads its value."""
    for _ in window.entries("{", "}"):
        window.demand('"', "the name of a member")
        name, _ = window.value()
        window.take(":")
        yield name


def _object(window: JsonWindow) -> dict[str, Any]:
    window.demand("{", "an object")
    value: dict[str, Any] = window.value()[0]
    return value


def _key(product: Mapping[str, Any], operating_system: str) -> _Key | None:
    """Return what a product is to a studio; None: nothing."""
    attributes = product.get("attributes")
    if not isinstance(attributes, dict) or not isinstance(region := attributes.get("regionCode"), str):
        return None
    if attributes.get("locationType", _USUAL["locationType"]) != _USUAL["locationType"]:
        return None  # Local Zones and Outposts have prices of their own
    usage = str(attributes.get("usagetype", ""))
    for ending, item in _VOLUMES.items():
        if usage.endswith(ending):
            return item, None, region
    usual = {**_USUAL, "operatingSystem": operating_system}
    if isinstance(kind := attributes.get("instanceType"), str) and all(
        attributes.get(name, value) == value for name, value in usual.items()
    ):
        return "instance_hour", kind, region
    return None


def _on_demand(window: JsonWindow, wanted: Mapping[str, _Key]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the terms on demand of wanted products. Terms of other kinds are read and dropped one by one."""
    for kind in _members(window):
        for sku in _members(window):
            terms = _object(window)
            if kind == "OnDemand" and sku in wanted:
                yield from ((sku, term) for term in terms.values())


def _prices(window: JsonWindow, key: _Key, term: dict[str, Any], left_out: list[str]) -> Iterator[Price]:
    """Yield the prices of a term. What has another unit is left out."""
    item, kind, region = key
    try:
        since = dt.date.fromisoformat(term["effectiveDate"][:10])
        for dimension in term["priceDimensions"].values():
            unit = dimension["unit"]
            if (many := _UNITS[item].get(unit.lower())) is None:
                left_out.append(f"{_place(key)}: found a price per {unit}; expected {' or '.join(_UNITS[item])}")
                continue
            for currency, price in dimension["pricePerUnit"].items():
                exact = (Decimal(price) / many).quantize(_DIGITS).normalize()
                yield Price(item, kind, region, since, exact, currency)
    except (KeyError, TypeError, AttributeError, ValueError, InvalidOperation) as exc:
        why = f"no member {exc}" if isinstance(exc, KeyError) else "a value of another kind"
        raise window.error(f"found {why} in the term of {_place(key)}") from exc


def _place(key: _Key) -> str:
    item, kind, region = key
    return f"{kind or item} in {region}"
