"""Names, shapes and documents that mean harm: refused in our own words, before any I/O, within bounded memory."""

import json
import subprocess
import sys

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import InvalidKeyError, MetadataError, SelectionError, ZarrdockError
from zarrdock.stores.zip_ import ZipStore
from zarrdock.testing import RecordingStore

BAD = [
    "..",
    "../x",
    "a/../../x",
    "a/./b",
    ".",
    "a//b",
    "a\0b",
    "\0",
    "C:\\x",
    "c:/x",
    "a\\..\\b",
    "\\\\host\\share",
    "a/\ud800",
]
GOOD = [
    "a b",
    "%2e%2e",
    "ü",
    "u\u0308",
    "日本",
    "a?b#c",
    "…",
    "....a",
    "a:b",
    "~",
    "-",
    "con",
    "é" * 80,
    "\u202e",
    "a\nb",
]
STORES = {
    "memory": lambda folder: zarrdock.MemoryStore(),
    "local": lambda folder: zarrdock.LocalStore(folder / "store"),
    "zip": lambda folder: ZipStore(folder / "store.zip"),
}


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    with STORES[request.param](tmp_path) as store:
        yield store


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_names_that_no_store_holds_are_refused_before_any_request(store, name, tmp_path) -> None:
    recorded = RecordingStore(store, n_events=10)
    options = {"shape": 4, "dtype": "i4"}
    with pytest.raises(InvalidKeyError):
        zarrdock.create_array(recorded, name=name, **options)
    with pytest.raises(InvalidKeyError):
        zarrdock.create_group(recorded, path=name)
    for call in (zarrdock.open, zarrdock.open_array, zarrdock.open_group):
        with pytest.raises(InvalidKeyError):
            call(recorded, path=name)
    with pytest.raises(InvalidKeyError):
        recorded.store.write(name, b"x")
    assert not recorded.log
    assert [*store.list()] == []
    group = zarrdock.create_group(store)
    with pytest.raises((InvalidKeyError, KeyError)):
        group[name]
    with pytest.raises(InvalidKeyError):
        group.create_array(name, **options)
    assert [entry.key for entry in store.list()] == ["zarr.json"]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["/x", "x/", "/x/"])
def test_slashes_around_a_path_mean_nothing(store, name) -> None:
    zarrdock.create_array(store, name=name, data=np.ones(2))
    assert [*zarrdock.open_array(store, path="x")] == [1, 1]


@pytest.mark.parametrize("name", GOOD, ids=ascii)
def test_any_other_name_is_a_name(store, name) -> None:
    group = zarrdock.create_group(store)
    group.create_array(name, data=np.arange(3))
    assert [*group] == [name]
    np.testing.assert_array_equal(zarrdock.open_array(store, path=name)[:], [0, 1, 2])


def test_a_name_too_long_for_a_file(tmp_path) -> None:
    store = zarrdock.LocalStore(tmp_path)
    with pytest.raises(InvalidKeyError, match="too long"):
        zarrdock.create_array(store, name="x" * 300, shape=4, dtype="i4")
    assert [*store.list()] == []


# -- documents ---------------------------------------------------------------------------------------------------------


def document(**changes) -> dict:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [16],
        "data_type": "int32",
        "chunk_grid": grid([4]),
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    } | changes


def grid(shape) -> dict:
    return {"name": "regular", "configuration": {"chunk_shape": shape}}


def sharding(chunk, codecs) -> dict:
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    return {
        "name": "sharding_indexed",
        "configuration": {"chunk_shape": chunk, "codecs": codecs, "index_codecs": index, "index_location": "end"},
    }


def nested(n) -> list:
    codecs = document()["codecs"]
    for _ in range(n):
        codecs = [sharding([4], codecs)]
    return codecs


def put(value, **objects) -> zarrdock.MemoryStore:
    store = zarrdock.MemoryStore()
    store.write("zarr.json", value if isinstance(value, bytes) else json.dumps(value).encode())
    for key, data in objects.items():
        store.write(key.replace("_", "/"), data)
    return store


