"""zarr-python reads our documents as we do, and we read its documents as it does."""

import json
from typing import Any

import numpy as np
import pytest

from zarrdock.array.dtypes.dtype import data_type_of
from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.metadata.consolidated import consolidate, parse_consolidated_v2, to_consolidated_v2
from zarrdock.array.metadata.key_encodings import SeparatedKeys, parse_key_encoding
from zarrdock.array.metadata.v2 import documents, parse_array_v2, parse_group_v2
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, parse_node
from zarrdock.codecs.builtin import parse_codecs, with_defaults
from zarrdock.codecs.codec import ChunkSpec

zarr = pytest.importorskip("zarr")

pytestmark = [
    pytest.mark.peer,
    # What it says of data types without a specification, and of consolidated metadata, is not news here.
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore:.*not.*Zarr format 3 specification"),
]

DTYPES = ["bool", "int8", "uint16", "int32", "uint64", "float16", "float32", "float64", "complex64", "complex128", "V3"]


def fill_values(dtype: str) -> list[Any]:
    kind = np.dtype(dtype).kind
    if kind == "b":
        return [False, True]
    if kind in "iu":
        return [0, np.iinfo(dtype).max, np.iinfo(dtype).min]
    if kind == "f":
        return [0.0, -0.0, 0.1, np.nan, np.inf, -np.inf]
    if kind == "c":
        return [0j, 1 - 2j, complex(np.nan, -np.inf), complex(-0.0, 0.1)]
    return [b"\0\0\0", b"abc"]


CASES = [(dtype, i) for dtype in DTYPES for i in range(len(fill_values(dtype)))]


def content(store: dict[str, Any]) -> dict[str, bytes]:
    return {key: value.to_bytes() for key, value in store.items()}


def store_of(stored: dict[str, bytes]) -> Any:
    prototype = zarr.core.buffer.default_buffer_prototype()
    return zarr.storage.MemoryStore({key: prototype.buffer.from_bytes(value) for key, value in stored.items()})


def check_same(ours: ArrayMetadata, theirs: Any) -> None:
    metadata = theirs.metadata
    assert theirs.shape == ours.shape
    assert theirs.dtype == ours.dtype
    assert dict(theirs.attrs) == ours.attributes
    assert theirs.chunks == ours.grid.chunk_shape
    coords = tuple(range(3, 3 + ours.ndim))
    assert metadata.encode_chunk_key(coords) == ours.key_encoding.key(coords)
    if metadata.fill_value is None:
        assert ours.fill_value_is_null
    else:
        native = ours.dtype.newbyteorder("=")
        assert np.asarray(metadata.fill_value, native).tobytes() == np.asarray(ours.fill_value, native).tobytes()
    if ours.zarr_format == 3:
        assert metadata.dimension_names == ours.dimension_names


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("dtype", "i"), CASES)
def test_we_read_what_it_writes(dtype: str, i: int, zarr_format: int) -> None:
    raw: dict[str, Any] = {}
    theirs = zarr.create_array(
        zarr.storage.MemoryStore(raw),
        shape=(5, 0, 7),
        chunks=(2, 1, 7),
        dtype=dtype,
        fill_value=fill_values(dtype)[i],
        attributes={"a": [1, {"b": None}]},
        dimension_names=["x", None, "z"] if zarr_format == 3 else None,
        zarr_format=zarr_format,
    )
    stored = content(raw)
    if zarr_format == 3:
        ours = parse_node(stored["zarr.json"])
        assert isinstance(ours, ArrayMetadata)
        expected = json.loads(stored["zarr.json"])
        assert json.dumps(ours.to_json(), sort_keys=True) == json.dumps(expected, sort_keys=True)
    else:
        ours = parse_array_v2(stored[".zarray"], stored[".zattrs"])
    check_same(ours, theirs)


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("dtype", "i"), CASES)
def test_it_reads_what_we_write(dtype: str, i: int, zarr_format: int, byte_order: str) -> None:
    data_type = data_type_of(np.dtype(dtype).newbyteorder(byte_order), zarr_format=zarr_format)  # type: ignore[call-overload]
    name = {"<": "little", ">": "big"}[byte_order]
    chain: list[Any] = [
        {"name": "bytes", "configuration": {"endian": name}},
        {"name": "gzip", "configuration": {"level": 1}},
    ]
    fill_value = data_type.cast_fill(fill_values(dtype)[i])
    spec = ChunkSpec((2, 1, 7), data_type.numpy, fill_value)
    ours = ArrayMetadata(
        shape=(5, 0, 7),
        data_type=data_type,
        grid=RegularGrid(spec.shape),
        key_encoding=SeparatedKeys("v2", "/"),
        fill_value=fill_value,
        codecs=with_defaults(parse_codecs(chain), spec),
        attributes={"a": [1, {"b": None}]},
        dimension_names=("x", None, "z") if zarr_format == 3 else None,
        zarr_format=2 if zarr_format == 2 else 3,
    )
    check_same(ours, zarr.open_array(store_of(documents(ours)), mode="r"))


