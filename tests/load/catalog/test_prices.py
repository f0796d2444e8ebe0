"""The price table: what it may say, and that it says it exactly. Its mistakes are in tests/cli/mistakes.toml."""

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.errors import ConfigError
from etl.load.catalog.prices import PRICES, read_prices, write_prices
from etl.model import Price

HEADER = "item,ec2_instance_type,region,valid_from,price,currency\n"


@pytest.fixture
def read(tmp_path):
    """A function that reads a table with these rows, and returns them."""

    def read(text, header=HEADER):
        path = tmp_path / "prices.csv"
        path.write_bytes((header + text).encode())
        table = read_prices(path)
        assert table.schema.equals(PRICES)
        return [Price(**row) for row in table.to_pylist()]

    return read


def test_a_price_is_exact(read):
    (price,) = read("volume_gib_month,,us-west-2,2026-11-01,999999.0000000001,USD\n")
    assert price == Price(
        "volume_gib_month", None, "us-west-2", dt.date(2026, 11, 1), Decimal("999999.0000000001"), "USD"
    )


def test_a_table_of_hours_alone_is_of_every_region_at_all_times(read):
    found = read(
        "EUR,g5.xlarge,mine,1.25\r\n\r\nEUR,g3.xlarge,,0\r\n", "currency,ec2_instance_type,note,price_per_hour\n"
    )
    assert found == [
        Price("instance_hour", "g5.xlarge", None, None, Decimal("1.25"), "EUR"),
        Price("instance_hour", "g3.xlarge", None, None, Decimal(0), "EUR"),
    ]


def test_what_a_spreadsheet_writes_is_read(read):
    """With a byte order mark, spaces and quotes."""
    (price,) = read('"instance_hour", g5.xlarge ,,,"1.5",USD', f"\ufeff{HEADER}")
    assert price == Price("instance_hour", "g5.xlarge", None, None, Decimal("1.5"), "USD")


@pytest.mark.parametrize(
    "rows",
    [
        # each Region has its own
        "instance_hour,x,us-west-2,,1,USD\ninstance_hour,x,eu-central-1,,1,EUR\n",
        # every price of every Region has one of this Region beside it
        "instance_hour,x,,,1,USD\ninstance_hour,x,,2026-01-01,2,USD\ninstance_hour,x,eu-central-1,,1,EUR\n",
        # a Region changes its currency on one day
        (
            "instance_hour,x,,,1,HRK\nvolume_gib_month,,,,1,HRK\n"
            "instance_hour,x,,2023-01-01,1,EUR\nvolume_gib_month,,,2023-01-01,1,EUR\n"
        ),
    ],
)
def test_currencies_may_differ_by_region_and_by_day(read, rows):
    assert len({price.currency for price in read(rows)}) == 2


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (
            "instance_hour,x,,,1,USD\ninstance_hour,y,,,1,EUR\n",
            "line 3: found EUR, and USD in line 2, for every Region; expected one currency",
        ),
        (
            "instance_hour,x,eu-central-1,2026-01-01,1,EUR\ninstance_hour,x,,,1,USD\ninstance_hour,y,,,1,USD\n",
            "line 4: found USD, and EUR in line 2, for eu-central-1 from 2026-01-01 on; expected one currency",
        ),
        (
            "instance_hour,x,,,1,USD\nvolume_gib_month,,,,1,USD\ninstance_hour,x,,2026-01-01,1,EUR\n",
            "line 4: found EUR, and USD in line 3, for every Region from 2026-01-01 on; expected one currency",
        ),
    ],
)
def test_two_currencies_for_one_region_and_day_are_refused(read, rows, problem):
    with pytest.raises(ConfigError, match=problem):
        read(rows)


prices = st.decimals(0, 999_999, places=10) | st.integers(0, 999_999).map(Decimal)
rows = st.lists(
    st.builds(
        Price,
        st.just("instance_hour"),
        st.from_regex(r"[a-z][0-9]\.[a-z]{1,9}", fullmatch=True),
        st.none() | st.sampled_from(["us-west-2", "eu-central-1"]),
        st.none() | st.dates(dt.date(1000, 1, 1)),
        prices,
        st.just("USD"),
    ),
    min_size=1,
    unique_by=lambda price: (price.ec2_instance_type, price.region, price.valid_from),
)


@given(rows)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_again(read, rows):
    assert read(write_prices(rows), "") == rows
