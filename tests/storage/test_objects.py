"""What only happens to an object store: lost answers, conditions that nobody keeps, holders that stand still."""

import datetime as dt
import resource
import signal
import socket
import stat
import tempfile
import threading
from dataclasses import replace
from urllib.parse import urlsplit

import duckdb
import pytest
from support.buckets import BUCKET, KEY, moto, prefix_of, running
from support.warehouse import publish

from etl.errors import DeniedError, LockedError, StorageError
from etl.load.delta.tables import Tables
from etl.storage import lease, mirror, objects
from etl.storage.objects import ObjectStore
from etl.storage.store import ConditionError

NO_WAIT = dt.timedelta(0)
SHORT = dt.timedelta(seconds=0.3)


@pytest.fixture
def server():
    server = running("moto")
    server.requests.clear()
    yield server
    server.faults.clear()
    server.fired.clear()


@pytest.fixture
def stores(server, tmp_path):
    """Return a function that makes the same store for one process more."""
    return lambda **options: server.store(prefix_of(tmp_path), **{"lease": SHORT, **options})


def once(does, method, key):
    """Return a fault that happens to the first request of a method for a key that ends so."""
    left = [does]
    return lambda asked, path, _: left.pop() if left and asked == method and path.endswith(key) else None


# The probe


@pytest.mark.parametrize(
    ("ignored", "said"),
    [(["NONE_MATCH", "MATCH"], "If-None-Match"), (["NONE_MATCH"], "If-None-Match"), (["MATCH"], "If-Match")],
)
def test_fault_49_82_store_that_ignores_conditions_is_refused_before_the_first_request(server, stores, ignored, said):
    def ignore(_method, _key, headers):
        """Do as s3rver and older servers."""
        for condition in ignored:
            headers.pop(f"HTTP_IF_{condition}", None)

    server.faults.append(ignore)
    with pytest.raises(DeniedError, match=rf"^s3://.* this store ignores {said}, so two jobs could overwrite"):
        stores().check_writable()
    assert stores().folders_with("") == []


def test_fault_49_82_store_that_refuses_and_writes_all_the_same_is_refused(server, stores):
    def writes(method, key, headers):
        if (
            method == "PUT"
            and "HTTP_IF_MATCH" in headers
            and len([1 for one in server.requests if one[0] == "PUT"]) > 3
        ):
            headers.pop("HTTP_IF_MATCH")
            server.client().put_object(Bucket=BUCKET, Key=key, Body=b"4")
            return "412"
        return None

    server.faults.append(writes)
    with pytest.raises(DeniedError, match="answers that a condition does not hold, and writes all the same"):
        stores().check_writable()
    assert server.fired


def test_bucket_that_is_not_there_is_named(server):
    store = ObjectStore("s3://no-such-bucket/x", stores_bucket(server), lambda: ("a", "b", None))
    with pytest.raises(DeniedError, match=r"no-such-bucket/x: NoSuchBucket: .*; make the bucket, or correct"):
        store.check_writable()


def stores_bucket(server):
    return server.store("x")._bucket


# Answers that are lost, and stores that say no


@pytest.mark.parametrize("does", ["503", "lost", "reset", "409"])
def test_fault_83_put_whose_answer_is_lost_or_that_is_refused_for_now_is_known_or_made_again(server, stores, does):
    """Of the lock: it is known by what is in it."""
    store = stores()
    server.faults.append(once(does, "PUT", "/.lock"))
    with store.locked(store.at(".lock"), NO_WAIT, lambda: False):
        assert server.fired == [does]
        server.faults[:] = [once(does, "PUT", "/.lock")]
        store.set_note(store.at(".lock"), b"note")
        assert stores().note(store.at(".lock")) == b"note"
    with store.locked(store.at(".lock"), NO_WAIT, lambda: False):
        assert store.note(store.at(".lock")) == b"note"


@pytest.mark.parametrize("does", ["503", "reset", "lost"])
def test_fault_83_data_file_whose_upload_is_interrupted_is_whole(server, stores, does):
    store = stores()
    name, draft = store.at("things", "x.parquet"), store.draft("x.parquet")
    draft.write_bytes(b"rows" * 1000)
    server.faults.append(once(does, "PUT", "x.parquet"))
    store.keep(draft, name)
    assert server.fired == [does]
    assert store.read(name) == b"rows" * 1000
    assert not draft.exists()


def test_right_that_is_missing_is_named_with_what_to_grant(server, stores):
    server.faults.append(lambda method, *_: "403" if method == "PUT" else None)
    with pytest.raises(DeniedError, match=r"grant s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket"):
        stores().check_writable()


# The lock