@pytest.mark.parametrize("encoding", [SeparatedKeys(n, s) for n in ("default", "v2") for s in ("/", ".")])  # type: ignore[arg-type]
@pytest.mark.parametrize("ndim", [0, 1, 3])
def test_chunk_keys(encoding: SeparatedKeys, ndim: int) -> None:
    theirs = zarr.core.chunk_key_encodings.parse_chunk_key_encoding(encoding.to_json())
    coords = (0, 10, 7)[:ndim]
    assert theirs.encode_chunk_key(coords) == encoding.key(coords)
    assert parse_key_encoding(theirs.to_dict()) == encoding


@pytest.mark.parametrize("chunks", [(1,), (4,)])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zero_lengths(chunks: tuple[int], zarr_format: int) -> None:
    raw: dict[str, Any] = {}
    store = zarr.storage.MemoryStore(raw)
    zarr.create_array(store, shape=(0,), chunks=chunks, dtype="f4", zarr_format=zarr_format)
    stored = content(raw)
    ours = parse_node(stored["zarr.json"]) if zarr_format == 3 else parse_array_v2(stored[".zarray"], None)
    assert isinstance(ours, ArrayMetadata)
    assert ours.grid == RegularGrid(chunks)
    assert ours.grid.n_chunks(ours.shape) == (0,)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_it_opens_what_we_consolidate(zarr_format: int) -> None:
    raw: dict[str, Any] = {}
    store = zarr.storage.MemoryStore(raw)
    root = zarr.create_group(store, zarr_format=zarr_format, attributes={"root": 1})
    inner = root.create_group("a").create_group("b", attributes={"b": 2})
    inner.create_array("c", shape=(3,), dtype="i4")
    root.create_array("z", shape=(4,), dtype="f8", fill_value=np.nan)
    stored = content(raw)
    if zarr_format == 3:
        nodes: dict[str, Any] = {
            key.removesuffix("/zarr.json"): parse_node(stored[key], key) for key in stored if "/" in key
        }
        ours = consolidate(GroupMetadata(attributes={"root": 1}), nodes)
        stored |= documents(ours)
    else:
        nodes = {path: parse_group_v2(stored[f"{path}/.zgroup"], stored[f"{path}/.zattrs"]) for path in ("a", "a/b")}
        nodes |= {path: parse_array_v2(stored[f"{path}/.zarray"], stored[f"{path}/.zattrs"]) for path in ("a/b/c", "z")}
        ours = consolidate(GroupMetadata(attributes={"root": 1}, zarr_format=2), nodes)
        stored[".zmetadata"] = json.dumps(to_consolidated_v2(ours)).encode()
    opened = zarr.open_consolidated(store_of(stored), zarr_format=zarr_format)
    assert dict(opened.attrs) == {"root": 1}
    assert opened.metadata.consolidated_metadata is not None
    assert sorted(name for name, _ in opened.members(max_depth=None)) == ["a", "a/b", "a/b/c", "z"]
    assert opened["a/b"].attrs["b"] == 2
    check_same(nodes["a/b/c"], opened["a/b/c"])
    check_same(nodes["z"], opened["z"])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_we_open_what_it_consolidates(zarr_format: int) -> None:
    raw: dict[str, Any] = {}
    store = zarr.storage.MemoryStore(raw)
    root = zarr.create_group(store, zarr_format=zarr_format, attributes={"root": 1})
    root.create_group("a").create_group("b").create_array("c", shape=(3,), dtype="i4", attributes={"nan": 0.5})
    zarr.consolidate_metadata(store, zarr_format=zarr_format)
    stored = content(raw)
    ours = parse_node(stored["zarr.json"]) if zarr_format == 3 else parse_consolidated_v2(stored[".zmetadata"])
    assert isinstance(ours, GroupMetadata)
    assert ours.consolidated is not None
    assert sorted(ours.consolidated) == ["a", "a/b", "a/b/c"]
    array = ours.consolidated["a/b/c"]
    assert isinstance(array, ArrayMetadata)
    check_same(array.require_known(), zarr.open_array(store, path="a/b/c", mode="r"))
    inner = ours.consolidated["a"]
    assert isinstance(inner, GroupMetadata)
    assert inner.consolidated is not None
    assert inner.consolidated["b/c"] == array
