"""Short forms of the storms, and proof that they find what they look for."""

import contextlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import zarrdock
from support.servers import Endpoint
from support.storms import appends, base, faults, fuzz, kills, readers, workers, writers
from support.storms.targets import TARGETS
from tools.storm_table import BEGIN, END, STORMS, main
from zarrdock.stores.base import WrapperStore, join_value
from zarrdock.stores.local import LocalStore
from zarrdock.stores.zip_ import ZipStore
from zarrdock.stores.zip_journal import SUFFIX


def good(outcome: base.Outcome) -> None:
    assert outcome.n_bad == 0, str(outcome)


@pytest.mark.parametrize("place", ["local", "local threads", "memory threads"])
def test_writers_lose_nothing(place: str) -> None:
    good(writers.storm(place, 6, 25))


@pytest.mark.server
@pytest.mark.parametrize("place", ["S3", "GCS", "S3 (moto)", "Azure"])
def test_writers_of_a_service_lose_nothing(place: str) -> None:
    good(writers.storm(place, 4, 8, copies=True))


@pytest.mark.server
@pytest.mark.parametrize("place", ["S3", "GCS", "Azure"])
def test_thirty_two_writers_get_on(place: str) -> None:
    outcome = writers.storm(place, 32, 2, copies=True)
    good(outcome)
    assert outcome.seconds < 60


@pytest.mark.server
@pytest.mark.slow
def test_writers_of_azurite_lose_nothing(azurite: Endpoint) -> None:
    """Another server than ours, started by the fixture first, so that it is skipped where it is not installed."""
    good(writers.storm("Azure (Azurite)", 4, 8, copies=True))


@pytest.mark.parametrize("place", ["local", "memory threads"])
def test_appended_rows_are_there_once(place: str) -> None:
    good(appends.storm(place, 4, 20, 1))


@pytest.mark.server
@pytest.mark.parametrize("place", ["S3", "GCS", "Azure"])
def test_rows_appended_to_a_service_are_there_once(place: str) -> None:
    good(appends.storm(place, 4, 12, 4, copies=True))


def test_no_read_is_torn() -> None:
    good(readers.storm("local", 60))


@pytest.mark.server
@pytest.mark.parametrize("place", ["S3", "GCS", "Azure"])
def test_no_read_from_a_service_is_torn(place: str) -> None:
    good(readers.storm(place, 24, copies=True))


@pytest.mark.parametrize("place", ["local", "memory threads", pytest.param("S3", marks=pytest.mark.server)])
def test_consistent_reads_are_of_one_moment(place: str) -> None:
    n = 8 if place == "S3" else 40
    with base.place(place) as store:
        size = readers.N_SHARDS * readers.SHARD
        array = zarrdock.create_array(store, shape=size, dtype="int64", chunks=readers.CHUNK, shards=readers.SHARD)
        for shard in range(readers.N_SHARDS):
            array[shard * readers.SHARD : (shard + 1) * readers.SHARD] = readers.contents(0)
        with ThreadPoolExecutor(3) as pool:
            writing = pool.submit(readers.ordered, array, n)
            reading = [pool.submit(readers.read_consistently, zarrdock.open_array(store), n) for _ in range(2)]
            assert writing.result() == n
            for future in reading:
                n_reads, n_bad, _ = future.result()
                assert n_reads > 0
                assert n_bad == 0


@pytest.mark.parametrize("name", ["local", "zip"])
def test_kills(name: str) -> None:
    outcome = kills.at_random(name, 12)
    good(outcome)
    assert outcome.notes["kills within a write"]
    good(kills.at_every_call(name))


@pytest.mark.parametrize("name", list(faults.STORES))
def test_system_calls_that_fail(name: str) -> None:
    good(faults.on_files(name, faults.ERRNOS[:1]))


@pytest.mark.server
@pytest.mark.parametrize("name", ["S3", "GCS", "Azure"])
def test_services_that_fail(name: str) -> None:
    good(faults.on_service(name, 0.04, seed=1))


@pytest.mark.parametrize("name", list(TARGETS))
def test_broken_inputs(name: str) -> None:
    target = TARGETS[name][0]()
    seeds = target.seeds()
    assert seeds == target.seeds()
    for number in range(100 if name == "replies" else 700):
        assert fuzz.feed(target, fuzz.make_input(seeds, number, 3), number) is None, f"input {number}"


