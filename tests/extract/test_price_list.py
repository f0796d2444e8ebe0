"""Prices out of a price list of AWS: which of its products count, in which unit, and in how much memory."""

import datetime as dt
import json
import tracemalloc
from decimal import Decimal

import pytest
from support.job import Job, job_at

from etl.errors import ConfigError, SourceError
from etl.extract.price_list import read_price_list
from etl.load.catalog.prices import read_prices
from etl.model import Price

SINCE = "2024-10-01T00:00:00Z"
USUAL = {
    "servicecode": "AmazonEC2", "locationType": "AWS Region", "regionCode": "us-west-2", "tenancy": "Shared",
    "operatingSystem": "Linux", "preInstalledSw": "NA", "capacitystatus": "Used", "marketoption": "OnDemand",
    "licenseModel": "No License required",
}  # fmt: skip


def instance(kind="g5.xlarge", unit="Hrs", price="1.0060000000", **attributes):
    """Return a product of an instance type, and its price."""
    return {**USUAL, "instanceType": kind, "usagetype": f"USW2-BoxUsage:{kind}", **attributes}, unit, price


def volume(usage, unit, price, region="us-west-2"):
    attributes = {"locationType": "AWS Region", "regionCode": region, "volumeApiName": "gp3"}
    return {**attributes, "usagetype": f"USW2-EBS:{usage}"}, unit, price


VOLUMES = (
    volume("VolumeUsage.gp3", "GB-Mo", "0.0800000000"),
    volume("VolumeP-IOPS.gp3", "IOPS-Mo", "0.0050000000"),
    volume("VolumeP-Throughput.gp3", "GiBps-mo", "40.9600000000"),
)


def price_list(*products, **more):
    """Return a price list as AWS writes it: products by SKU, then terms by kind, SKU and code."""
    skus = {f"SKU{number}": product for number, product in enumerate(products)}
    on_demand = {
        sku: {
            f"{sku}.JRTCKXETXF": {
                "offerTermCode": "JRTCKXETXF",
                "sku": sku,
                "effectiveDate": SINCE,
                "priceDimensions": {
                    f"{sku}.JRTCKXETXF.6YS6EN2CT7": {
                        "rateCode": f"{sku}.JRTCKXETXF.6YS6EN2CT7",
                        "beginRange": "0",
                        "endRange": "Inf",
                        "unit": unit,
                        "pricePerUnit": price if isinstance(price, dict) else {"USD": price},
                    }
                },
                "termAttributes": {},
            }
        }
        for sku, (_, unit, price) in skus.items()
    }
    return {
        "formatVersion": "v1.0",
        "offerCode": "AmazonEC2",
        "products": {
            sku: {"sku": sku, "productFamily": "any", "attributes": attributes}
            for sku, (attributes, *_) in skus.items()
        },
        "terms": {"OnDemand": on_demand, "Reserved": {sku: {"x": {"priceDimensions": {}}} for sku in skus}},
        "attributesList": {},
        **more,
    }


@pytest.fixture
def read(tmp_path):
    """A function that reads a price list that has some products."""

    def read(*products, region=None, system="Linux", **more):
        path = tmp_path / "list.json"
        path.write_text(json.dumps(price_list(*products, **more)))
        return read_price_list(path, region, system)

    return read


def test_hours_and_gp3_volumes_become_prices_in_the_units_of_the_table(read):
    """AWS sells throughput by the GiB/s, and 40.96 USD for it are 0.04 for a MiB/s."""
    found = read(instance(), *VOLUMES)

    since = dt.date(2024, 10, 1)
    assert found.left_out == []
    assert found.prices == [
        Price("instance_hour", "g5.xlarge", "us-west-2", since, Decimal("1.006"), "USD"),
        Price("volume_gib_month", None, "us-west-2", since, Decimal("0.08"), "USD"),
        Price("volume_iops_month", None, "us-west-2", since, Decimal("0.005"), "USD"),
        Price("volume_throughput_month", None, "us-west-2", since, Decimal("0.04"), "USD"),
    ]


@pytest.mark.parametrize(
    "attributes",
    [
        {"tenancy": "Dedicated"},
        {"operatingSystem": "Windows"},
        {"preInstalledSw": "SQL Std"},
        {"capacitystatus": "AllocatedCapacityReservation"},
        {"licenseModel": "Bring your own license"},
        {"locationType": "AWS Local Zone", "regionCode": "us-west-2-lax-1"},
        {"regionCode": None},
    ],
)
def test_only_instances_that_are_simply_started_count(read, attributes):
    assert [price.price for price in read(instance(price="9.9", **attributes), instance()).prices] == [Decimal("1.006")]


def test_a_product_without_the_attributes_of_ec2_counts(read):
    """Other services have fewer of them."""
    attributes = {"regionCode": "us-west-2", "instanceType": "g5.xlarge", "usagetype": "USW2-Streaming:g5.xlarge"}
    assert [price.ec2_instance_type for price in read((attributes, "Hours", "1.5")).prices] == ["g5.xlarge"]


