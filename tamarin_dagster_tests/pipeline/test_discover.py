"""The content of a log bucket by day, its unseen keys, and the small number of requests that this takes."""

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import pytest

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.logstore.roots import MAX_PAGES_WITHOUT_LOG_KEYS
from tamarin_dagster.logstore.s3 import S3LogStore
from tamarin_dagster.pipeline.discover import (
    MAX_STRAYS_NAMED,
    Look,
    Survey,
    describe_unsearched,
    list_days_with_keys,
    survey,
)
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.settings import LoggedBucket, Settings
from tamarin_dagster_tests.lines import lines

EVER = (date(2006, 3, 14), date(2030, 1, 1))
ROOT = "logs/123456789012/eu-west-1/media/"


def simple(day: str, number: int = 0, prefix: str = "logs/") -> str:
    return f"{prefix}{day}-10-00-00-{number:016X}"


def partitioned(day: str, number: int = 0, root: str = ROOT) -> str:
    return f"{root}{day.replace('-', '/')}/{day}-10-00-00-{number:016X}"


class Names:
    """A log bucket of names only, which counts the pages that it lists and their names."""

    name = "names"

    def __init__(self, names: Iterable[str], *, size: int = 1) -> None:
        self.objects = [
            LogObject(name, "etag", 0 if name.endswith("/") else size, datetime(2026, 1, 1, tzinfo=UTC))
            for name in sorted(set(names), key=str.encode)
        ]
        self._names = [item.key.encode() for item in self.objects]
        self.requests = 0
        self.listed = 0

    def pages(self, prefix: str, start_after: str = "", page_keys: int = 1000) -> Iterator[list[LogObject]]:
        first = max(bisect_left(self._names, prefix.encode()), bisect_right(self._names, start_after.encode()))
        found = self.objects[first : bisect_left(self._names, prefix.encode() + b"\xff")]
        for start in range(0, len(found) or 1, page_keys):
            page = found[start : start + page_keys]
            self.requests += 1
            self.listed += len(page)
            if page:
                yield page


BUCKET = LoggedBucket(name="media", log_bucket_name="names", log_prefix="logs/", start_date=date(2006, 3, 14))


def days_of(names: Iterable[str], first: date = EVER[0], last: date = EVER[1], bucket: LoggedBucket = BUCKET) -> list:
    store = Names(names)
    return [str(day) for day in list_days_with_keys(store, bucket, survey(store, bucket).roots, first, last)]


