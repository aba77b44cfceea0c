"""Zarr v2 documents."""

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
import zarr

import zarrdock
from zarrdock.adapters import ZarrStore
from zarrdock.array.dtypes.dtype import data_type_of
from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.metadata.key_encodings import SeparatedKeys
from zarrdock.array.metadata.unknown import UnknownCodec, UnknownDataType
from zarrdock.array.metadata.v2 import documents, parse_array_v2, parse_group_v2, to_v2_documents
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, parse_node
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.gzip_ import Gzip
from zarrdock.codecs.transpose import Transpose
from zarrdock.errors import MetadataError, UnknownExtensionError, UnsupportedError

EXAMPLE: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [10000, 10000],
    "chunks": [1000, 1000],
    "dtype": "<f8",
    "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
    "fill_value": "NaN",
    "order": "C",
    "filters": [{"id": "delta", "dtype": "<f8", "astype": "<f4"}],
}


def parsed(attributes: dict[str, Any] | None = None, *, lenient: bool = False, **changes: Any) -> ArrayMetadata:
    zattrs = None if attributes is None else json.dumps(attributes).encode()
    return parse_array_v2(json.dumps(EXAMPLE | changes).encode(), zattrs, "a/.zarray", lenient=lenient)


def test_the_example_of_the_specification() -> None:
    metadata = parsed({"foo": 42})
    assert (metadata.zarr_format, metadata.shape, metadata.dtype) == (2, (10000, 10000), np.dtype("<f8"))
    assert metadata.grid == RegularGrid((1000, 1000))
    assert metadata.key_encoding == SeparatedKeys("v2", ".")
    assert math.isnan(metadata.fill_value)
    assert metadata.attributes == {"foo": 42}
    assert [codec.name for codec in metadata.codecs] == ["numcodecs.delta", "bytes", "blosc"]
    assert to_v2_documents(metadata) == {
        ".zarray": EXAMPLE | {"dimension_separator": "."},
        ".zattrs": {"foo": 42},
    }


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"zarr_format": 3}, "/zarr_format"),
        ({"zarr_format": 2.5}, "/zarr_format"),
        ({"shape": [1]}, "/chunks"),
        ({"shape": [-1, 1]}, "/shape/0"),
        ({"shape": "10"}, "/shape"),
        ({"chunks": [1, None]}, "/chunks/1"),
        ({"chunks": [0, 1]}, "/chunks/0"),
        ({"chunks": None}, "/chunks"),
        ({"dtype": "f8"}, "/dtype"),
        ({"dtype": None}, "/dtype"),
        ({"fill_value": "none"}, "/fill_value"),
        ({"fill_value": []}, "/fill_value"),
        ({"order": "A"}, "/order"),
        ({"order": None}, "/order"),
        ({"order": ["C"]}, "/order"),
        ({"dimension_separator": "-"}, "/dimension_separator"),
        ({"compressor": "zlib"}, "/compressor"),
        ({"compressor": {}}, "/compressor/id"),
        ({"compressor": {"id": "zlib", "level": "high"}}, "/compressor/level"),
        ({"filters": "delta"}, "/filters"),
        ({"filters": [3]}, "/filters/0"),
    ],
)
def test_wrong_documents(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parsed(**changes)
    assert (caught.value.key, caught.value.pointer) == ("a/.zarray", pointer)
    assert caught.value.expected


@pytest.mark.parametrize("member", ["zarr_format", "shape", "chunks", "dtype"])
def test_missing_members(member: str) -> None:
    document = {name: value for name, value in EXAMPLE.items() if name != member}
    with pytest.raises(MetadataError, match=member):
        parse_array_v2(json.dumps(document).encode(), None)


def test_a_document_without_filters_has_none() -> None:
    document = {name: value for name, value in EXAMPLE.items() if name != "filters"}
    metadata = parse_array_v2(json.dumps(document).encode(), None)
    assert [codec.name for codec in metadata.codecs] == ["bytes", "blosc"]
    assert to_v2_documents(metadata)[".zarray"]["filters"] is None


@pytest.mark.parametrize(
    ("changes", "kind", "name", "pointer"),
    [
        ({"dtype": [["a", "<f16"]], "fill_value": None}, "data type", "float128", "/dtype/0/1"),
        ({"dtype": "<g16", "fill_value": None}, "data type", "<g16", "/dtype"),
        ({"compressor": {"id": "nonsense"}}, "codec", "nonsense", "/compressor/id"),
        ({"filters": [{"id": "nonsense"}]}, "codec", "nonsense", "/filters/0/id"),
    ],
)
def test_unknown_extensions(changes: dict[str, Any], kind: str, name: str, pointer: str) -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        parsed(**changes)
    error = caught.value
    assert (error.kind, error.name, error.pointer, error.key) == (kind, name, pointer, "a/.zarray")
    metadata = parsed(**changes, lenient=True)
    assert [(error.kind, error.name) for error in metadata.unknown] == [(kind, name)]
    assert to_v2_documents(metadata)[".zarray"] == EXAMPLE | {"dimension_separator": "."} | changes
    with pytest.raises(UnknownExtensionError):
        metadata.require_known()


def test_objects_are_not_supported_but_can_be_looked_at() -> None:
    changes = {"dtype": "<i4", "fill_value": 0, "filters": [{"id": "pickle", "protocol": 5}]}
    with pytest.raises(UnsupportedError):
        parsed(**changes)
    metadata = parsed(**changes, lenient=True)
    assert isinstance(metadata.codecs[0], UnknownCodec)
    assert "pickle" in str(metadata.unknown[0])
    unknown = parsed(dtype="|O", filters=[{"id": "delta"}], fill_value="", lenient=True)
    assert isinstance(unknown.data_type, UnknownDataType)
    assert unknown.fill_value == ""
    for fill_value in ("", None):
        first, second = (parsed(dtype="|O", fill_value=fill_value, lenient=True) for _ in range(2))
        assert first == second
        assert hash(first) == hash(second)
        assert to_v2_documents(first)[".zarray"]["fill_value"] == fill_value


def test_null_means_no_fill_value() -> None:
    metadata = parsed(fill_value=None)
    assert metadata.fill_value_is_null
    assert metadata.fill_value == 0
    assert to_v2_documents(metadata)[".zarray"]["fill_value"] is None
    assert metadata != parsed(fill_value=0)
    given = metadata.replace(fill_value=metadata.data_type.cast_fill(1.5))
    assert not given.fill_value_is_null
    assert to_v2_documents(given)[".zarray"]["fill_value"] == 1.5
    assert metadata.replace(attributes={"a": 1}).fill_value_is_null


@pytest.mark.peer
def test_without_a_fill_value_every_writer_stores_zeros() -> None:
    """Missing chunks are undefined to other readers, whichever way the chunks were written."""
    changes = {"shape": [4], "chunks": [2], "dtype": "<i4", "fill_value": None, "filters": None, "compressor": None}
    source = {".zarray": json.dumps(EXAMPLE | changes).encode()}
    array = zarrdock.open_array(source, "r+")
    array[:2] = 0
    assert "0" in source
    again: dict[str, bytes] = {}
    zarrdock.copy(source, again, compressors=["gzip"], zarr_format=2)
    assert "0" in again
    with zarr.config.set({"codec_pipeline.path": "zarrdock.adapters.zarr_python.CodecPipeline"}):
        zarr.open_array(ZarrStore(source), mode="r+")[2:] = 0
    assert "1" in source


@pytest.mark.parametrize("fields", [["f1", "", ""], ["", "f1", "f0"], ["a", "", "f1"]])
def test_padding_gets_a_name_of_its_own(fields: list[str]) -> None:
    document = [[name, "|u1"] for name in fields]
    metadata = parsed(dtype=document, fill_value=None)
    names = metadata.dtype.names
    assert names is not None
    assert len(set(names)) == len(fields)
    assert [name for name, given in zip(names, fields, strict=True) if given] == [given for given in fields if given]
    assert to_v2_documents(metadata)[".zarray"]["dtype"] == document


@pytest.mark.parametrize("dtype", [">i4", "<i4", ">c16", ">f2", "|b1", "|V7", ">u8"])
def test_byte_order_is_kept(dtype: str) -> None:
    metadata = parsed(dtype=dtype, fill_value=None, filters=None)
    assert metadata.dtype == np.dtype(dtype)
    assert metadata.fill_value.dtype == np.dtype(dtype).newbyteorder("=")
    assert to_v2_documents(metadata)[".zarray"]["dtype"] == dtype


def test_order_f_and_separator() -> None:
    metadata = parsed(order="F", dimension_separator="/", filters=None, compressor=None)
    assert metadata.codecs == (Transpose((1, 0)), Bytes("little"))
    assert metadata.key_encoding.key((1, 2)) == "1/2"
    zarray = to_v2_documents(metadata)[".zarray"]
    assert (zarray["order"], zarray["dimension_separator"]) == ("F", "/")
    assert parsed(dimension_separator=None).key_encoding.separator == "."


def test_other_members_are_kept() -> None:
    metadata = parsed(note={"by": "someone"})
    assert metadata.extra == {"note": {"by": "someone"}}
    assert to_v2_documents(metadata)[".zarray"]["note"] == {"by": "someone"}


def test_new_codecs_replace_the_old_members() -> None:
    metadata = parsed(order="F").replace(codecs=(Bytes("little"), Gzip(3)))
    zarray = to_v2_documents(metadata)[".zarray"]
    assert (zarray["compressor"], zarray["filters"], zarray["order"]) == ({"id": "gzip", "level": 3}, None, "C")


def test_a_new_array() -> None:
    data_type = data_type_of(">i2", zarr_format=2)
    metadata = ArrayMetadata(
        shape=(4, 6),
        data_type=data_type,
        grid=RegularGrid((2, 3)),
        key_encoding=SeparatedKeys("v2", "/"),
        fill_value=data_type.cast_fill(-1),
        codecs=(Transpose((1, 0)), Bytes("big"), Gzip(1)),
        zarr_format=2,
    )
    stored = documents(metadata)
    assert sorted(stored) == [".zarray", ".zattrs"]
    assert json.loads(stored[".zarray"]) == {
        "zarr_format": 2,
        "shape": [4, 6],
        "chunks": [2, 3],
        "dtype": ">i2",
        "compressor": {"id": "gzip", "level": 1},
        "fill_value": -1,
        "order": "F",
        "filters": None,
        "dimension_separator": "/",
    }
    again = parse_array_v2(stored[".zarray"], stored[".zattrs"])
    assert again.replace(v2=None) == metadata
    assert pickle.loads(pickle.dumps(again)) == again


def test_what_v2_cannot_say() -> None:
    metadata = parsed(filters=None).replace(codecs=(Transpose((0, 1)), Bytes("big")))
    with pytest.raises(UnsupportedError):
        to_v2_documents(metadata)
    with pytest.raises(UnsupportedError):
        to_v2_documents(GroupMetadata())


def test_dimension_names_of_xarray() -> None:
    assert parsed({"_ARRAY_DIMENSIONS": ["y", "x"]}).dims == ("y", "x")
    assert parsed({"_ARRAY_DIMENSIONS": ["y", "x"]}).dimension_names is None
    for wrong in (["y"], "yx", [1, 2], None):
        assert parsed({"_ARRAY_DIMENSIONS": wrong}).dims is None
    assert parsed().dims is None


def test_groups() -> None:
    metadata = parse_group_v2(b'{"zarr_format": 2}', b'{"a": NaN}', "g/.zgroup")
    assert math.isnan(metadata.attributes["a"])
    assert to_v2_documents(metadata)[".zgroup"] == {"zarr_format": 2}
    assert sorted(documents(metadata)) == [".zattrs", ".zgroup"]
    # zarr-python 3 does this.
    inline = {"metadata": {}, "must_understand": False, "kind": "inline"}
    strange = json.dumps({"zarr_format": 2, "consolidated_metadata": inline}).encode()
    assert parse_group_v2(strange, None) == GroupMetadata(zarr_format=2)


@pytest.mark.parametrize(
    ("zgroup", "zattrs", "key", "pointer"),
    [
        (b"[]", None, "g/.zgroup", ""),
        (b"{}", None, "g/.zgroup", "/zarr_format"),
        (b'{"zarr_format": 3}', None, "g/.zgroup", "/zarr_format"),
        (b'{"zarr_format": 2}', b"[1]", "g/.zattrs", ""),
        (b'{"zarr_format": 2}', b"x", "g/.zattrs", ""),
    ],
)
def test_wrong_groups(zgroup: bytes, zattrs: bytes | None, key: str, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_group_v2(zgroup, zattrs, "g/.zgroup")
    assert (caught.value.key, caught.value.pointer) == (key, pointer)


def test_wrong_attributes_of_an_array_name_their_document() -> None:
    with pytest.raises(MetadataError) as caught:
        parse_array_v2(json.dumps(EXAMPLE).encode(), b"{", ".zarray")
    assert caught.value.key == ".zattrs"


def test_documents_of_both_formats() -> None:
    group = GroupMetadata(attributes={"a": 1})
    assert parse_node(documents(group)["zarr.json"]) == group
    with pytest.raises(MetadataError) as caught:
        documents(GroupMetadata(attributes={"a": np.int8(1)}, zarr_format=2))
    assert (caught.value.key, caught.value.pointer) == (".zattrs", "/a")


def test_chunks_of_zeros_are_stored_where_there_is_no_fill_value() -> None:
    """What is missing there is undefined: zarr-python 2 gives what memory happened to hold."""
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, shape=8, dtype="i4", chunks=4, zarr_format=2)
    document = json.loads(bytes(store.get(".zarray").data))  # type: ignore[union-attr]
    store.write(".zarray", json.dumps(document | {"fill_value": None}).encode())
    array = zarrdock.open_array(store, "r+")
    array[:4] = 0
    array[5] = 0
    assert {entry.key for entry in store.list()} >= {"0", "1"}
