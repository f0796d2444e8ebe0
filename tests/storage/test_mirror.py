"""Copies of objects on this machine: as the bucket has them now, and asked for once."""

from pathlib import Path

import pytest
from support.buckets import prefix_of, running

from etl.storage.mirror import Mirror
from etl.storage.store import ConditionError

FOLDER = "things/_delta_log"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server = running("moto")
    server.requests.clear()
    yield server
    server.faults.clear()


@pytest.fixture
def store(server, tmp_path):
    return server.store(prefix_of(tmp_path))


def everything(names):
    return sorted(names)


def brought(mirror, wanted=everything):
    """Look at the folder, bring what is wanted, and return what is in the directory then."""
    mirror.look(FOLDER)
    mirror.bring(FOLDER, wanted)
    return here(mirror)


def here(mirror):
    return {path.name: path.read_bytes() for path in (mirror.path / FOLDER).iterdir()}


def asked(server, method="GET"):
    """Return the names of the objects that were asked for since the last call."""
    names = sorted(key.rpartition("/")[2] for asked, key in server.requests if asked == method and "/" in key)
    server.requests.clear()
    return names


def test_what_is_there_is_brought_and_then_only_what_is_new(server, store):
    mirror = Mirror(store)
    assert brought(mirror) == {}
    for name in ("a", "b", "c"):
        store.put_new(store.at(FOLDER, name), name.encode())
    store.put_new(store.at(FOLDER, "deeper", "d"), b"d")
    asked(server)
    assert brought(mirror, lambda names: [name for name in names if name < "c"]) == {"a": b"a", "b": b"b"}
    assert asked(server) == ["a", "b"]
    assert brought(mirror) == {"a": b"a", "b": b"b", "c": b"c"}
    assert asked(server) == ["c"]


def test_an_object_that_is_another_one_is_brought_again_and_one_that_is_gone_is_removed(store):
    mirror = Mirror(store)
    for name in ("a", "b"):
        store.put_new(store.at(FOLDER, name), b"first")
    brought(mirror)
    store.put(store.at(FOLDER, "a"), b"second")
    store.remove(store.at(FOLDER, "b"))
    assert brought(mirror) == {"a": b"second"}
    assert brought(mirror, lambda _: []) == {"a": b"second"}


def test_what_this_machine_has_read_is_not_asked_for_by_the_next_job(server, store, tmp_path):
    for name in ("a", "b"):
        store.put_new(store.at(FOLDER, name), name.encode())
    brought(Mirror(store))
    store.remove(store.at(FOLDER, "a"))
    store.put_new(store.at(FOLDER, "c"), b"c")
    asked(server)
    assert brought(Mirror(store)) == {"b": b"b", "c": b"c"}
    assert asked(server) == ["c"]
    (cache,) = (tmp_path / "cache" / "nimble-etl").iterdir()
    assert sorted(path.name.rpartition("-")[2] for path in cache.iterdir()) == ["b", "c"]
    assert cache.stat().st_mode & 0o777 == 0o700


def test_a_machine_without_a_cache_asks_again(server, store, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    store.put_new(store.at(FOLDER, "a"), b"a")
    for _ in range(2):
        asked(server)
        assert brought(Mirror(store)) == {"a": b"a"}
        assert asked(server) == ["a"]


def test_what_is_published_is_there_for_others_and_known_here(server, store):
    mirror = Mirror(store)
    brought(mirror)
    (mirror.path / FOLDER / "a").write_bytes(b"new")
    mirror.publish(FOLDER, ["a"])
    mirror.publish(FOLDER, ["a"])
    assert store.read(store.at(FOLDER, "a")) == b"new"
    asked(server)
    assert brought(mirror) == {"a": b"new"}
    assert brought(Mirror(store)) == {"a": b"new"}
    assert (asked(server), mirror.knows(FOLDER)) == ([], True)


@pytest.mark.parametrize(("does", "error"), [("other", ConditionError), ("503", OSError), ("lost", ConditionError)])
def test_fault_42_48_what_is_refused_is_removed_here_and_looked_at_again(server, store, does, error):
    """`lost`: the put has landed, and the client has asked once more."""
    mirror = Mirror(store)
    brought(mirror)
    (mirror.path / FOLDER / "a").write_bytes(b"mine")
    if does == "other":
        store.put_new(store.at(FOLDER, "a"), b"theirs")
    else:
        left = [does] if does == "lost" else [does] * 99
        server.faults.append(lambda method, *_: left.pop() if left and method == "PUT" else None)
    with pytest.raises(error):
        mirror.publish(FOLDER, ["a"])
    server.faults.clear()
    assert (here(mirror), mirror.knows(FOLDER)) == ({}, False)
    assert brought(mirror) == {"other": {"a": b"theirs"}, "503": {}, "lost": {"a": b"mine"}}[does]


def test_the_directory_goes_with_its_process(store):
    mirror = Mirror(store)
    brought(mirror)
    path = Path(mirror.path)
    assert path.is_dir()
    del mirror
    assert not path.exists()
