"""Documents that break the specification and can only mean one thing: read as meant, noted, written strictly."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.array.metadata.v2 import documents, parse_array_v2, parse_group_v2, to_v2_documents
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node, parse_node
from zarrdock.checking import check
from zarrdock.errors import MetadataError

V2: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [4],
    "chunks": [2],
    "dtype": "<i4",
    "compressor": None,
    "fill_value": 0,
    "order": "C",
    "filters": None,
}
V3: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [4],
    "data_type": "int32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "attributes": {},
}
BLOSC_V2 = {"id": "blosc", "cname": "lz4", "clevel": 5, "blocksize": 0}
BLOSC = {"cname": "lz4", "clevel": 5, "blocksize": 0}
BYTES = V3["codecs"][0]
CRC = {"name": "crc32c"}
GONE: Any = ...  # the member is left out


def changed(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (copy.deepcopy(document) | changes).items() if value is not GONE}


def sharded(**blosc: Any) -> list[Any]:
    inner = {"name": "blosc", "configuration": BLOSC | blosc}
    configuration = {"chunk_shape": [1], "codecs": [BYTES, inner], "index_codecs": [BYTES, CRC]}
    return [{"name": "sharding_indexed", "configuration": configuration | {"index_location": "end"}}]


@pytest.mark.parametrize(
    ("changes", "strict", "pointer"),
    [
        ({"fill_value": "0"}, {"fill_value": 0}, "/fill_value"),
        ({"fill_value": "-7.0"}, {"fill_value": -7}, "/fill_value"),
        ({"fill_value": " 1e3 "}, {"fill_value": 1000}, "/fill_value"),
        ({"dtype": "<f4", "fill_value": "1.5"}, {"dtype": "<f4", "fill_value": 1.5}, "/fill_value"),
        ({"dtype": "<f8", "fill_value": "nan"}, {"dtype": "<f8", "fill_value": "NaN"}, "/fill_value"),
        ({"dtype": "<f8", "fill_value": "-inf"}, {"dtype": "<f8", "fill_value": "-Infinity"}, "/fill_value"),
        ({"dtype": "|b1", "fill_value": "False"}, {"dtype": "|b1", "fill_value": False}, "/fill_value"),
        ({"dtype": "|b1", "fill_value": "1"}, {"dtype": "|b1", "fill_value": True}, "/fill_value"),
        ({"dtype": "<c8", "fill_value": "2"}, {"dtype": "<c8", "fill_value": [2, 0]}, "/fill_value"),
        ({"dtype": "<c8", "fill_value": ["1", "nan"]}, {"dtype": "<c8", "fill_value": [1, "NaN"]}, "/fill_value/0"),
        ({"dtype": "<M8[s]", "fill_value": "5"}, {"dtype": "<M8[s]", "fill_value": 5}, "/fill_value"),
        ({"fill_value": GONE}, {"fill_value": None}, ""),
        ({"order": GONE}, {}, ""),
        ({"compressor": GONE}, {}, ""),
        ({"filters": GONE}, {}, ""),
        ({"shape": 4}, {}, "/shape"),
        ({"chunks": 2}, {}, "/chunks"),
        ({"shape": 4.0, "chunks": 2}, {}, "/shape"),
        ({"shape": [4.0, 1], "chunks": [2, 1.0]}, {"shape": [4, 1], "chunks": [2, 1]}, "/shape"),
        ({"zarr_format": 2.0}, {}, "/zarr_format"),
        ({"dtype": "uint8"}, {"dtype": "|u1"}, "/dtype"),
        ({"filters": {}}, {}, "/filters"),
        (
            {"filters": {"id": "delta", "dtype": "<i4", "astype": "<i4"}},
            {"filters": [{"id": "delta", "dtype": "<i4", "astype": "<i4"}]},
            "/filters",
        ),
        (
            {"compressor": BLOSC_V2 | {"shuffle": 1, "clevel": "5", "blocksize": 0.0}},
            {"compressor": BLOSC_V2 | {"shuffle": 1}},
            "/compressor/clevel",
        ),
        ({"compressor": BLOSC_V2 | {"shuffle": 1, "nthreads": 1}}, {"compressor": BLOSC_V2 | {"shuffle": 1}}, None),
        *(
            ({"compressor": {"id": name, "level": lax}}, {"compressor": {"id": name, "level": level}}, None)
            for name, lax, level in (
                ("gzip", -1, 6),
                ("gzip", "2", 2),
                ("zlib", "1", 1),
                ("zstd", 3.0, 3),
            )
        ),
        *(
            (
                {"compressor": BLOSC_V2 | {"shuffle": text}},
                {"compressor": BLOSC_V2 | {"shuffle": n}},
                "/compressor/shuffle",
            )
            for n, text in enumerate(("noshuffle", "shuffle", "bitshuffle"))
        ),
        (
            {"filters": [BLOSC_V2 | {"shuffle": "shuffle"}]},
            {"filters": [BLOSC_V2 | {"shuffle": 1}]},
            "/filters/0/shuffle",
        ),
    ],
)
def test_documents_of_v2(changes: dict[str, Any], strict: dict[str, Any], pointer: str | None) -> None:
    document = changed(V2, changes)
    before = copy.deepcopy(document)
    found = parse_array_v2(json.dumps(document).encode(), None)
    wanted = parse_array_v2(json.dumps(changed(V2, strict)).encode(), None)
    assert found == wanted
    assert wanted.leniencies == ()
    first = found.leniencies[0]
    assert first.document == ".zarray"
    assert first.pointer == pointer or (pointer is None and first.pointer.startswith("/compressor/"))
    assert to_v2_documents(found)[".zarray"] == changed(V2, strict) | {"dimension_separator": "."}
    assert document == before


@pytest.mark.parametrize(
    ("changes", "strict", "pointer"),
    [
        *(
            ({"data_type": kind, "fill_value": lax}, {"data_type": kind, "fill_value": strict}, "/fill_value")
            for kind, lax, strict in (
                ("int32", 0.0, 0),
                ("uint8", "3", 3),
                ("bool", 0, False),
                ("bool", 1.0, True),
                ("float32", "nan", "NaN"),
                ("float64", "0", 0.0),
                ("bfloat16", "inf", "Infinity"),
                ("int4", 3.0, 3),
                ("complex64", 0, [0.0, 0.0]),
            )
        ),
        *(
            (
                {"codecs": [BYTES, {"name": name, "configuration": {"level": lax} | more}]},
                {"codecs": [BYTES, {"name": name, "configuration": {"level": level} | more}]},
                "/codecs/1/configuration/level",
            )
            for name, lax, level, more in (
                ("gzip", -1, 6, {}),
                ("gzip", 1.0, 1, {}),
                ("zstd", "3", 3, {"checksum": True}),
            )
        ),
        ({"shape": 4}, {}, "/shape"),
        ({"shape": [4.0]}, {}, "/shape"),
        (
            {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": 2}}},
            {},
            "/chunk_grid/configuration/chunk_shape",
        ),
        ({"dimension_names": "x"}, {"dimension_names": ["x"]}, "/dimension_names"),
        ({"attributes": None}, {}, "/attributes"),
        ({"attributes": []}, {}, "/attributes"),
        ({"zarr_format": 3.0}, {}, "/zarr_format"),
        (
            {"chunk_key_encoding": {"name": "default", "configuration": None}},
            {},
            "/chunk_key_encoding/configuration",
        ),
        (
            {"codecs": [BYTES, {"name": "blosc", "configuration": BLOSC | {"shuffle": "shuffle"}}]},
            {"codecs": [BYTES, {"name": "blosc", "configuration": BLOSC | {"shuffle": "shuffle", "typesize": 4}}]},
            "/codecs/1/configuration",
        ),
        (
            {"codecs": [BYTES, {"name": "blosc", "configuration": BLOSC | {"shuffle": 2, "typesize": 4}}]},
            {"codecs": [BYTES, {"name": "blosc", "configuration": BLOSC | {"shuffle": "bitshuffle", "typesize": 4}}]},
            "/codecs/1/configuration/shuffle",
        ),
        (
            {"codecs": sharded(shuffle="shuffle")},
            {"codecs": sharded(shuffle="shuffle", typesize=4)},
            "/codecs/0/configuration/codecs/1/configuration",
        ),
        (
            {
                "shape": [4, 2],
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2.0, 1]}},
                "codecs": [{"name": "transpose", "configuration": {"order": [1.0, 0]}}, BYTES],
            },
            {
                "shape": [4, 2],
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 1]}},
                "codecs": [{"name": "transpose", "configuration": {"order": [1, 0]}}, BYTES],
            },
            "/chunk_grid/configuration/chunk_shape",
        ),
    ],
)
def test_documents_of_v3(changes: dict[str, Any], strict: dict[str, Any], pointer: str) -> None:
    document = changed(V3, changes)
    before = copy.deepcopy(document)
    found = ArrayMetadata.from_json(document)
    wanted = ArrayMetadata.from_json(changed(V3, strict))
    assert found == wanted
    assert wanted.leniencies == ()
    assert next((one.document, one.pointer) for one in found.leniencies) == ("zarr.json", pointer)
    assert json.dumps(found.to_json()) == json.dumps(wanted.to_json())
    assert document == before


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"fill_value": "300", "dtype": "|u1"}, "/fill_value"),
        ({"fill_value": "1.5"}, "/fill_value"),
        ({"fill_value": ""}, "/fill_value"),
        ({"fill_value": "x"}, "/fill_value"),
        ({"fill_value": "0x10"}, "/fill_value"),
        ({"fill_value": "9" * 5000}, "/fill_value"),
        ({"fill_value": True}, "/fill_value"),
        ({"fill_value": "2", "dtype": "|b1"}, "/fill_value"),
        ({"shape": 4, "chunks": [2, 2]}, "/shape"),
        ({"shape": [4, 4], "chunks": 2}, "/chunks"),
        ({"shape": [4.5]}, "/shape/0"),
        ({"shape": True}, "/shape"),
        ({"dtype": "int32"}, "/dtype"),
        ({"compressor": BLOSC_V2 | {"shuffle": "bits"}}, "/compressor/shuffle"),
    ],
)
def test_what_is_not_certain_is_refused(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_array_v2(json.dumps(changed(V2, changes)).encode(), None, "a/.zarray")
    assert (caught.value.key, caught.value.pointer) == ("a/.zarray", pointer)


# -- text of attributes -----------------------------------------------------------------------------------------------

LATIN = '{"name": "caf\u00e9"}'.encode("latin-1")
TWICE = b'{"units": "m", "units": "km", "x": {"y": 1, "y": 2}}'


@pytest.mark.parametrize(
    ("zattrs", "attributes", "n"),
    [(LATIN, {"name": "café"}, 1), (TWICE, {"units": "km", "x": {"y": 2}}, 2), (b"null", {}, 1), (b"[]", {}, 1)],
)
def test_attributes_of_v2(zattrs: bytes, attributes: dict[str, Any], n: int) -> None:
    nodes: list[Node] = [
        parse_array_v2(json.dumps(V2).encode(), zattrs),
        parse_group_v2(b'{"zarr_format": 2}', zattrs),
    ]
    for node in nodes:
        assert node.attributes == attributes
        assert [one.document for one in node.leniencies] == [".zattrs"] * n
        assert json.loads(documents(node)[".zattrs"]) == attributes


@pytest.mark.parametrize("kind", ["array", "group", "consolidated"])
@pytest.mark.parametrize(("text", "attributes"), [(LATIN, {"name": "café"}), (TWICE, {"units": "km", "x": {"y": 2}})])
def test_attributes_of_v3(kind: str, text: bytes, attributes: dict[str, Any]) -> None:
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    members: dict[str, Any] = group
    if kind == "array":
        members = V3
    elif kind == "consolidated":
        inline = {"kind": "inline", "must_understand": False, "metadata": {"a": V3}}
        members = {"zarr_format": 3, "node_type": "group", "consolidated_metadata": inline}
    document = json.dumps(members).encode().replace(b'"attributes": {}', b'"attributes": ' + text)
    node = parse_node(document, "zarr.json")
    if kind == "consolidated":
        assert isinstance(node, GroupMetadata)
        assert node.consolidated is not None
        assert node.consolidated["a"].attributes == attributes
    else:
        assert node.attributes == attributes
    assert node.leniencies
    assert all(one.document == "zarr.json" for one in node.leniencies)


@pytest.mark.parametrize(
    "document",
    [
        json.dumps(V3).encode().replace(b'"shape": [4]', b'"shape": [4], "shape": [5]'),
        json.dumps(V3).encode().replace(b'"attributes": {}', b'"attributes": {}, "attributes": {"a": 1}'),
        json.dumps(V3).encode().replace(b'"endian": "little"', b'"endian": "little", "endian": "big"'),
        json.dumps(V3 | {"dimension_names": ["x"]}).encode().replace(b'"x"', b'"\xe9"'),
        json.dumps(V3 | {"caf": {"must_understand": False}}).encode().replace(b'"caf"', b'"caf\xe9"'),
        json.dumps(V3).encode() + b"\xe9",
    ],
)
def test_outside_of_attributes_text_is_strict(document: bytes) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_node(document, "a/zarr.json")
    assert caught.value.key == "a/zarr.json"


def test_attributes_too_deep_are_refused() -> None:
    text = b'{"a": 1, "a": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    with pytest.raises(MetadataError):
        parse_array_v2(json.dumps(V2).encode(), text)


# -- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "fill"),
    [
        ({"dtype": "|O", "filters": [{"id": "vlen-utf8"}], "fill_value": 0}, 0),
        ({"dtype": [["a", "<i4"], ["b", "|u1"]], "fill_value": 0}, 0),
        ({"dtype": [["a", "<i4"], ["b", "|u1"]], "fill_value": "AQAAAAI="}, "AQAAAAI="),
        ({"dtype": "|S4", "fill_value": "YQ=="}, "YQ=="),
        ({"dtype": "|b1", "fill_value": 0}, 0),
        ({"dtype": "<f4", "fill_value": 1}, 1),
        ({"dtype": "<c8", "fill_value": 0}, 0),
        ({"fill_value": 1.0}, 1.0),
        ({"fill_value": None}, None),
    ],
)
def test_a_fill_value_of_v2_is_written_as_it_was_found(changes: dict[str, Any], fill: Any, tmp_path: Path) -> None:
    (tmp_path / ".zarray").write_text(json.dumps(V2 | changes))
    array = zarrdock.open_array(tmp_path, "r+")
    array.resize((6,))
    array.attrs["a"] = 1
    written = json.loads((tmp_path / ".zarray").read_text())["fill_value"]
    assert (written, type(written)) == (fill, type(fill))


@pytest.mark.parametrize(("dtype", "fill", "strict"), [("<f4", math.nan, "NaN"), ("<f8", -math.inf, "-Infinity")])
def test_literals_that_are_no_json_are_not_written_again(dtype: str, fill: float, strict: str) -> None:
    for lax, good in ((fill, strict), ([fill, 0.0], [strict, 0.0])):
        kind = dtype if lax is fill else "<c16"
        metadata = parse_array_v2(json.dumps(V2 | {"dtype": kind, "fill_value": lax}).encode(), None)
        assert to_v2_documents(metadata)[".zarray"]["fill_value"] == good
        assert metadata == parse_array_v2(json.dumps(V2 | {"dtype": kind, "fill_value": lax}).encode(), None)


def test_another_fill_value_or_type_does_not_keep_it() -> None:
    metadata = parse_array_v2(json.dumps(V2 | {"fill_value": 1.0}).encode(), None)
    assert to_v2_documents(metadata.replace(fill_value=np.int32(2)))[".zarray"]["fill_value"] == 2
    assert repr(to_v2_documents(metadata.replace(data_type=metadata.data_type))[".zarray"]["fill_value"]) == "1"


def test_a_document_is_strict_once_it_was_written(tmp_path: Path) -> None:
    (tmp_path / ".zarray").write_text(json.dumps(V2 | {"fill_value": "7"}))
    (tmp_path / ".zattrs").write_bytes(LATIN)
    array = zarrdock.open_array(tmp_path, "r+")
    assert [one.document for one in array.metadata.leniencies] == [".zarray", ".zattrs"]
    array.attrs["more"] = 1
    assert [one.document for one in array.metadata.leniencies] == [".zarray"]
    assert json.loads((tmp_path / ".zattrs").read_bytes()) == {"name": "café", "more": 1}
    array.resize((3,))
    assert array.metadata.leniencies == ()
    assert json.loads((tmp_path / ".zarray").read_text())["fill_value"] == 7
    assert zarrdock.open_array(tmp_path).metadata.leniencies == ()


def test_a_copy_of_a_hierarchy_is_strict(tmp_path: Path) -> None:
    zarrdock.create_group(tmp_path / "a").create_array("good", data=np.arange(3))
    folder = tmp_path / "a" / "flags"
    folder.mkdir()
    document = changed(V3, {"data_type": "bool", "fill_value": 0, "codecs": [{"name": "bytes"}]})
    (folder / "zarr.json").write_text(json.dumps(document))
    copied = zarrdock.copy(tmp_path / "a", tmp_path / "b")
    assert sorted(copied.keys()) == ["flags", "good"]
    flags = zarrdock.open_array(tmp_path / "b", path="flags")
    assert flags.metadata.leniencies == ()
    assert flags[...].tolist() == [False] * 4


def test_check_mentions_what_was_read_leniently(tmp_path: Path) -> None:
    group = zarrdock.create_group(tmp_path, zarr_format=2)
    group.create_array("a", data=np.arange(4, dtype="<i4"), chunks=2)
    assert check(tmp_path).problems == ()
    path = tmp_path / "a" / ".zarray"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fill_value": "0"}))
    (tmp_path / ".zattrs").write_bytes(LATIN)
    report = check(tmp_path)
    assert report.is_good
    assert [(p.severity, p.path, p.key, p.message) for p in report.problems] == [
        ("warning", "", ".zattrs", "read leniently: .zattrs: not UTF-8: read as Latin-1"),
        ("warning", "a", "a/.zarray", "read leniently: .zarray#/fill_value: '0' is read as 0"),
    ]


# -- consolidated metadata --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "zmetadata",
    [
        b"<html>",
        b"[]",
        json.dumps({"metadata": {".zgroup": {"zarr_format": 2}}}).encode(),
        json.dumps({"zarr_consolidated_format": 1, "metadata": {"a/.zarray": V2}}).encode(),
        json.dumps({"zarr_consolidated_format": 1, "metadata": {".zarray": V2}}).encode(),
        json.dumps({"zarr_consolidated_format": 1, "metadata": {".zgroup": {"zarr_format": 3}}}).encode(),
    ],
)
@pytest.mark.parametrize("opened", ["open", "open_group"])
def test_wrong_consolidated_metadata_of_v2_is_passed_over(zmetadata: bytes, opened: str, tmp_path: Path) -> None:
    group = zarrdock.create_group(tmp_path, zarr_format=2, attributes={"x": 1})
    group.create_array("a", data=np.arange(3))
    (tmp_path / ".zmetadata").write_bytes(zmetadata)
    again = getattr(zarrdock, opened)(tmp_path)
    assert again.metadata.consolidated is None
    assert dict(again.attrs) == {"x": 1}
    assert list(again.keys()) == ["a"]
    assert again["a"][...].tolist() == [0, 1, 2]
    (one,) = again.metadata.leniencies
    assert one.document == ".zmetadata"
    assert "not used" in one.message


@pytest.mark.parametrize("inline", [1, {"kind": "inline"}, {"kind": "inline", "metadata": []}])
def test_wrong_consolidated_metadata_of_v3_is_passed_over(inline: Any, tmp_path: Path) -> None:
    group = zarrdock.create_group(tmp_path)
    group.create_array("a", data=np.arange(3))
    path = tmp_path / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"consolidated_metadata": inline}))
    again = zarrdock.open_group(tmp_path, "r+")
    assert [one.document for one in again.metadata.leniencies] == ["zarr.json"]
    assert again["a"][...].tolist() == [0, 1, 2]
    again.attrs["x"] = 1
    assert json.loads(path.read_text())["consolidated_metadata"] == inline


def test_a_member_that_is_wrong_in_consolidated_metadata_is_read_from_its_own(tmp_path: Path) -> None:
    group = zarrdock.create_group(tmp_path, zarr_format=2)
    for name in ("a", "b"):
        group.create_array(name, data=np.arange(3))
    group.consolidate()
    path = tmp_path / ".zmetadata"
    document = json.loads(path.read_text())
    document["metadata"]["a/.zarray"] = {"zarr_format": 2}
    path.write_text(json.dumps(document))
    again = zarrdock.open_group(tmp_path)
    assert again["a"][...].tolist() == [0, 1, 2]
    assert [name for name, _ in again.arrays()] == ["a", "b"]
    (tmp_path / "a" / ".zarray").unlink()
    with pytest.raises(MetadataError, match=r"zmetadata#/metadata/a~1\.zarray"):
        again["a"]
    assert again["b"][...].tolist() == [0, 1, 2]


# -- NCZarr -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "attributes"),
    [
        ({"_NCZARR_ARRAY": {"dimrefs": ["/g/t"], "storage": "chunked"}}, {}),
        ({}, {"_nczarr_array": {"dimension_references": ["/t"], "storage": "chunked"}}),
        ({}, {"_NCZARR_ARRAY": {"dimrefs": ["/t"]}}),
    ],
)
def test_dimensions_of_nczarr(extra: dict[str, Any], attributes: dict[str, Any]) -> None:
    metadata = parse_array_v2(json.dumps(V2 | extra).encode(), json.dumps(attributes).encode())
    assert metadata.dims == ("t",)
    assert ArrayMetadata.from_json(V3 | {"attributes": attributes}).dims == (("t",) if attributes else None)


@pytest.mark.parametrize("details", [None, 3, {"dimrefs": "/t"}, {"dimrefs": [1]}, {"dimrefs": ["/t", "/u"]}])
def test_wrong_dimensions_of_nczarr_are_none(details: Any) -> None:
    assert parse_array_v2(json.dumps(V2 | {"_NCZARR_ARRAY": details}).encode(), None).dims is None
