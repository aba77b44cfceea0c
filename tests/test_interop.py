"""What zarrdock writes, read by zarr-python and by TensorStore: the other direction of ``test_golden.py``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock

pytestmark = pytest.mark.peer

SHAPE = (10, 13)
PLACES = [np.s_[:5, :], np.s_[8:, 11:]]  # written; the rest is fill value


def values(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """All bits of an element are used; every value is finite."""
    rng = np.random.default_rng(7)
    kind = np.dtype(dtype).kind
    if kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=np.dtype(dtype).newbyteorder("="), endpoint=True)
    if kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def write(path: Path, dtype: str = "int32", **arguments: Any) -> np.ndarray:
    """An array written in several parts, and what it should read as."""
    fill = arguments.pop("fill_value", 1)
    arguments = {"chunks": (3, 4), **arguments}
    array = zarrdock.create_array(path, shape=SHAPE, dtype=dtype, fill_value=fill, **arguments)
    data = values(dtype)
    expected = np.full(SHAPE, fill, array.dtype)
    for place in PLACES:
        array[place] = data[place]
        expected[place] = data[place]
    np.testing.assert_array_equal(zarrdock.open_array(path)[...], expected)
    return expected


def with_zarr(path: Path) -> np.ndarray:
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(zarr.open_array(str(path), mode="r")[...])


def with_tensorstore(path: Path) -> np.ndarray:
    import tensorstore as ts

    driver = "zarr3" if (path / "zarr.json").exists() else "zarr"
    kvstore = {"driver": "file", "path": f"{path}/"}
    found = ts.open({"driver": driver, "kvstore": kvstore}, open=True).result().read().result()
    return np.asarray(found)


PEERS = {"zarr": with_zarr, "tensorstore": with_tensorstore}


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> Any:
    return request.param


def check(peer: str, path: Path, expected: np.ndarray) -> None:
    found = PEERS[peer](path)
    assert found.shape == expected.shape
    assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, expected)


NUMBERS = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shards", [None, (6, 8)])
def test_data_types(peer: str, tmp_path: Path, dtype: str, shards: Any) -> None:
    check(peer, tmp_path, write(tmp_path, dtype, shards=shards))


NUMBERS_V2 = [
    ("<" if i % 2 else ">") + np.dtype(name).str[1:] for i, name in enumerate(NUMBERS) if np.dtype(name).itemsize > 1
]


@pytest.mark.parametrize("dtype", ["|b1", "|i1", "|u1", *NUMBERS_V2])
def test_data_types_of_v2(peer: str, tmp_path: Path, dtype: str) -> None:
    check(peer, tmp_path, write(tmp_path, dtype, zarr_format=2))


BLOSC = [
    {"cname": cname, "clevel": 3, "shuffle": shuffle}
    for cname, shuffle in [
        ("lz4", "shuffle"),
        ("lz4hc", "bitshuffle"),
        ("blosclz", "noshuffle"),
        ("zstd", "bitshuffle"),
        ("zlib", "shuffle"),
    ]
]
COMPRESSORS: dict[str, Any] = {
    "none": None,
    "auto": "auto",
    "zstd": {"name": "zstd", "configuration": {"level": 5, "checksum": True}},
    "zstd fast": {"name": "zstd", "configuration": {"level": -3, "checksum": False}},
    "gzip": {"name": "gzip", "configuration": {"level": 6}},
    "gzip 0": {"name": "gzip", "configuration": {"level": 0}},
    "crc32c": "crc32c",
    "gzip crc32c": [{"name": "gzip", "configuration": {"level": 1}}, "crc32c"],
    **{f"blosc {c['cname']}": {"name": "blosc", "configuration": c} for c in BLOSC},
    "blosc": "blosc",
}


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("shards", [None, (6, 8)])
def test_codecs(peer: str, tmp_path: Path, compressor: str, shards: Any) -> None:
    check(peer, tmp_path, write(tmp_path, "uint16", compressors=COMPRESSORS[compressor], shards=shards))


COMPRESSORS_V2: dict[str, Any] = {
    "none": None,
    "auto": "auto",
    "zlib": {"id": "zlib", "level": 3},
    "gzip": {"id": "gzip", "level": 3},
    "bz2": {"id": "bz2", "level": 3},
    "zstd": {"id": "zstd", "level": 3},
    "blosc": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
    "v3's": "gzip",
}


@pytest.mark.parametrize("compressor", COMPRESSORS_V2)
@pytest.mark.parametrize("order", ["C", "F"])
def test_codecs_of_v2(peer: str, tmp_path: Path, compressor: str, order: Any) -> None:
    arguments = {"compressors": COMPRESSORS_V2[compressor], "order": order, "zarr_format": 2}
    check(peer, tmp_path, write(tmp_path, ">u2", **arguments))


LAYOUTS: dict[str, dict[str, Any]] = {
    "index at start": {"shards": {"shape": (6, 8), "index_location": "start"}},
    "nested": {"shards": [(12, 16), (6, 8)]},
    "three levels": {"shards": [(24, 16), (12, 16), (6, 8)]},
    "nested, index at start": {"shards": {"shape": [(12, 16), (6, 8)], "index_location": "start"}},
    "one chunk a shard": {"shards": (3, 4)},
    "big endian": {"serializer": {"name": "bytes", "configuration": {"endian": "big"}}},
    "transposed": {"filters": [{"name": "transpose", "configuration": {"order": [1, 0]}}]},
    "transposed in shards": {
        "filters": [{"name": "transpose", "configuration": {"order": [1, 0]}}],
        "shards": (6, 8),
    },
    "order F": {"order": "F", "shards": (6, 8)},
    "empty chunks": {"options": {"write_empty_chunks": True}, "shards": (6, 8)},
    "chunks larger than the array": {"chunks": (30, 30), "shards": (60, 30)},
    "dots": {"chunk_key_encoding": "."},
    "v2's keys": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    **{
        f"order {name}": {"shards": (12, 16), "options": {"subchunk_write_order": name}}
        for name in ("morton", "hilbert", "unordered")
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(peer: str, tmp_path: Path, layout: str) -> None:
    check(peer, tmp_path, write(tmp_path, **LAYOUTS[layout]))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, -0.0, 0.1])
def test_fill_values(peer: str, tmp_path: Path, fill: float, zarr_format: Any) -> None:
    expected = write(tmp_path, "float32", fill_value=fill, zarr_format=zarr_format)
    found = PEERS[peer](tmp_path)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1, 1, 1)])
def test_shapes(peer: str, tmp_path: Path, shape: tuple[int, ...], zarr_format: Any) -> None:
    data = np.arange(np.prod(shape, dtype=int), dtype="int16").reshape(shape) + 5
    zarrdock.create_array(tmp_path, data=data, zarr_format=zarr_format)
    check(peer, tmp_path, data)


def test_what_is_said_of_an_array(tmp_path: Path) -> None:
    import zarr

    attributes = {"title": "größe", "n": 3, "list": [1, None, {"a": 2.5}]}
    group = zarrdock.create_group(tmp_path, attributes={"of": "group"})
    array = group.create_array(
        "a/b", shape=SHAPE, chunks=(3, 4), shards=(6, 8), dtype="u2", attributes=attributes, dimension_names=("y", None)
    )
    array.attrs["later"] = True
    group.create_array("old" if group.zarr_format == 2 else "c", shape=3, dtype="f4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = zarr.open_group(str(tmp_path), mode="r")
        member: Any = theirs["a/b"]
    assert dict(theirs.attrs) == {"of": "group"}
    assert sorted(theirs.keys()) == ["a", "c"]
    assert dict(member.attrs) == {**attributes, "later": True}
    assert (member.shape, member.chunks, member.shards) == (SHAPE, (3, 4), (6, 8))
    assert member.metadata.dimension_names == ("y", None)


def test_consolidated_metadata(tmp_path: Path) -> None:
    import zarr

    for zarr_format in (2, 3):
        path = tmp_path / str(zarr_format)
        group = zarrdock.create_group(path, zarr_format=zarr_format)  # type: ignore[arg-type]
        group.create_array("x/y", shape=4, dtype="i4", attributes={"a": 1})
        zarrdock.consolidate_metadata(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs: Any = zarr.open_consolidated(str(path))
            assert theirs.metadata.consolidated_metadata is not None
            assert theirs["x/y"].shape == (4,)
            assert dict(theirs["x/y"].attrs) == {"a": 1}


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("shape", [(12, 16), (10, 13)])
@pytest.mark.parametrize("write_order", ["at once", "in parts"])
def test_shards_are_tensorstores_byte_for_byte(tmp_path: Path, location: Any, shape: Any, write_order: str) -> None:
    """Uncompressed, chunks in C order, index with crc32c: nothing is left to the writer's taste."""
    import tensorstore as ts

    data = values("uint16", shape)
    data[:3, 4:8] = 1  # a chunk of fill value
    shards = {"shape": (6, 8), "index_location": location}
    arguments: Any = {"chunks": (3, 4), "shards": shards, "compressors": None, "fill_value": 1}
    ours = zarrdock.create_array(tmp_path / "ours", shape=shape, dtype="uint16", **arguments)
    if write_order == "at once":
        ours[...] = data
    else:
        for i in range(shape[0] - 1, -1, -1):
            ours[i] = data[i]
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{tmp_path}/theirs/"},
        "metadata": ours.metadata.to_json(),
    }
    ts.open(spec, create=True).result().write(data).result()
    keys = {p.relative_to(tmp_path / "ours").as_posix() for p in (tmp_path / "ours" / "c").rglob("*") if p.is_file()}
    assert len(keys) == 4
    for key in keys:
        assert (tmp_path / "ours" / key).read_bytes() == (tmp_path / "theirs" / key).read_bytes()
    np.testing.assert_array_equal(zarrdock.open_array(tmp_path / "theirs")[...], data)


@pytest.mark.parametrize("shards", [None, (6, 8), [(12, 16), (6, 8)]])
def test_each_goes_on_with_what_the_other_wrote(peer: str, tmp_path: Path, shards: Any) -> None:
    expected = write(tmp_path, shards=shards)
    if peer == "zarr":
        import zarr

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.open_array(str(tmp_path), mode="r+")[4:9, 1:3] = 77  # type: ignore[index]
    else:
        import tensorstore as ts

        kvstore = {"driver": "file", "path": f"{tmp_path}/"}
        ts.open({"driver": "zarr3", "kvstore": kvstore}, open=True).result()[4:9, 1:3].write(77).result()
    expected[4:9, 1:3] = 77
    ours = zarrdock.open_array(tmp_path, "r+")
    np.testing.assert_array_equal(ours[...], expected)
    ours[7:, 2:6] = 88
    expected[7:, 2:6] = 88
    check(peer, tmp_path, expected)
    ours.resize((12, 12))
    assert PEERS[peer](tmp_path).shape == (12, 12)
