"""Estimated cost of a month's requests and bytes, at the prices of a day."""

from datetime import date
from decimal import Decimal

import pytest
import sqlalchemy as sa
import yaml

from tamarin_dagster.analytics import prices as module
from tamarin_dagster.analytics.prices import PriceList, price, read_prices
from tamarin_dagster.recordstore.database import mirror_buckets
from tamarin_dagster.recordstore.schema.cost_views import COST_VIEWS
from tamarin_dagster.settings import LoggedBucket, SettingsError
from tamarin_dagster_tests.analytics.rollups import DAY, put_rollup, select_rows

GB = 2**30
ENTRIES = {
    "as_of": "2026-03-01",
    "default_region": "here",
    "regions": {
        "here": {"put_requests": 5, "get_requests": 1, "internet_gb": {0: 0.1, 100: 0.05}, "interregion_gb": 0.02},
        "there": {"put_requests": 50, "get_requests": 10, "internet_gb": {0: 1}, "interregion_gb": 0.2},
    },
}
PRICES = PriceList.model_validate(ENTRIES)
TRAFFIC = {
    # of six requests two are free, one is a PUT; of 50 GB 8 are free, 2 go to another region: 40 to the internet
    "a": {
        "requests": 6,
        "put_requests": 1,
        "unbilled_requests": 2,
        "bytes_sent": 50 * GB,
        "unbilled_bytes": 8 * GB,
        "interregion_bytes": 2 * GB,
    },
    "b": {"requests": 1, "bytes_sent": 160 * GB},
    None: {"requests": 1, "unbilled_requests": 1},
}
# 200 GB in March: 100 at 0.1, and 100 at 0.05, which is 0.075 on average
AVERAGE = Decimal("0.075")


@pytest.fixture
def traffic(engine):
    put_rollup(engine, "requester", TRAFFIC)
    put_rollup(engine, "requester", {"a": {"bytes_sent": GB}}, day=date(2026, 4, 1))


def estimates(engine, view="s3_cost_by_requester", columns="requester", where="request_date = '2026-03-05'"):
    return select_rows(
        engine,
        f"SELECT {columns}, estimated_requests_usd, estimated_transfer_usd, estimated_usd, price_region, price_date"
        f" FROM {view} WHERE {where} ORDER BY 1",
    )


def test_a_byte_costs_what_the_month_s_bytes_cost_on_average(engine, traffic) -> None:
    assert price(engine, PRICES).months == 2
    as_of = date(2026, 3, 1)
    a, b = 40 * AVERAGE + 2 * Decimal("0.02"), 160 * AVERAGE
    assert estimates(engine) == [
        ("a", Decimal("0.008"), a, a + Decimal("0.008"), "here", as_of),
        ("b", Decimal("0.001"), b, b + Decimal("0.001"), "here", as_of),
        (None, 0, 0, 0, "here", as_of),
    ]
    assert estimates(engine, "s3_cost_daily", "bucket", "true") == [
        ("media", Decimal("0.009"), a + b, a + b + Decimal("0.009"), "here", as_of),
        ("media", Decimal("0.001"), Decimal("0.1"), Decimal("0.101"), "here", as_of),
    ]
    assert price(engine, PRICES).months == 0


def test_days_that_come_later_change_the_average_of_their_month(engine, traffic) -> None:
    price(engine, PRICES)
    put_rollup(engine, "requester", {"a": {"bytes_sent": 200 * GB}}, day=date(2026, 3, 31))
    assert price(engine, PRICES).months == 1
    sums = dict(select_rows(engine, "SELECT month, round(internet_byte_usd * 1073741824, 9) FROM s3_monthly_price"))
    assert sums == {date(2026, 3, 1): Decimal("0.0625"), date(2026, 4, 1): Decimal("0.1")}