def test_broken_inputs_in_a_process_of_their_own() -> None:
    good(fuzz.storm("shards", 500))


def test_a_journal_that_a_crash_filled_with_zeros(tmp_path) -> None:
    store = ZipStore(tmp_path / "x.zip")
    store.write("k", b"value")
    journal = tmp_path / ("x.zip" + SUFFIX)
    for junk in (bytes(8), bytes(100), b"\x04\0\0\0" + b"\xff" * 8):
        with journal.open("ab") as file:
            file.write(junk)
        fresh = ZipStore(tmp_path / "x.zip", read_only=True)
        assert [entry.key for entry in fresh.list()] == ["k"]
    store = ZipStore(tmp_path / "x.zip")
    store.write("l", b"more")
    assert {entry.key for entry in ZipStore(tmp_path / "x.zip", read_only=True).list()} == {"k", "l"}
    store.close()


# -- that they would find it -------------------------------------------------------------------------------------------


class Careless(WrapperStore):
    """Reads, changes and writes back, with nothing to hold others off."""

    def update(self, key, change, /):
        blob = self.store.get(key)
        new = change(None if blob is None else blob.data)
        if new is None:
            self.store.delete(key)
        else:
            self.store.write(key, new)


def test_lost_values_are_found(tmp_path, monkeypatch) -> None:
    @contextlib.contextmanager
    def careless(_):
        yield Careless(LocalStore(tmp_path / "store"))

    monkeypatch.setattr(writers, "place", careless)
    assert writers.storm("local", 8, 30, copies=True).n_bad > 0


def test_rows_lost_and_twice_are_found() -> None:
    rows = np.array([[0, 0, 0], [0, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 5]])
    assert appends.count_bad(rows, 2, 2) == 3  # twice; not what was written; missing
    assert appends.count_bad(rows[[0, 1, 3]], 2, 2) == 1


def test_a_torn_read_is_found() -> None:
    first, second = readers.contents(5), readers.contents(6)
    assert readers.version_of(first, 0) == 5
    assert readers.version_of(first[100:], 100) == 5
    assert readers.version_of(np.concatenate([first[:-1], second[-1:]]), 0) is None


def test_writing_in_place_is_found(tmp_path, monkeypatch) -> None:
    def put(self, path, parts, held, key):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, join_value(parts))
        os.close(fd)

    monkeypatch.setattr(LocalStore, "_put", put)
    assert kills.at_every_call("local").n_bad > 0


def test_what_is_no_error_of_ours_is_found() -> None:
    class Bad(TARGETS["keys"][0]):
        def feed(self, data: bytes, number: int) -> None:
            raise IndexError(number)

    assert fuzz.feed(Bad(), b"x", 7) == "IndexError: 7"
    target = TARGETS["keys"][0]()
    assert fuzz.feed(target, b"../x", 0) is None
    seeds = target.seeds()
    assert fuzz.make_input(seeds, 5, 1) == fuzz.make_input(seeds, 5, 1)


def test_a_worker_that_dies_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="exit code 7"):
        workers.in_processes(os._exit, [(7,)])
    with pytest.raises(ZeroDivisionError):
        workers.in_processes(divmod, [(1, 0)])


# -- the command -------------------------------------------------------------------------------------------------------


def test_command(tmp_path, capsys, repository) -> None:
    document = tmp_path / "reliability.md"
    document.write_text(f"# x\n{BEGIN}\nold\n{END}\nafter\n")
    options = ["--share", "0.001", "--results", str(tmp_path / "r.json"), "--markdown", str(document)]
    assert main(["--only", "writers", "--place", "memory threads", *options]) == 0
    assert main(["--only", "appends", "--place", "memory threads", *options]) == 0
    text = document.read_text()
    assert text.startswith("# x\n")
    assert text.endswith("after\n")
    assert "| writers | memory threads | 16 threads x 1 partial writes" in text
    assert "| appends | memory threads |" in text
    assert "old" not in text
    assert "0 values lost" in capsys.readouterr().out


def test_the_document_has_all_storms(repository) -> None:
    text = (repository / "docs" / "explanation" / "reliability.md").read_text()
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \|[^|]+\| (\d+) ", text, re.M)
    assert {storm for storm, *_ in rows} == set(STORMS)
    assert {place for storm, place, _ in rows if storm == "writers"} == set(base.PLACES)
    assert {n for *_, n in rows} == {"0"}