@pytest.mark.parametrize(
    "value",
    [
        document(shape=[1] * 65, chunk_grid=grid([1] * 65)),
        document(shape=[1] * 100_000, chunk_grid=grid([1] * 100_000)),
        document(shape=[2**63]),
        document(shape=[10**30]),
        document(chunk_grid=grid([2**63])),
        document(chunk_grid=grid([0])),
        document(data_type="r99999999999999999"),
        b'{"a":' * 100_000,
        b"[" * 1_000_000,
        json.dumps(document()).replace("[16]", "[" + "9" * 10_000 + "]").encode(),
        document(codecs=nested(150)),
        b"\xff\xfe{}",
    ],
    ids=lambda value: str(value)[:60],
)
def test_documents_that_are_refused(value) -> None:
    with pytest.raises(MetadataError) as caught:
        zarrdock.open_array(put(value))
    assert len(str(caught.value)) < 500


def test_sixty_five_dimensions_are_refused_by_those_who_create() -> None:
    with pytest.raises(MetadataError, match="64 dimensions"):
        zarrdock.create_array(zarrdock.MemoryStore(), shape=(1,) * 65, dtype="i4", chunks=(1,) * 65)
    array = zarrdock.create_array(
        zarrdock.MemoryStore(), data=np.full((1,) * 63, 5), chunks=(1,) * 63, shards=(1,) * 63
    )
    assert array[(0,) * 63] == 5


def test_huge_arrays_cost_what_is_touched() -> None:
    n = 10**18
    array = zarrdock.create_array(zarrdock.MemoryStore(), shape=(n, n), dtype="i4", chunks=(4, 4), shards=(400, 400))
    array[n - 1, n // 3] = 7
    assert array[n - 1, n // 3] == 7
    assert array[n - 3 :, n // 3 - 1 : n // 3 + 1].sum() == 7
    assert array.oindex[[5, n - 1], [n // 3]].tolist() == [[0], [7]]
    assert array.size == n * n
    repr(array)
    with pytest.raises(SelectionError):
        array[n]
    array.resize((4, 4))
    assert array[...].sum() == 0


LIMITED = """
import json, resource, sys
import numpy, zstandard, zarrdock
from zarrdock.errors import ZarrdockError
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
cases = json.loads(sys.stdin.read())
bombs = {"zstd": zstandard.ZstdCompressor(level=3).compress(bytes(2**29)), "few": b"abcdefgh" * 9}
for document, bomb in cases:
    store = zarrdock.MemoryStore()
    store.write("zarr.json", json.dumps(document).encode())
    store.write("c/0", bombs[bomb])
    array = zarrdock.open_array(store)
    for read in (lambda: array[1], lambda: array[1:3]):
        try:
            read()
        except ZarrdockError as error:
            print(type(error).__name__)
try:
    # Not ru_maxrss: that begins with what the parent held when it started this process.
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print("peak", peak)
"""

CONFIGURATIONS = {
    "gzip": {"level": 1},
    "zstd": {"level": 1, "checksum": False},
    "blosc": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0},
}


def test_bombs_and_lies_cost_no_memory() -> None:
    cases = []
    plain = document()["codecs"]
    for name in (
        "zstd",
        "gzip",
        "numcodecs.lz4",
        "numcodecs.lzma",
        "numcodecs.bz2",
        "numcodecs.zlib",
        "numcodecs.zstd",
    ):
        codecs = [*plain, {"name": name, "configuration": CONFIGURATIONS.get(name, {})}]
        cases.append((document(codecs=codecs), "zstd"))  # of a chunk of 16 bytes
        cases.append((document(codecs=codecs), "few"))
        cases.append((document(shape=[10**18], chunk_grid=grid([10**12]), codecs=codecs), "few"))
    cases.append((document(shape=[10**18], chunk_grid=grid([10**12])), "few"))
    cases.append((document(shape=[10**18], chunk_grid=grid([10**12]), codecs=[sharding([1], plain)]), "few"))
    cases.append((document(codecs=[sharding([2], plain)]), "few"))
    done = subprocess.run([sys.executable, "-c", LIMITED], input=json.dumps(cases), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *errors, peak = done.stdout.split("\n")[:-1]
    assert set(errors) <= {"CodecError", "ShardIndexError", "ChecksumError"}
    # Of the large chunk without a compressor only the bytes wanted are read, and those are there.
    assert len(errors) == 2 * len(cases) - 2
    assert int(peak.split()[1]) < 400 * 2**20


@pytest.mark.parametrize("attributes", [{"a": object()}, {1: 2}, {"a": {1, 2}}, {"a": b"x"}])
def test_attributes_that_json_has_no_form_for_change_nothing(attributes) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=4, dtype="i4", attributes={"old": 1})
    before = bytes(store.get("zarr.json").data)
    with pytest.raises(ZarrdockError):
        array.attrs.update(attributes)
    assert bytes(store.get("zarr.json").data) == before