def test_tiers_are_those_of_a_region_s_buckets_together(engine, traffic) -> None:
    put_rollup(engine, "requester", {"a": {"bytes_sent": 200 * GB}}, bucket="films")
    put_rollup(engine, "requester", {"a": {"bytes_sent": 200 * GB}}, bucket="songs")
    buckets = [LoggedBucket(name=name, log_bucket_name="logs") for name in ("media", "films")]
    buckets.append(LoggedBucket(name="songs", log_bucket_name="logs", region="there"))
    mirror_buckets(engine, buckets)
    price(engine, PRICES)
    per_gb = select_rows(
        engine,
        "SELECT bucket, region, region_is_assumed, round(internet_byte_usd * 1073741824, 9), internet_bytes"
        " FROM s3_monthly_price WHERE month = '2026-03-01' ORDER BY bucket",
    )
    assert per_gb == [
        ("films", "here", True, Decimal("0.0625"), 400 * GB),
        ("media", "here", True, Decimal("0.0625"), 400 * GB),
        ("songs", "there", False, Decimal(1), 200 * GB),
    ]


def test_another_region_or_other_prices_are_seen_at_the_next_pricing(engine, traffic) -> None:
    price(engine, PRICES)
    mirror_buckets(engine, [LoggedBucket(name="media", log_bucket_name="logs", region="there")])
    with engine.connect() as connection:
        assert module.is_outdated(connection, PRICES)
    assert price(engine, PRICES).months == 2
    assert {row[-2] for row in estimates(engine)} == {"there"}
    newer = PRICES.model_copy(update={"as_of": date(2026, 5, 1)})
    assert price(engine, newer).months == 2
    assert {row[-1] for row in estimates(engine)} == {date(2026, 5, 1)}
    mirror_buckets(engine, [LoggedBucket(name="media", log_bucket_name="logs", region="mars-north-1")])
    price(engine, newer)
    assert {row[-2] for row in estimates(engine)} == {"here"}
    with engine.connect() as connection:
        assert not module.is_outdated(connection, newer)


def test_free_gigabytes_come_before_the_first_tier(engine, traffic) -> None:
    price(engine, PRICES.model_copy(update={"free_internet_gb": Decimal(100)}))
    (average,) = select_rows(
        engine, "SELECT internet_byte_usd * 1073741824 FROM s3_monthly_price WHERE month = '2026-03-01'"
    )
    assert round(average[0], 9) == Decimal("0.05")  # 100 GB free, 100 at 0.1


def test_each_dimension_has_its_view(engine) -> None:
    sent = {"requests": 1, "bytes_sent": 10 * GB}
    put_rollup(engine, "requester", {None: {"requests": 3, "bytes_sent": 30 * GB}})
    put_rollup(engine, "key", {"media/a.mp4": sent, "media/b/c.mp4": sent, "index.html": sent, None: {}})
    put_rollup(engine, "remote_ip", {"192.0.2.1": sent})
    put_rollup(engine, "referrer", {"https://example.org/": sent})
    put_rollup(engine, "user_agent", {"curl/8.5.0": sent})
    price(engine, PRICES)
    one, two = Decimal("1.001"), Decimal("2.002")

    def cost(view, columns):
        order = f"estimated_usd, {columns}"
        return select_rows(engine, f"SELECT {columns}, estimated_usd FROM s3_cost_by_{view} ORDER BY {order}")

    nothing = (None, Decimal("0.001"))
    assert cost("key", "key") == [nothing, ("index.html", one), ("media/a.mp4", one), ("media/b/c.mp4", one)]
    assert cost("prefix", "prefix") == [nothing, ("", one), ("media/", two)]
    assert cost("remote_ip", "host(remote_ip), country") == [("192.0.2.1", None, one)]
    assert cost("referrer", "referrer") == [("https://example.org/", one)]
    assert cost("user_agent", "user_agent, kind, name") == [("curl/8.5.0", "unknown", None, one)]


def test_what_is_not_yet_priced_has_no_estimate(engine, traffic) -> None:
    assert estimates(engine, "s3_cost_daily", "requests") == [(8, None, None, None, None, None)]