def test_fault_84_lock_of_a_job_that_has_died_is_taken_over_after_the_time_of_a_lease(stores):
    dead = stores()
    taken = lease.Lease(dead, dead.at(".lock"), 60)
    taken._take(NO_WAIT, lambda: False)  # nobody renews it
    taken.set_note(b"half done")

    with stores().locked(dead.at(".lock"), dt.timedelta(minutes=1), lambda: False) as new:
        assert new.has_replaced
        assert dead.note(dead.at(".lock")) == b"half done", "and what the dead job has left is found"
        with pytest.raises(StorageError, match=r"\.lock: another job has taken the lock, because this one stood still"):
            taken.confirm()
        with pytest.raises(StorageError, match="Run again"):
            taken.set_note(None)
        taken._let_go()
        assert dead.note(dead.at(".lock")) == b"half done", "who has lost it changes nothing"


def test_fault_84_lock_of_a_job_that_lives_is_not_taken_however_long_one_waits(stores):
    store = stores()
    with store.locked(store.at(".lock"), NO_WAIT, lambda: False):
        with pytest.raises(LockedError):
            stores().locked(store.at(".lock"), 4 * SHORT, lambda: False).__enter__()
        store.still_locked()


def test_fault_84_one_of_many_takes_over_a_dead_lock(stores):
    dead = stores()
    lease.Lease(dead, dead.at(".lock"), 60)._take(NO_WAIT, lambda: False)
    inside, most, replaced = [], [], []

    def work(number):
        with stores().locked(dead.at(".lock"), dt.timedelta(minutes=1), lambda: False) as taken:
            inside.append(number)
            most.append(len(inside))
            replaced.append(taken.has_replaced)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (set(most), sorted(replaced)) == ({1}, [False, False, False, True])


def test_damaged_lock_says_what_to_do(stores):
    store = stores()
    store.put_new(store.at(".lock"), b"no lock")
    with pytest.raises(StorageError, match="the lock of the warehouse is damaged: remove the object"):
        store.locked(store.at(".lock"), NO_WAIT, lambda: False).__enter__()


def test_fault_87_job_that_has_lost_the_lock_commits_nothing_to_a_table_that_it_makes(stores):
    """Whoever has taken over has written into the logs that were there. The lock was held after the last look."""
    store = stores()
    tables = Tables(store)
    with store.locked(store.at(".lock"), NO_WAIT, lambda: False), tables.alone():
        store._lease._ended.set()  # it stands still
        assert tables.open("things") is None
        store.set_note(store.at(".lock"), None)
        with stores().locked(store.at(".lock"), dt.timedelta(minutes=1), lambda: False) as other:
            assert other.has_replaced
            with pytest.raises(StorageError, match="another job has taken the lock, because this one stood still"):
                publish(tables, {"a": [1]})
    assert Tables(stores()).dates("things") == []


# Credentials and encryption


def test_renewed_credentials_are_used_by_tables_that_are_open(server, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "_RENEW", dt.timedelta(0))
    keys = [("AKIDFIRST", "secret", None)]
    store = ObjectStore(server.store(prefix_of(tmp_path)).uri, server.store("x")._bucket, lambda: keys[-1])
    tables, used = Tables(store), []
    server.faults.append(lambda _method, _key, headers: used.append(headers["HTTP_AUTHORIZATION"].split("/")[0][-9:]))
    publish(tables, {"a": [1]})
    assert {*used} == {"AKIDFIRST"}
    keys.append(("AKIDAGAIN", "secret", "token"))
    used.clear()
    publish(tables, {"a": [2]}, run="run-2")
    assert {*used} == {"AKIDAGAIN"}


def test_new_objects_are_encrypted_as_the_settings_say(server, tmp_path):
    found = []

    def encryption(method, key, headers):
        if method == "PUT":
            names = ("HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION", "HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION_AWS_KMS_KEY_ID")
            found.append((key.rpartition(".")[2], *(headers.get(name) for name in names)))

    server.faults.append(encryption)
    bucket = replace(server.store("x")._bucket, encryption="aws:kms", kms_key_id="a-key")
    store = ObjectStore(server.store(prefix_of(tmp_path)).uri, bucket, lambda: (*KEY, None))
    publish(Tables(store), {"a": [1]})
    assert {kind for kind, *_ in found} == {"parquet", "json"}
    assert {tuple(how) for _, *how in found} == {("aws:kms", "a-key")}


# The catalog


def swap(store, content, **made_of):
    draft = store.draft("warehouse.duckdb")
    draft.write_bytes(content)
    store.swap(draft, store.at("warehouse.duckdb"), made_of)


