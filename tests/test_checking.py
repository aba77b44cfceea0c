"""What ``check`` finds, and what it does not cry about."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrdock
from support.stores import WithTraits
from zarrdock.array.planning.layout import Layout
from zarrdock.checking import Counts, Problem, check
from zarrdock.errors import NodeNotFoundError

DATA = np.random.default_rng(0).integers(0, 10**6, (32, 32)).astype("uint32")


def make(**layout: Any) -> zarrdock.Array:
    layout = {"compressors": [{"name": "zstd", "configuration": {"level": 1, "checksum": True}}, "crc32c"], **layout}
    return zarrdock.create_array(zarrdock.MemoryStore(), data=DATA, **layout)


LAYOUTS: list[dict[str, Any]] = [
    {"chunks": (8, 8)},
    {"chunks": (8, 8), "zarr_format": 2, "compressors": {"id": "zlib", "level": 1}},
    {"chunks": (4, 4), "shards": (16, 16)},
    {"chunks": (4, 4), "shards": {"shape": (16, 16), "index_location": "start"}},
    {"chunks": (4, 4), "shards": [(32, 32), (16, 16), (8, 8)]},
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("listable", [True, False])
def test_nothing_is_found_where_nothing_is_wrong(layout: dict[str, Any], listable: bool) -> None:
    array = make(**layout)
    store = array.store if listable else WithTraits(array.store, listable=False)
    seen: list[Counts] = []
    report = check(store, progress=lambda _, counts: seen.append(counts))
    assert report.problems == ()
    assert report.counts.n_chunks == array.nchunks
    n_objects = sum(1 for e in array.store.list() if not e.key.endswith(("json", "array", "attrs")))
    assert report.counts.n_objects == n_objects
    assert seen[-1] == report.counts


@given(layout=st.sampled_from(LAYOUTS), data=st.data())
@settings(max_examples=120)
def test_every_flipped_byte_of_a_chunk_is_found(layout: dict[str, Any], data: st.DataObject) -> None:
    # All chunks and indexes carry checksums here, so that no damage can hide.
    array = make(**layout)
    objects = sorted(e.key for e in array.store.list() if not e.key.endswith(("json", "array", "attrs")))
    key = data.draw(st.sampled_from(objects))
    value = bytearray(array.store.get(key).data)  # type: ignore[union-attr]
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= data.draw(st.integers(1, 255))
    array.store.write(key, bytes(value))
    report = check(array.store)
    assert not report.is_good
    assert {problem.key for problem in report.problems} == {key}
    # All chunks that are named are broken, and those that are not can be read.
    broken = {problem.chunk for problem in report.problems}
    if None not in broken:
        n = array.chunks[0]
        for i in range(array.cdata_shape[0]):
            for j in range(array.cdata_shape[1]):
                region = np.s_[i * n : (i + 1) * n, j * n : (j + 1) * n]
                if (i, j) in broken:
                    with pytest.raises(zarrdock.ZarrdockError):
                        array[region]
                else:
                    np.testing.assert_array_equal(array[region], DATA[region])


@given(cut=st.integers(0, 1000), layout=st.sampled_from(LAYOUTS))
@settings(max_examples=40)
def test_truncation_is_found(cut: int, layout: dict[str, Any]) -> None:
    array = make(**layout)
    key = max((e.key for e in array.store.list() if not e.key.endswith(("json", "array", "attrs"))), key=len)
    value = bytes(array.store.get(key).data)  # type: ignore[union-attr]
    array.store.write(key, value[: cut % len(value)])
    report = check(array.store)
    assert not report.is_good
    assert {problem.key for problem in report.problems} == {key}


def test_a_broken_inner_shard_does_not_hide_the_others() -> None:
    array = make(chunks=(4, 4), shards=[(32, 32), (16, 16)])
    value = bytearray(array.store.get("c/0/0").data)  # type: ignore[union-attr]
    # The first inner shard's index ends where the second one begins.
    level = Layout.of(array.metadata).levels[0].sharding
    index = level.split(bytes(value))
    value[int(index.offsets[0] + index.lengths[0]) - 1] ^= 1
    array.store.write("c/0/0", bytes(value))
    report = check(array.store)
    (problem,) = report.problems
    assert "inner shard (0, 0)" in problem.message
    assert report.counts.n_chunks == 48


def test_errors_name_node_key_and_chunk(tmp_path: Path) -> None:
    root = zarrdock.create_group(tmp_path / "g")
    root.create_array("a/b", data=DATA, chunks=(16, 16), compressors="crc32c")
    root.create_array("c", data=DATA, chunks=(16, 16))
    path = tmp_path / "g" / "a" / "b" / "c" / "1" / "0"
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    (tmp_path / "g" / "c" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    found: list[Problem] = []
    report = check(tmp_path / "g", found=found.append)
    assert report.problems == tuple(found)
    broken, document = found
    assert (broken.path, broken.key, broken.chunk) == ("a/b", "a/b/c/1/0", (1, 0))
    assert document.path == "c"
    assert "c/zarr.json" in document.message
    assert report.counts.n_groups == 2
    assert check(tmp_path / "g", path="a").problems == (broken,)


def test_leftovers_and_strangers_are_warnings(tmp_path: Path) -> None:
    array = zarrdock.create_array(tmp_path / "a", data=DATA, chunks=(16, 16))
    array.store.write("c/7/7", b"of a larger array")
    array.store.write("readme.txt", b"hello")
    lock = tmp_path / "a" / "c" / "0" / "0.__lock"
    lock.write_bytes(b"half a chunk")
    report = check(tmp_path / "a")
    assert report.is_good
    assert [(p.severity, p.key) for p in report.problems][:2] == [("warning", "readme.txt"), ("warning", "c/7/7")]
    assert report.problems[0].message == "this is no part of the array"
    stale = list(zarrdock.LocalStore(tmp_path / "a").stale_files())
    assert any("left over" in p.message for p in report.problems) == bool(stale)


def test_consolidated_metadata_that_is_out_of_date() -> None:
    root = zarrdock.create_group(None)
    root.create_array("kept", data=DATA)
    root.create_array("changed", data=DATA)
    root.create_array("gone", data=DATA)
    root.consolidate()
    assert check(root.store).problems == ()
    # By a writer who knows nothing of the copy: changes through zarrdock keep it true.
    document = json.loads(bytes(root.store.get("changed/zarr.json").data))  # type: ignore[union-attr]
    root.store.write("changed/zarr.json", json.dumps(document | {"attributes": {"new": 1}}).encode())
    root.store.delete_prefix("gone")
    for entry in list(root.store.list("kept")):
        root.store.write(entry.key.replace("kept", "late"), bytes(root.store.get(entry.key).data))  # type: ignore[union-attr]
    report = check(root.store)
    assert report.is_good
    assert {(p.path, p.severity) for p in report.problems} == {
        ("changed", "warning"),
        ("gone", "warning"),
        ("late", "warning"),
    }


def test_an_unknown_codec_is_an_error_and_the_rest_is_checked() -> None:
    root = zarrdock.create_group(None)
    root.create_array("strange", data=DATA)
    root.create_array("good", data=DATA)
    document = json.loads(bytes(root.store.get("strange/zarr.json").data))  # type: ignore[union-attr]
    document["codecs"].append({"name": "example.mystery"})
    root.store.write("strange/zarr.json", json.dumps(document).encode())
    report = check(root.store)
    (problem,) = report.problems
    assert (problem.severity, problem.path) == ("error", "strange")
    assert "example.mystery" in problem.message
    assert report.counts.n_chunks == 1


def test_there_must_be_something_to_check() -> None:
    with pytest.raises(NodeNotFoundError):
        check(zarrdock.MemoryStore())


def test_a_huge_shape_costs_what_is_stored() -> None:
    array = zarrdock.create_array(None, shape=(10**9, 10**9), dtype="u1", chunks=(1000, 1000))
    array[10**8, 10**8] = 1
    recorder = zarrdock.RecordingStore(array.store)
    report = check(recorder)
    assert (report.is_good, report.counts.n_chunks) == (True, 1)
    assert recorder.n_requests < 10


def test_large_shards_are_read_in_windows() -> None:
    data = np.random.default_rng(0).integers(0, 255, (5, 2**22)).astype("uint8")
    array = zarrdock.create_array(None, data=data, chunks=(1, 2**20), shards=(5, 2**22), compressors=None)
    recorder = zarrdock.RecordingStore(array.store, n_events=100)
    assert check(recorder).is_good
    longest = max(event.nbytes for event in recorder.log if event.verb == "read")
    assert longest <= 8 * 2**20
    assert sum(event.nbytes for event in recorder.log) >= data.nbytes