def test_the_views_read_no_other_days_than_they_are_asked_for(engine) -> None:
    """A rollup has millions of rows a year."""
    with engine.begin() as connection:
        for table in ("key", "requester", "remote_ip", "referrer", "user_agent"):
            value = "CAST('10.0.0.1' AS inet)" if table == "remote_ip" else "'x' || n"
            more = ", 0, 0, NULL" if table == "key" else ""
            connection.exec_driver_sql(
                f"INSERT INTO traffic_daily_by_{table} SELECT 'media', DATE '2026-01-01' + n / 50, {value},"
                f" 1, 1, 0, 0, 0, 0, 0{more} FROM generate_series(0, 4999) n"
            )
            connection.exec_driver_sql(f"ANALYZE traffic_daily_by_{table}")
        for view in COST_VIEWS:
            plan = connection.scalar(
                sa.text(
                    f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT sum(estimated_usd) FROM {view.name}"
                    " WHERE bucket = 'media' AND request_date = :day"
                ),
                {"day": DAY},
            )
            (scan,) = [node for node in _nodes(plan[0]["Plan"]) if node.get("Alias") == "t"]
            assert (scan["Actual Rows"], "Index" in scan["Node Type"] or "Bitmap" in scan["Node Type"]) == (50, True)


def _nodes(node):
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def test_the_shipped_prices_are_dated_and_say_whence() -> None:
    shipped = read_prices()
    assert shipped.as_of >= date(2026, 8, 31)
    assert all(source.startswith("https://") for source in shipped.source)
    assert (shipped.default_region, shipped.free_internet_gb) == ("us-east-1", 100)
    assert set(shipped.regions) >= {"us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-central-1"}
    for name, region in shipped.regions.items():
        falling = [region.internet_gb[gb] for gb in sorted(region.internet_gb)]
        assert sorted(region.internet_gb) == [0, 10240, 51200, 153600], name
        assert falling == sorted(falling, reverse=True), name
        assert region.get_requests * 10 < region.put_requests, name


def test_a_terabyte_from_us_east_1_costs_what_the_bill_says(engine) -> None:
    """1,024 GB less the free 100 at 0.09; a million GETs at 0.0004 a thousand."""
    put_rollup(engine, "requester", {None: {"requests": 1_000_000, "bytes_sent": 1024 * GB}})
    price(engine, read_prices())
    ((requests, transfer),) = select_rows(
        engine, "SELECT round(estimated_requests_usd, 2), round(estimated_transfer_usd, 2) FROM s3_cost_daily"
    )
    assert (requests, transfer) == (Decimal("0.40"), Decimal("83.16"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"as_of": "soon"}, "as_of: Input should be a valid date"),
        ({"default_region": "nowhere"}, "default_region must be one of the regions: here, there"),
        ({"regions": {"here": {"put_requests": -1}}}, "regions.here.put_requests: Input should be greater than"),
        ({"discount": 3}, "discount: Extra inputs are not permitted"),
    ],
)
def test_wrong_prices_are_reported_with_their_place(tmp_path, change, problem) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(yaml.safe_dump(ENTRIES | change))
    with pytest.raises(SettingsError) as raised:
        read_prices(path)
    assert str(raised.value).startswith(f"prices: {path}: {problem}")


def test_tiers_begin_with_the_first_byte(tmp_path) -> None:
    here = ENTRIES["regions"]["here"] | {"internet_gb": {1: 0.1}}
    path = tmp_path / "prices.yaml"
    path.write_text(yaml.safe_dump(ENTRIES | {"regions": {"here": here}}))
    with pytest.raises(SettingsError, match=r"regions\.here: internet_gb must begin with 0"):
        read_prices(path)


def test_a_missing_file_and_no_yaml_are_clear_errors(tmp_path) -> None:
    path = tmp_path / "prices.yaml"
    with pytest.raises(SettingsError, match=r"No such file or directory; it must name a file like prices\.yaml"):
        read_prices(path)
    path.write_text("as_of: [")
    with pytest.raises(SettingsError, match="this is not valid YAML"):
        read_prices(path)