def test_fault_85_catalog_is_never_older_than_before(stores):
    store = stores()
    swap(store, b"second", things=2, others=1)
    with pytest.raises(ConditionError, match="another job has put a newer one there"):
        swap(stores(), b"first", things=1, others=5)
    swap(stores(), b"as new", things=2, others=1)
    swap(stores(), b"third", things=2, others=1, more=0)
    assert store.read(store.at("warehouse.duckdb")) == b"third"


def test_fault_85_of_two_that_swap_at_once_the_newer_stays(stores):
    store, name = stores(), stores().at("warehouse.duckdb")
    for race in range(0, 200, 2):
        want = threading.Barrier(2)

        def put(version, want=want):
            want.wait()
            try:
                swap(stores(), str(version).encode(), things=version)
            except ConditionError:
                assert int(store.read(name)) > version

        threads = [threading.Thread(target=put, args=(race + one,)) for one in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.read(name) == str(race + 1).encode()


def test_catalog_is_downloaded_once_and_again_when_it_is_another(stores, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store, name = stores(), stores().at("warehouse.duckdb")
    swap(store, b"first", things=1)
    first = store.fetch(name)
    with first.open("rb") as held:
        assert stores().fetch(name) == first
        swap(store, b"second", things=2)
        second = stores().fetch(name)
        assert (second.read_bytes(), held.read()) == (b"second", b"first")
    assert [path.name for path in second.parent.iterdir()] == [second.name]
    assert stat.S_IMODE(second.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(second.stat().st_mode) & 0o077 == 0, "it has what only readers of the bucket may see"


# Reading


def test_what_duckdb_is_lent_can_only_read(stores):
    store = stores()
    with duckdb.connect() as connection:
        store.connect(connection)
        with pytest.raises(duckdb.Error):
            connection.execute(f"copy (select 1) to '{store.at('evil.parquet')}'")
        with pytest.raises(duckdb.Error):
            connection.execute(f"from '{store.uri}/*.parquet'")
    assert not store.exists(store.at("evil.parquet"))


def test_servers_of_tests_are_ended():
    with moto() as server:
        assert server.client().list_buckets()["Buckets"]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(urlsplit(server.url).netloc.split(":"))


def test_of_several_copies_of_a_catalog_none_is_taken_for_the_present_one(server, stores, tmp_path, monkeypatch):
    """Two processes may each have left one, and "not modified" would not say which of them it is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store, name = stores(), stores().at("warehouse.duckdb")
    swap(store, b"the present one", things=1)
    asked = []
    server.faults.append(lambda method, _key, headers: asked.append((method, "HTTP_IF_NONE_MATCH" in headers)))
    copy = store.fetch(name)
    assert stores().fetch(name) == copy
    (copy.parent / "another.duckdb").write_bytes(b"an older one")
    assert stores().fetch(name).read_bytes() == b"the present one"
    assert [is_conditional for method, is_conditional in asked if method == "GET"] == [False, True, False]
    assert list(copy.parent.iterdir()) == [copy]


def test_a_small_data_file_is_asked_for_once_and_a_larger_one_each_time(server, stores):
    writer = stores()
    for name, size in (("small", 1000), ("large", objects._SMALL_BYTES)):
        draft = writer.draft(writer.at("things", name))
        draft.write_bytes(b"1" * size)
        writer.keep(draft, writer.at("things", name))
    store = stores()
    names = [store.at("things", name) for name in ("small", "large")]
    assert [size for _, size in store.sizes(names)] == [1000, objects._SMALL_BYTES]
    server.requests.clear()
    for name in names * 3:
        assert {*store.opened(name).read()} == {ord("1")}
    assert [key.rpartition("/")[2] for method, key in server.requests if method == "GET"] == ["small", *["large"] * 3]


def test_fault_37_machine_without_room_for_drafts_is_named_and_not_the_bucket(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(StorageError, match=r"first written on this machine: .*nowhere.*TMPDIR"):
        stores().draft("s3://a-bucket/things/one")


def test_folder_of_packs_is_not_looked_into_for_a_log(server, stores):
    """No table is there, and a job asks for the names of the tables several times."""
    store = stores()
    store.put_new(store.at("things", "_delta_log", "0.json"), b"{}")
    store.put_new(store.at(".packs", "things", "one.parquet"), b"")
    store.folders_with("_delta_log")
    server.requests.clear()
    assert store.folders_with("_delta_log") == ["things"]
    assert server.requests == [("GET", "")]


def test_a_copy_that_the_disk_has_no_room_for_leaves_nothing_behind(stores, tmp_path, monkeypatch):
    """Each night would leave one more."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = stores()
    name = store.at("large.duckdb")
    store.put_new(name, bytes(1_000_000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(StorageError, match="File too large"):
            store.fetch(name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(mirror.cache_of(name).iterdir()) == []
    assert store.fetch(name).read_bytes() == bytes(1_000_000)