def test_region_and_operating_system_choose(read):
    given = (instance(), instance(regionCode="eu-central-1"), instance(operatingSystem="Windows", price="1.2"))
    assert [price.region for price in read(*given).prices] == ["eu-central-1", "us-west-2"]
    assert [price.region for price in read(*given, region="eu-central-1").prices] == ["eu-central-1"]
    assert [price.price for price in read(*given, system="Windows").prices] == [Decimal("1.2")]


def test_what_has_two_prices_or_another_unit_is_left_out_and_told(read):
    found = read(instance(), instance(price="1.1"), instance("g5.2xlarge"), instance("g3.xlarge", unit="Quantity"))

    assert [price.ec2_instance_type for price in found.prices] == ["g5.2xlarge"]
    assert found.left_out == [
        "g3.xlarge in us-west-2: found a price per Quantity; expected hrs or hours or hour",
        "g5.xlarge in us-west-2: found 1.006 USD, 1.1 USD; expected one price",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the file ends here, where a price list belongs"),
        ("[]", "found '[' where a price list belongs"),
        ('{"products": {}', "the file ends here"),
        ('{"products": {}}', "found no terms"),
        ('{"terms": {}, "products": {}}', "found terms before products"),
        ('{"products": [1], "terms": {}}', "found '['"),
        ('{"products": {"a": 1}, "terms": {}}', "found '1' where an object belongs"),
        (
            json.dumps(price_list(instance())).replace('"effectiveDate"', '"date"'),
            "found no member 'effectiveDate' in the term of g5.xlarge in us-west-2",
        ),
        (
            json.dumps(price_list(instance(price="much"))),
            "found a value of another kind in the term of g5.xlarge in us-west-2",
        ),
    ],
)
def test_a_file_that_is_no_price_list_is_refused(tmp_path, text, problem):
    path = tmp_path / "list.json"
    path.write_text(text)

    with pytest.raises(SourceError) as refused:
        read_price_list(path, None, "Linux")

    assert problem in str(refused.value)
    assert "expected the JSON price list of an AWS service" in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_price_list(tmp_path / "none.json", None, "Linux")


def test_memory_does_not_grow_with_the_file(tmp_path):
    """Most of a list are products and terms that no studio pays for: here 40 MB of them."""
    others = [instance(f"m{number}.large", tenancy="Host", note="x" * 400) for number in range(40_000)]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(price_list(instance(), *others)))
    del others
    size = path.stat().st_size
    tracemalloc.start()

    found = read_price_list(path, None, "Linux")

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 40e6
    assert len(found.prices) == 1
    assert peak < size / 4


# The command


@pytest.fixture
def saved(tmp_path):
    """A directory with a price list."""
    (tmp_path / "list.json").write_text(json.dumps(price_list(instance(), instance("g3.xlarge", unit="x"), *VOLUMES)))
    return tmp_path


@pytest.fixture
def job(saved, studio, monkeypatch):
    """A job that is run in that directory."""
    return job_at(saved, studio, marts=True).lend_credentials(monkeypatch)


def test_the_command_writes_a_table_that_marts_take(job: Job, saved):
    table = saved / "prices.csv"

    ended = job.cli("prices", str(saved / "list.json"), "--region", "us-west-2", "--output", str(table))

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{table}: 4 prices, 1 Region\n"
    assert "left out: g3.xlarge in us-west-2: found a price per x" in ended.stderr
    assert table.read_text() == (
        "item,ec2_instance_type,region,valid_from,price,currency\n"
        "instance_hour,g5.xlarge,us-west-2,2024-10-01,1.006,USD\n"
        "volume_gib_month,,us-west-2,2024-10-01,0.08,USD\n"
        "volume_iops_month,,us-west-2,2024-10-01,0.005,USD\n"
        "volume_throughput_month,,us-west-2,2024-10-01,0.04,USD\n"
    )
    assert read_prices(table).num_rows == 4
    job.config.write_text(job.config.read_text().replace("marts: {build: true}", "marts: {prices: prices.csv}"))
    job.run()
    assert job.ask(
        "select sum(storage_cost) > 0, sum(unpriced_volume_days), sum(instance_cost) > 0 from daily_costs"
    ) == [(True, 0, True)]


def test_a_table_that_is_there_is_kept(job: Job, saved):
    table = saved / "prices.csv"
    table.write_text("mine")

    ended = job.cli("prices", str(saved / "list.json"), "--output", str(table))

    assert ended.returncode == 2
    assert f"--output {table}: is there already; expected a new file" in ended.stderr
    assert table.read_text() == "mine"
    printed = job.cli("prices", str(saved / "list.json"), "--output", "-")
    assert printed.stdout.startswith(
        "item,ec2_instance_type,region,valid_from,price,currency\ninstance_hour,g5.xlarge,"
    )


def test_a_list_without_such_prices_is_refused(job: Job, saved):
    ended = job.cli("prices", str(saved / "list.json"), "--region", "eu-west-1")

    assert ended.returncode == 1
    assert "found no price of an instance hour (Linux) or a gp3 volume in eu-west-1; expected" in ended.stderr