@pytest.fixture(params=["folder", "s3"])
def world(request):
    """A bucket of either kind and put(name, body)."""
    if request.param == "folder":
        bucket, folder = request.getfixturevalue("folder_bucket"), request.getfixturevalue("log_folder")

        def put(name: str, body: bytes = b"x") -> None:
            if name.endswith("/"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            else:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(body)
    else:
        bucket, client = request.getfixturevalue("s3_logged_bucket"), request.getfixturevalue("s3")

        def put(name: str, body: bytes = b"x") -> None:
            client.put_object(Bucket=bucket.log_bucket_name, Key=name, Body=b"" if name.endswith("/") else body)

    store = open_log_store(bucket) if request.param == "folder" else S3LogStore(client, bucket.log_bucket_name)
    return bucket, store, put


def test_both_layouts_of_both_kinds_of_log_bucket_are_found(world):
    bucket, store, put = world
    for name in [
        simple("2025-12-31"),
        simple("2026-03-05"),
        simple("2026-03-05", 1),
        partitioned("2026-03-05"),
        partitioned("2026-03-07"),
        partitioned("2026-01-02", root="logs/123456789012/us-east-1/media/"),
        partitioned("2025-06-30", root="logs/999999999999/us-east-1/media/"),
        partitioned("2026-05-05", root="logs/123456789012/eu-west-1/films/"),
        partitioned("2026-05-06", root="logs/123456789012/eu-west-1/media-old/"),
        partitioned("2026-05-07", root="logs/123456789012/us-west-2/films/"),
        simple("2026-05-08", prefix="other/"),
        simple("2026-05-09", prefix="logs"),
        "logs/backup/" + simple("2026-05-10", prefix=""),
        "logs/",
        "logs/README",
    ]:
        put(name)
    seen = survey(store, bucket)
    assert seen == Survey(
        roots=(
            "logs/123456789012/eu-west-1/media/",
            "logs/123456789012/us-east-1/media/",
            "logs/999999999999/us-east-1/media/",
        ),
        strays=("logs/README", "logs/backup/2026-05-10-10-00-00-0000000000000000"),
    )
    assert list(list_days_with_keys(store, bucket, seen.roots, *EVER)) == [
        date(2025, 6, 30),
        date(2025, 12, 31),
        date(2026, 1, 2),
        date(2026, 3, 5),
        date(2026, 3, 7),
    ]


@pytest.mark.parametrize("layout", [simple, partitioned])
def test_first_and_last_day_count_and_no_day_beyond(layout):
    names = [layout(day) for day in ("2025-12-31", "2026-01-01", "2026-01-02", "2026-01-31", "2026-02-01")]
    assert days_of(names, date(2026, 1, 1), date(2026, 1, 31)) == ["2026-01-01", "2026-01-02", "2026-01-31"]
    assert days_of(names, date(2026, 1, 2), date(2026, 1, 2)) == ["2026-01-02"]
    assert days_of(names, date(2026, 1, 3), date(2026, 1, 30)) == []
    assert days_of(names, date(2026, 2, 2), date(2026, 2, 1)) == []


def test_an_empty_bucket_has_no_days():
    assert survey(Names([]), BUCKET) == Survey((), ())
    assert days_of([]) == []


@pytest.mark.parametrize("prefix", ["", "logs", "2025-01-01-", "2026-03-", "a/2026-03-05-", "é/"])
def test_a_prefix_may_be_anything_even_a_date(prefix):
    bucket = BUCKET.model_copy(update={"log_prefix": prefix})
    root = f"{prefix}123456789012/eu-west-1/media/"
    names = [
        simple("2026-03-05", prefix=prefix),
        simple("2026-03-08", prefix=prefix),
        partitioned("2026-04-01", 0, root),
    ]
    assert days_of(names, bucket=bucket) == ["2026-03-05", "2026-03-08", "2026-04-01"]


def test_an_impossible_date_hides_no_other_day():
    names = [
        simple(day) for day in ("2026-02-28", "2026-02-29", "2026-02-30", "2026-03-01", "2026-13-01", "2027-01-01")
    ]
    assert days_of(names) == ["2026-02-28", "2026-03-01", "2027-01-01"]


@pytest.mark.parametrize(
    "odd",
    [pytest.param(name) for name in ("2026/02/30/junk", "2026/", "2026/-old/x", "2026/03/", "2026/03/!note")]
    + ["", "!note", "2026/99/x", "2026/zzz", "zzz/x", "2025/12/31/"],
)
def test_nothing_odd_in_a_partitioned_tree_hides_other_days(odd):
    """Sync tools create an empty object for each folder, and people leave notes: the year was missed."""
    names = [partitioned(day) for day in ("2026-01-05", "2026-03-05", "2026-12-01", "2027-01-01")]
    found = days_of([*names, ROOT + odd])
    assert [day for day in found if day != "2025-12-31"] == ["2026-01-05", "2026-03-05", "2026-12-01", "2027-01-01"]


def test_strays_are_told_and_folder_markers_are_not():
    names = ["logs/", "logs/!a", "logs/x/", "logs/x/y", "logs/20260305", "logs/12345678901/x", "elsewhere"]
    assert survey(Names(names), BUCKET).strays == ("logs/!a", "logs/12345678901/x", "logs/20260305", "logs/x/y")


def test_a_day_is_no_place_for_strays_of_the_survey():
    """The look at a day reports what lies under the prefix of the day or its year."""
    assert survey(Names([simple("2026-03-05"), "logs/2026-03-05-junk"]), BUCKET).strays == ()


def test_a_foreign_tree_is_not_walked_to_its_end():
    store = Names(f"logs/zzz/{number:06}" for number in range(5000))
    assert len(survey(store, BUCKET).strays) == MAX_STRAYS_NAMED == 50
    assert store.requests <= 52


def test_many_strays_do_not_hide_the_partitioned_tree():
    """Log keys of the partitioned layout were never loaded, without any message."""
    strays = [f"logs/000-backup/{number:06}" for number in range(MAX_STRAYS_NAMED)]
    assert survey(Names([*strays, partitioned("2026-03-05")]), BUCKET).roots == (ROOT,)


def test_a_stray_that_is_no_utf8_is_told_in_text(folder_bucket, log_folder):
    (log_folder / "logs").mkdir()
    (log_folder / "logs" / b"caf\xe9".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    assert survey(open_log_store(folder_bucket), folder_bucket).strays == (r"logs/caf\udce9",)


def year_of_keys(layout, per_day: int) -> list[str]:
    first = date(2025, 1, 1)
    days = [str(first + timedelta(days=number)) for number in range(365)]
    return [layout(day, number) for day in days for number in range(per_day)]


@pytest.mark.parametrize("layout", [simple, partitioned])
def test_a_year_of_keys_is_jumped_over(layout):
    store = Names([*year_of_keys(layout, 30), layout("2026-03-05"), "logs/~end"])
    seen = survey(store, BUCKET)
    assert seen.strays == ("logs/~end",)
    assert store.requests <= 8
    assert store.listed <= 8
    store.requests = 0
    assert list(list_days_with_keys(store, BUCKET, seen.roots, date(2026, 1, 1), date(2026, 3, 6))) == [
        date(2026, 3, 5)
    ]
    assert store.requests <= 5


def test_each_day_with_keys_costs_one_request():
    store = Names(year_of_keys(simple, 30))
    assert len(list(list_days_with_keys(store, BUCKET, (), *EVER))) == 365
    assert store.requests == 366
    assert store.listed == 365


def test_trees_of_other_buckets_cost_two_requests_a_region():
    names = [
        partitioned("2026-03-05", number, f"logs/{account:012}/{region}/{source}/")
        for account in range(3)
        for region in ("eu-west-1", "us-east-1")
        for source in ("films", "music", "zoo")
        for number in range(100)
    ]
    store = Names(names)
    assert survey(store, BUCKET) == Survey((), ())
    assert store.requests <= 3 * (2 * 2 + 2) + 1


def test_names_between_the_days_do_not_cost_a_request_each():
    store = Names([*(f"logs/2026{number:08}.csv" for number in range(300)), simple("2026-03-05")])
    assert list(list_days_with_keys(store, BUCKET, (), *EVER)) == [date(2026, 3, 5)]
    assert store.requests < 50


OTHERS = ["logs/zone/user/media/", "logs/vast-user1/bkt02/", "logs/", "logs/1001/a b/c/d/e/", "logs/123456789012/bkt/"]


def test_trees_below_any_folders_are_found(world):
    """Nothing was loaded from other stores than S3: their log keys were strays."""
    bucket, store, put = world
    for number, root in enumerate([*OTHERS, ROOT]):
        put(partitioned(f"2026-03-{number + 1:02}", root=root))
        put(partitioned(f"2025-03-{number + 1:02}", root=root))
    for name in ("logs/zone/user/notes", "logs/backup/2026-03-05-10-00-00-0000000000000000", simple("2026-03-20")):
        put(name)
    seen = survey(store, bucket)
    assert seen == Survey(
        roots=("logs/1001/a b/c/d/e/", "logs/123456789012/bkt/", ROOT, "logs/", OTHERS[1], OTHERS[0]),
        strays=("logs/backup/2026-03-05-10-00-00-0000000000000000", "logs/zone/user/notes"),
    )
    strays = list(seen.strays)
    days = [str(day) for day in list_days_with_keys(store, bucket, seen.roots, *EVER, strays)]
    assert days == [f"{year}-03-{day:02}" for year in (2025, 2026) for day in range(1, 7)] + ["2026-03-20"]
    assert strays == list(seen.strays)


def test_names_of_other_stores_are_looked_at_listed_and_seen_once(world, engine):
    bucket, store, put = world
    day = date(2025, 7, 8)
    bucket = bucket.model_copy(update={"log_prefix": "", "start_date": date(2016, 1, 1)})
    names = [
        "2016-05-04-13-21-15-780444E7C9B1400B.txt",
        "bkt01-log1/user01/bkt01/2025/07/08/2025-07-08-07-40-35-DB64FAC840EC564B",
        "vast-user1/bkt02/2025/07/08/2025-07-08-07-40-35-DB64FAC840EC564C",
    ]
    for name in names:
        put(name, lines(2))
    look = Look(store, engine, bucket, survey(store, bucket).roots, day)
    assert [key.object.key for page in look for key in page] == names[1:]
    pulled = pull_bucket(bucket, store, engine)
    assert [(str(each.period), each.keys, each.records, each.strays) for each in pulled.periods] == [
        ("2016-05-04", 1, 2, []),
        ("2025-07-08", 2, 4, []),
    ]
    assert (pulled.strays, pulled.failures) == ((), [])
    assert [(each.keys, each.seen) for each in pull_bucket(bucket, store, engine).periods] == [(0, 1), (0, 2)]


@pytest.mark.parametrize("root", OTHERS)
def test_a_tree_below_any_folders_costs_a_request_a_year_and_one_a_day(root):
    def layout(day: str, number: int = 0) -> str:
        return partitioned(day, number, root)

    store = Names([*year_of_keys(layout, 30), layout("2026-03-05"), "logs/~end"])
    seen = survey(store, BUCKET)
    assert seen == Survey((root,), ("logs/~end",))
    assert (store.requests, store.listed) == (4, 3)
    store.requests = store.listed = 0
    assert len(list(list_days_with_keys(store, BUCKET, seen.roots, *EVER))) == 366
    assert store.requests <= 371
    assert store.listed <= 371


def test_both_layouts_at_the_log_prefix_itself_do_not_read_each_other():
    """Their names are interleaved: 2025-…, 2025/…, 2026-…, and an account between two years."""
    account = "logs/202500000000/eu-west-1/films/"
    at_prefix = [
        partitioned(day, n, "logs/") for day in ("2024-01-01", "2025-06-01", "2026-01-01") for n in range(3000)
    ]
    plain = [simple(day, n) for day in ("2024-02-01", "2025-07-01", "2026-02-01") for n in range(3000)]
    foreign = [partitioned("2025-05-05", n, account) for n in range(3000)]
    numbered = [partitioned("2025-05-06", n, "logs/2025x/bkt/") for n in range(3000)]
    store = Names([*at_prefix, *plain, *foreign, *numbered])
    seen = survey(store, BUCKET)
    assert seen == Survey(("logs/", "logs/2025x/bkt/"), ())
    strays: list[str] = []
    days = [str(day) for day in list_days_with_keys(store, BUCKET, seen.roots, *EVER, strays)]
    assert days == ["2024-01-01", "2024-02-01", "2025-05-06", "2025-06-01", "2025-07-01", "2026-01-01", "2026-02-01"]
    assert strays == []
    assert store.listed < 60


def test_an_account_may_be_the_first_folder_of_another_stores_tree():
    roots = ["logs/123456789012/", "logs/123456789012/User/bkt/", "logs/123456789012/bkt/", "logs/123456789013/x/"]
    names = [partitioned("2026-03-05", root=root) for root in [*roots, ROOT, f"{ROOT}copy/"]]
    assert survey(Names(names), BUCKET) == Survey((*roots[:2], roots[2], ROOT, roots[3]), ())


@pytest.mark.parametrize("prefix", ["", "a/", "a", "2026/01/01/", "2026-03-"])
def test_a_prefix_may_be_anything_before_any_folders(prefix):
    bucket = BUCKET.model_copy(update={"log_prefix": prefix})
    names = [partitioned("2026-03-05", root=f"{prefix}zone/u/b/"), partitioned("2026-03-06", root=prefix)]
    assert days_of(names, bucket=bucket) == ["2026-03-05", "2026-03-06"]


def test_a_tree_with_the_folders_of_s3_is_that_buckets_after_a_longer_prefix_too():
    films, media = (f"logs/more/123456789012/eu-west-1/{name}/" for name in ("films", "media"))
    names = [partitioned("2026-03-05", number, root) for root in (films, media) for number in range(3)]
    assert survey(Names(names), BUCKET) == Survey((media,), (names[0],))


def test_notes_and_markers_in_a_tree_do_not_hide_it():
    root = "logs/zone/user/media/"
    odd = [f"{root}{name}" for name in ("", "!note", "2026/", "2026/01/", "2026/01/05/", "2026/01/05/!note", "zzz")]
    names = [partitioned(day, root=root) for day in ("2026-01-05", "2026-03-05", "2027-01-01")]
    store = Names([*names, *odd, "logs/zone/", "logs/zone/user/"])
    seen = survey(store, BUCKET)
    assert seen == Survey((root,), (f"{root}!note", f"{root}2026/01/05/!note", f"{root}zzz"))
    assert [str(day) for day in list_days_with_keys(store, BUCKET, seen.roots, *EVER)] == [
        "2026-01-05",
        "2026-03-05",
        "2027-01-01",
    ]


def test_dated_folders_of_other_logs_are_no_trees_and_cost_a_page_a_year():
    """A load balancer's log has dated folders too; each tick read it to its end."""
    names = [
        f"logs/AWSLogs/{account:012}/elasticloadbalancing/eu-west-1/{year}/03/{day:02}/{account:012}_{number:04}.log.gz"
        for account in (1, 2)
        for year in (2024, 2025)
        for day in range(1, 11)
        for number in range(1000)
    ]
    store = Names([*names, partitioned("2026-03-05", root="logs/zone/user/media/")])
    seen = survey(store, BUCKET)
    assert seen.roots == ("logs/zone/user/media/",)
    assert (len(seen.strays), seen.strays[0]) == (MAX_STRAYS_NAMED, names[0])
    assert seen.unsearched == tuple(sorted({name[: name.index("/03/") + 1] for name in names}))
    assert store.requests <= 12
    assert store.listed <= 4 * 1001 + 2


def test_a_deep_foreign_tree_is_given_up_and_what_lies_after_it_is_found():
    """Each tick made a request for each thousand of its objects."""
    foreign = [f"logs/photos/{folder:03}/{number:04}.jpg" for folder in range(100) for number in range(1000)]
    store = Names([*foreign, partitioned("2026-03-05", root="logs/z/user/media/"), partitioned("2026-03-05")])
    seen = survey(store, BUCKET)
    assert seen.roots == (ROOT, "logs/z/user/media/")
    assert seen.unsearched == ("logs/photos/",)
    assert MAX_PAGES_WITHOUT_LOG_KEYS == 50
    assert store.requests <= 50 + 8
    assert "1 folder was not searched to the end" in describe_unsearched(seen)
    assert "'logs/photos/'; if log keys lie in it, set log_prefix" in describe_unsearched(seen)
    assert describe_unsearched(Survey((), ())) == ""


def test_a_folder_that_is_given_up_is_named_in_the_log(caplog):
    survey(Names(f"logs/photos/{number:06}" for number in range(60_000)), BUCKET)
    (said,) = caplog.messages
    assert said.startswith("bucket media, log bucket names: 1 folder was not searched to the end")


def test_of_several_buckets_with_one_log_bucket_a_tree_is_that_ones_whose_name_or_prefix_it_has():
    """Otherwise the first one would load, and purge, what another one keeps."""
    names = [
        "logs/z/u/media/",
        "logs/z/u/films/",
        "logs/z/u/zoo/",
        "logs/music/x/",
        "logs/z/u/music/",
        "logs/music/media/",
    ]
    buckets = [("media", "logs/"), ("films", "logs/"), ("music", "logs/music/"), ("else", "logs/z/")]
    settings = Settings(
        buckets=[
            {"name": name, "log_bucket_name": "names" if name != "else" else "other", "log_prefix": prefix}
            for name, prefix in buckets
        ]
    )
    store = Names(partitioned("2026-03-05", root=root) for root in names)
    found = {name: survey(store, settings.bucket(name)) for name, _ in buckets[:3]}
    assert {name: seen.roots for name, seen in found.items()} == {
        "media": ("logs/music/media/", "logs/z/u/media/", "logs/z/u/music/", "logs/z/u/zoo/"),
        "films": ("logs/z/u/films/", "logs/z/u/music/", "logs/z/u/zoo/"),
        "music": ("logs/music/x/",),
    }
    assert {seen.strays for seen in found.values()} == {()}


def test_a_look_counts_keys_seen_ones_and_strays(world, engine):
    bucket, store, put = world
    day = date(2026, 3, 5)
    for number in range(4):
        put(simple("2026-03-05", number), lines(2))
    put(partitioned("2026-03-05", 9), lines(1))
    pull_bucket(bucket, store, engine, periods=[day])
    put(simple("2026-03-05", 4), lines(1))
    put(simple("2026-03-05", 1), lines(3))
    for stray in ("logs/2026-03-05-junk", "logs/2026-03-05-x/", simple("2026-03-05", 7) + ".bak"):
        put(stray)
    put(partitioned("2026-03-05") + ".tmp")
    put(partitioned("2026-03-05", root=ROOT).replace("2026-03-05", "2026-03-06"))
    look = Look(store, engine, bucket, survey(store, bucket).roots, day)
    unseen = [(key.object.key, key.delivery_date) for page in look for key in page]
    assert unseen == [(simple("2026-03-05", 1), day), (simple("2026-03-05", 4), day)]
    assert (look.listed, look.seen) == (6, 4)
    assert look.strays == [
        simple("2026-03-05", 7) + ".bak",
        "logs/2026-03-05-junk",
        partitioned("2026-03-05") + ".tmp",
        partitioned("2026-03-05").replace("2026-03-05", "2026-03-06"),
    ]


def test_a_look_at_an_empty_day_finds_nothing(world, engine):
    bucket, store, put = world
    put(simple("2026-03-04"), lines(1))
    put(simple("2026-03-06"), lines(1))
    look = Look(store, engine, bucket, (), date(2026, 3, 5))
    assert (list(look), look.listed, look.seen, look.strays) == ([], 0, 0, [])


def test_a_look_at_a_day_lists_that_day_only(engine):
    store = Names([*year_of_keys(simple, 30), *year_of_keys(partitioned, 30)])
    look = Look(store, engine, BUCKET, (ROOT,), date(2025, 6, 1))
    assert [len(page) for page in look] == [30, 30]
    assert (store.requests, store.listed, look.listed) == (2, 60, 60)


def test_a_look_hands_out_page_by_page(engine):
    store = Names(simple("2026-03-05", number) for number in range(2500))
    look = iter(Look(store, engine, BUCKET, (), date(2026, 3, 5)))
    assert len(next(look)) == 1000
    assert [len(page) for page in look] == [1000, 500]


def test_a_look_lists_few_pages_ahead_and_ends_when_it_is_given_up(engine):
    store = Names(simple("2026-03-05", number) for number in range(9500))
    with closing(iter(Look(store, engine, BUCKET, (), date(2026, 3, 5)))) as look:
        next(look)
        time.sleep(0.3)
    # One is in use, one waits, one is being queued.
    assert store.requests <= 3
    assert not [thread for thread in threading.enumerate() if thread.name == "pipeline"]


def test_a_key_of_another_log_bucket_is_not_seen_here(engine, folder_bucket, put_key, tmp_path):
    """The same name and generation in two log buckets are two log keys."""
    key = put_key(lines(1))
    pull_bucket(folder_bucket, open_log_store(folder_bucket), engine)
    store = open_log_store(folder_bucket)
    assert not any(Look(store, engine, folder_bucket, (), date(2026, 3, 5)))
    store.name = "another"
    look = Look(store, engine, folder_bucket, (), date(2026, 3, 5))
    assert [item.object.key for page in look for item in page] == [key]


def test_names_with_an_impossible_date_are_told_of_as_strays(world):
    """A survey jumps over whole years, and a look at a day never reads a day that does not exist."""
    bucket, store, put = world
    odd = [simple("2026-02-30"), simple("2026-03-32"), partitioned("2026-13-01"), f"{ROOT}2026-notes"]
    for name in [simple("2026-03-05"), partitioned("2026-03-05"), *odd, simple("2026-03-32", 1)]:
        put(name)
    strays: list[str] = []
    assert list(list_days_with_keys(store, bucket, survey(store, bucket).roots, *EVER, strays)) == [date(2026, 3, 5)]
    assert sorted(strays) == sorted(odd)


def test_a_name_cannot_pass_for_several_lines_of_a_log(folder_place):
    """Everybody who can write to the log bucket chooses names; strays are shown in logs and in the Dagster UI."""
    folder_place.put("logs/a\nERROR all is lost\x1b[31m", b"x")
    assert survey(folder_place.store, folder_place.bucket).strays == (r"logs/a\nERROR all is lost\x1b[31m",)
