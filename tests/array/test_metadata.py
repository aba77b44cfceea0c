"""Zarr v3 documents: arrays and groups."""

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

from zarrdock.array.dtypes.dtype import data_type_of
from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.metadata.key_encodings import SeparatedKeys
from zarrdock.array.metadata.unknown import UnknownCodec, UnknownDataType
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, parse_node, serialise
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.errors import MetadataError, UnknownExtensionError, UnsupportedError

# The example of the specification, "Array metadata".
EXAMPLE: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [10000, 1000],
    "dimension_names": ["rows", "columns"],
    "data_type": "float64",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1000, 100]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "fill_value": "NaN",
    "attributes": {"foo": 42, "bar": "apples", "baz": [1, 2, 3, 4]},
}
GROUP: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": {"spam": "ham", "eggs": 42}}


def example(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(EXAMPLE) | changes


def parsed(**changes: Any) -> ArrayMetadata:
    return ArrayMetadata.from_json(example(**changes))


def test_the_example_of_the_specification() -> None:
    metadata = parse_node(json.dumps(EXAMPLE).encode(), "zarr.json")
    assert isinstance(metadata, ArrayMetadata)
    assert (metadata.shape, metadata.ndim, metadata.dtype) == ((10000, 1000), 2, np.dtype("f8"))
    assert metadata.grid == RegularGrid((1000, 100))
    assert metadata.key_encoding == SeparatedKeys("default", "/")
    assert np.isnan(metadata.fill_value)
    assert metadata.codecs == (Bytes("little"),)
    assert metadata.attributes == EXAMPLE["attributes"]
    assert metadata.dimension_names == metadata.dims == ("rows", "columns")
    assert (metadata.zarr_format, metadata.v2, metadata.extra, metadata.unknown) == (3, None, {}, ())
    assert metadata.to_json() == EXAMPLE
    assert metadata.require_known() is metadata
    assert not metadata.fill_value_is_null


def test_members_are_written_in_the_order_of_the_specification() -> None:
    assert list(parsed(x={"must_understand": False}).to_json()) == [
        *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"),
        *("attributes", "dimension_names", "x"),
    ]


@pytest.mark.parametrize(
    ("changes", "pointer", "expected", "found"),
    [
        ({"zarr_format": 2}, "/zarr_format", "3", 2),
        ({"zarr_format": True}, "/zarr_format", "3", True),
        ({"node_type": "table"}, "/node_type", "'array' or 'group'", "table"),
        ({"node_type": None}, "/node_type", "'array' or 'group'", None),
        ({"node_type": ["array"]}, "/node_type", "'array' or 'group'", ["array"]),
        ({"shape": 5}, "/shape", "an array of integers", 5),
        ({"shape": [5, -1]}, "/shape/1", f"an integer from 0 to {2**63 - 1}", -1),
        ({"shape": [2**63, 1]}, "/shape/0", f"an integer from 0 to {2**63 - 1}", 2**63),
        ({"shape": [True, 1]}, "/shape/0", f"an integer from 0 to {2**63 - 1}", True),
        ({"shape": [1]}, "/chunk_grid/configuration/chunk_shape", "1 lengths, one a dimension", [1000, 100]),
        ({"dimension_names": ["x"]}, "/dimension_names", "2 names or nulls, one a dimension", ["x"]),
        ({"dimension_names": "xy"}, "/dimension_names", "an array of strings and nulls", "xy"),
        ({"dimension_names": ["x", 1]}, "/dimension_names/1", "a string or null", 1),
        ({"shape": [1.5, 1]}, "/shape/0", f"an integer from 0 to {2**63 - 1}", 1.5),
        ({"attributes": ["a"]}, "/attributes", "an object", ["a"]),
        ({"codecs": []}, "/codecs", None, []),
        ({"codecs": {}}, "/codecs", None, {}),
        ({"fill_value": None}, "/fill_value", None, None),
        ({"storage_transformers": {}}, "/storage_transformers", "an array", {}),
        ({"x/y": 1}, "/x~1y", "a member of Zarr v3", 1),
        ({"x": {"must_understand": True}}, "/x", "a member of Zarr v3", {"must_understand": True}),
        ({"x": {"name": "y"}}, "/x", "a member of Zarr v3", {"name": "y"}),
        ({"consolidated_metadata": None}, "/consolidated_metadata", "a member of Zarr v3", None),
    ],
)
def test_wrong_documents(changes: dict[str, Any], pointer: str, expected: str | None, found: object) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_node(json.dumps(example(**changes)).encode(), "a/zarr.json")
    error = caught.value
    assert (error.key, error.pointer, error.found) == ("a/zarr.json", pointer, found)
    assert error.expected == expected or (expected is None and error.expected)
    assert str(error).startswith(f"a/zarr.json#{pointer}: ")
    assert "\n" not in str(error)


def test_chunk_lengths_of_zero() -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": [0, 5]}}
    metadata = parsed(shape=[0, 5], chunk_grid=grid)
    assert metadata.grid.n_chunks(metadata.shape) == (0, 1)
    assert metadata.to_json()["chunk_grid"] == grid
    with pytest.raises(MetadataError) as caught:
        metadata.replace(shape=(1, 5))
    assert caught.value.pointer == "/chunk_grid/configuration/chunk_shape/0"


@pytest.mark.parametrize(
    "member",
    ["shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs", "zarr_format", "node_type"],
)
def test_missing_members(member: str) -> None:
    document = example()
    del document[member]
    with pytest.raises(MetadataError) as caught:
        parse_node(json.dumps(document).encode(), "zarr.json")
    assert member in str(caught.value)


@pytest.mark.parametrize("document", [b"[]", b"null", b'"zarr"', b"3", b"{}", b"[[[[", b"\x00", b""])
def test_documents_that_are_no_metadata(document: bytes) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_node(document, "k/zarr.json")
    assert caught.value.key == "k/zarr.json"


@pytest.mark.parametrize(
    ("changes", "kind", "name", "pointer"),
    [
        ({"data_type": {"name": "odd", "configuration": {}}}, "data type", "odd", "/data_type"),
        ({"chunk_grid": {"name": "odd", "configuration": {}}}, "chunk grid", "odd", "/chunk_grid"),
        ({"chunk_key_encoding": "odd"}, "chunk key encoding", "odd", "/chunk_key_encoding"),
        ({"codecs": [*EXAMPLE["codecs"], {"name": "odd"}]}, "codec", "odd", "/codecs/1/name"),
        ({"storage_transformers": [{"name": "odd"}]}, "storage transformer", "odd", "/storage_transformers/0"),
        ({"storage_transformers": ["odd"]}, "storage transformer", "odd", "/storage_transformers/0"),
    ],
)
def test_unknown_extensions(changes: dict[str, Any], kind: str, name: str, pointer: str) -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        parse_node(json.dumps(example(**changes)).encode(), "zarr.json")
    error = caught.value
    assert (error.kind, error.name, error.pointer, error.key) == (kind, name, pointer, "zarr.json")


def test_what_need_not_be_understood_is_kept() -> None:
    extra = {"ours": {"must_understand": False, "n": [1, 2]}}
    transformers = [{"name": "cache", "configuration": {}, "must_understand": False}]
    metadata = parsed(**extra, storage_transformers=transformers)
    assert metadata.extra == extra | {"storage_transformers": transformers}
    assert metadata.to_json() == example(**extra, storage_transformers=transformers)


def test_empty_members_of_other_writers() -> None:
    assert parsed(storage_transformers=None) == parsed()
    assert parsed(storage_transformers=[]).to_json() == example(storage_transformers=[])  # written again as it was


def test_null_dimension_names_are_none_at_all() -> None:
    assert parsed(dimension_names=None).dimension_names is None
    assert "dimension_names" not in parsed(dimension_names=None).to_json()
    assert parsed(dimension_names=[None, ""]).to_json()["dimension_names"] == [None, ""]


def test_short_names() -> None:
    assert parsed(data_type="uint8", fill_value=1, codecs=["bytes"], chunk_key_encoding="v2").to_json() == example(
        data_type="uint8",
        fill_value=1,
        codecs=[{"name": "bytes"}],
        chunk_key_encoding={"name": "v2", "configuration": {"separator": "."}},
    )


def test_sixty_four_dimensions_and_no_more() -> None:
    def of(ndim: int) -> ArrayMetadata:
        grid = {"name": "regular", "configuration": {"chunk_shape": [1] * ndim}}
        return parsed(shape=[1] * ndim, chunk_grid=grid, dimension_names=None)

    assert of(0).shape == ()
    assert of(64).ndim == 64
    with pytest.raises(MetadataError) as caught:
        of(65)
    assert caught.value.pointer == "/shape"


def test_a_huge_array_allocates_nothing() -> None:
    metadata = parsed(shape=[2**62, 2**62])
    assert metadata.grid.n_chunks(metadata.shape)[1] == -(-(2**62) // 100)


def test_equality_knows_bits() -> None:
    nan = parsed(fill_value="NaN")
    other = parsed(fill_value="0x7ff8000000000001")
    assert nan == parsed(fill_value="NaN")
    assert hash(nan) == hash(parsed(fill_value="NaN"))
    assert nan != other
    assert other == parsed(fill_value="0x7ff8000000000001")
    assert parsed(fill_value=0) != parsed(fill_value=-0.0)
    assert nan != parsed(fill_value="NaN", attributes={})
    assert nan != "NaN"


@pytest.mark.parametrize("payload", ["0x7ff8000000000001", "NaN", "-Infinity", -0.0, 0.1])
def test_metadata_pickles(payload: object) -> None:
    metadata = parsed(fill_value=payload, x={"must_understand": False})
    assert pickle.loads(pickle.dumps(metadata)) == metadata


def test_replace_checks_again() -> None:
    metadata = parsed()
    assert metadata.replace(shape=(5, 5)).to_json() == example(shape=[5, 5])
    for changes in ({"shape": (5,)}, {"shape": (5, -1)}, {"dimension_names": ("x",)}, {"shape": (5, 2**63)}):
        with pytest.raises(MetadataError):
            metadata.replace(**changes)


def test_a_new_array_has_defaults() -> None:
    data_type = data_type_of("int16")
    metadata = ArrayMetadata(
        shape=(4,),
        data_type=data_type,
        grid=RegularGrid((2,)),
        key_encoding=SeparatedKeys(),
        fill_value=data_type.default_fill(),
        codecs=(Bytes("little"),),
    )
    assert ArrayMetadata.from_json(metadata.to_json()) == metadata
    assert metadata.attributes == {}


def test_lenient_parsing_keeps_what_is_unknown() -> None:
    document = example(
        data_type={"name": "oddest", "configuration": {"fields": [["a", "int8"]]}},
        fill_value={"a": 1},
        codecs=[{"name": "odd", "configuration": {"n": 1}}, "bytes", {"name": "odder"}],
    )
    with pytest.raises(UnknownExtensionError):
        ArrayMetadata.from_json(document)
    metadata = ArrayMetadata.from_json(document, lenient=True)
    assert isinstance(metadata.data_type, UnknownDataType)
    assert [type(codec) for codec in metadata.codecs] == [UnknownCodec, Bytes, UnknownCodec]
    assert [(error.kind, error.name) for error in metadata.unknown] == [
        ("data type", "oddest"),
        ("codec", "odd"),
        ("codec", "odder"),
    ]
    assert metadata.to_json() == document | {"codecs": [document["codecs"][0], {"name": "bytes"}, {"name": "odder"}]}
    assert metadata == ArrayMetadata.from_json(document, lenient=True)
    assert pickle.loads(pickle.dumps(metadata)) == metadata
    with pytest.raises(UnknownExtensionError, match=r"^a/zarr.json#/data_type: unknown data type 'oddest'"):
        metadata.require_known("a/zarr.json")


def test_lenient_parsing_still_refuses_what_is_wrong() -> None:
    for changes in ({"codecs": ["odd", 3]}, {"shape": None}, {"data_type": None}):
        with pytest.raises(MetadataError) as caught:
            ArrayMetadata.from_json(example(**changes), lenient=True)
        assert not isinstance(caught.value, UnknownExtensionError)


def test_groups() -> None:
    metadata = parse_node(json.dumps(GROUP).encode(), "zarr.json")
    assert isinstance(metadata, GroupMetadata)
    assert metadata.attributes == GROUP["attributes"]
    assert metadata.consolidated is None
    assert metadata.to_json() == GROUP
    assert GroupMetadata.from_json(metadata.to_json()) == metadata
    assert GroupMetadata.from_json({"zarr_format": 3, "node_type": "group"}) == GroupMetadata()
    assert metadata.replace(attributes={}).to_json() == GROUP | {"attributes": {}}


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"attributes": 1}, "/attributes"),
        ({"shape": [1]}, "/shape"),
        ({"x": {"must_understand": None}}, "/x"),
        ({"zarr_format": "3"}, "/zarr_format"),
        ({"consolidated_metadata": {"kind": "odd"}}, "/consolidated_metadata/kind"),
    ],
)
def test_wrong_groups(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_node(json.dumps(GROUP | changes).encode(), "zarr.json")
    assert caught.value.pointer == pointer


def test_groups_keep_what_need_not_be_understood() -> None:
    changes = {"x": {"must_understand": False}, "consolidated_metadata": {"kind": "odd", "must_understand": False}}
    metadata = GroupMetadata.from_json(GROUP | changes)
    assert metadata.consolidated is None
    assert metadata.to_json() == GROUP | changes


def test_the_wrong_kind_of_node() -> None:
    with pytest.raises(MetadataError) as caught:
        ArrayMetadata.from_json(GROUP)
    assert caught.value.pointer == "/node_type"
    with pytest.raises(MetadataError) as caught:
        GroupMetadata.from_json(EXAMPLE)
    assert caught.value.pointer == "/node_type"


def test_v2_metadata_has_no_v3_document() -> None:
    with pytest.raises(UnsupportedError, match=r"metadata\.v2\.documents"):
        GroupMetadata(zarr_format=2).to_json()
    with pytest.raises(UnsupportedError, match=r"metadata\.v2\.documents"):
        parsed(dimension_names=None).replace(zarr_format=2).to_json()


def test_documents_parse_again() -> None:
    metadata = parsed()
    assert parse_node(serialise(metadata.to_json())) == metadata
