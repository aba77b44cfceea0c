"""Any metadata survives its documents; any damage to a document is a MetadataError, never something else."""

import copy
import json
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrdock.array.dtypes.dtype import parse_data_type
from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.metadata.consolidated import consolidate, parse_consolidated_v2, to_consolidated_v2
from zarrdock.array.metadata.key_encodings import FanoutKeys, PrefixedKeys, SeparatedKeys, SuffixedKeys
from zarrdock.array.metadata.v2 import documents, parse_array_v2, parse_group_v2
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node, parse_node, serialise
from zarrdock.codecs.builtin import parse_codecs
from zarrdock.errors import MetadataError, UnsupportedError, ZarrdockError

NAMES = ["bool", "int8", "uint64", "float16", "float32", "float64", "complex64", "complex128", "r16", "r64"]
CHAINS: list[list[Any]] = [
    ["bytes"],
    [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "zstd", "configuration": {"level": 3}}, "crc32c"],
    [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "gzip", "configuration": {"level": 5}}],
    [
        {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": [1],
                "codecs": ["bytes"],
                "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, "crc32c"],
                "index_location": "start",
            },
        }
    ],
]

text = st.text(max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
attributes = st.dictionaries(text, json_values, max_size=3)
extras = st.dictionaries(
    st.text("xyz/~", min_size=1, max_size=3), attributes.map(lambda a: a | {"must_understand": False}), max_size=2
)


separated = st.builds(SeparatedKeys, st.sampled_from(["default", "v2"]), st.sampled_from(["/", "."]))
encodings = st.recursive(
    separated | st.builds(FanoutKeys, st.integers(3, 2000)),
    lambda inner: (
        st.builds(PrefixedKeys, st.sampled_from(["a", "x/", "%é"]), inner)
        | st.builds(SuffixedKeys, st.sampled_from(["", ".x", "/1"]), inner)
    ),
    max_leaves=3,
)


@st.composite
def arrays(draw: st.DrawFn) -> ArrayMetadata:
    ndim = draw(st.integers(0, 4))
    data_type = parse_data_type(draw(st.sampled_from(NAMES)))
    size = data_type.numpy.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    if data_type.name == "bool":
        data = bytes([data[0] % 2])
    lengths = st.integers(0, 2**62)
    names = st.lists(st.none() | text, min_size=ndim, max_size=ndim).map(tuple)
    return ArrayMetadata(
        shape=tuple(draw(lengths) for _ in range(ndim)),
        data_type=data_type,
        grid=RegularGrid(tuple(draw(st.integers(1, 2**62)) for _ in range(ndim))),
        key_encoding=draw(encodings),
        fill_value=np.frombuffer(data, data_type.numpy)[0],
        codecs=parse_codecs(draw(st.sampled_from(CHAINS))),
        attributes=draw(attributes),
        dimension_names=draw(st.none() | names),
        extra=draw(extras),
    )


@given(arrays())
def test_arrays_survive(metadata: ArrayMetadata) -> None:
    assert ArrayMetadata.from_json(metadata.to_json()) == metadata
    assert parse_node(serialise(metadata.to_json())) == metadata
    assert ArrayMetadata.from_json(metadata.to_json(), lenient=True) == metadata


@given(attributes, extras, st.dictionaries(st.sampled_from(["a", "b", "c/d"]), arrays()))
@settings(max_examples=20)
def test_groups_survive(attrs: dict[str, Any], extra: dict[str, Any], nodes: dict[str, Node]) -> None:
    metadata = consolidate(GroupMetadata(attributes=attrs, extra=extra), nodes)
    again = parse_node(serialise(metadata.to_json()))
    assert isinstance(again, GroupMetadata)
    assert again.to_json() == metadata.to_json()
    assert again.consolidated is not None
    for path, node in nodes.items():
        assert again.consolidated[path] == node


@given(arrays(), st.sampled_from(["<", ">"]), st.booleans())
def test_v2_arrays_survive(metadata: ArrayMetadata, order: str, null: bool) -> None:
    dtype = metadata.dtype.newbyteorder(order)  # type: ignore[call-overload]
    members = {
        "zarr_format": 2,
        "shape": list(metadata.shape),
        "chunks": list(metadata.grid.chunk_shape),
        "dtype": dtype.str,
        "compressor": {"id": "zlib", "level": 1},
        "fill_value": None if null else metadata.data_type.fill_to_json_v2(metadata.fill_value),
        "order": "C",
        "filters": None,
        "dimension_separator": metadata.key_encoding.in_v2().separator,
        "x": metadata.extra,
    }
    parsed = parse_array_v2(serialise(members), serialise(dict(metadata.attributes)))
    stored = documents(parsed)
    assert json.loads(stored[".zarray"]) == members
    assert parse_array_v2(stored[".zarray"], stored[".zattrs"]) == parsed


# Damage ----------------------------------------------------------------------------------------------------------

V3_ARRAY: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [10, 0, 5],
    "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3, 2, 5]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": "0x7fc00001",
    "codecs": [
        {"name": "transpose", "configuration": {"order": [2, 0, 1]}},
        {"name": "bytes", "configuration": {"endian": "little"}},
        {
            "name": "blosc",
            "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0},
        },
        {"name": "zstd", "configuration": {"level": 3, "checksum": True}},
    ],
    "attributes": {"a": [1, {"b": None}]},
    "dimension_names": ["x", None, "y"],
    "storage_transformers": [],
    "later": {"must_understand": False},
}
V3_SHARDED = V3_ARRAY | {
    "shape": [10],
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4]}},
    "dimension_names": ["x"],
    "data_type": {"name": "raw_bytes", "configuration": {"length_bytes": 2}},
    "fill_value": "AQI=",
    "codecs": CHAINS[3],
}
V3_COMPLEX = V3_ARRAY | {"data_type": "complex64", "fill_value": ["NaN", 1], "codecs": CHAINS[1]}
V3_EXTENDED = V3_SHARDED | {
    "shape": [10, 4],
    "chunk_grid": {
        "name": "rectilinear",
        "configuration": {"kind": "inline", "chunk_shapes": [[3, [2, 2], 3], 4]},
    },
    "chunk_key_encoding": {
        "name": "prefix",
        "configuration": {
            "prefix": "x/",
            "base_encoding": {
                "name": "suffix",
                "configuration": {
                    "suffix": ".x",
                    "base-encoding": {
                        "name": "template",
                        "configuration": {"format": "{-1:03}/{*}", "separator": "_"},
                    },
                },
            },
        },
    },
    "dimension_names": ["x", "y"],
    "codecs": ["bytes"],
}
V3_GROUP: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "group",
    "attributes": {},
    "consolidated_metadata": {
        "kind": "inline",
        "must_understand": False,
        "metadata": {"a": {"zarr_format": 3, "node_type": "group"}, "a/b": V3_ARRAY},
    },
}
V2_ARRAY: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [10, 5],
    "chunks": [3, 5],
    "dtype": ">f4",
    "compressor": {"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": 1, "blocksize": 0},
    "fill_value": "NaN",
    "order": "F",
    "filters": [
        {"id": "delta", "dtype": ">f4", "astype": ">f4"},
        {"id": "fixedscaleoffset", "scale": 10, "offset": 0.5, "dtype": ">f4", "astype": "<i4"},
        {"id": "shuffle", "elementsize": 4},
    ],
    "dimension_separator": "/",
}
V2_RAW = V2_ARRAY | {
    "dtype": "|V3",
    "fill_value": "AQID",
    "filters": None,
    "compressor": {"id": "lzma", "filters": [{"id": 33, "preset": 1}], "format": 1, "check": -1, "preset": None},
}
ZMETADATA: dict[str, Any] = {
    "zarr_consolidated_format": 1,
    "metadata": {".zgroup": {"zarr_format": 2}, ".zattrs": {}, "a/.zarray": V2_ARRAY, "a/.zattrs": {"x": 1}},
}


def use(node: Node) -> None:
    """Everything that is done with a node that was parsed."""
    if isinstance(node, ArrayMetadata):
        assert node.require_known() is node
        assert hash(node) == hash(node.replace())
        assert node.grid.n_chunks(node.shape) is not None
        last = (2**62,) * node.ndim
        assert node.key_encoding.parse(node.key_encoding.key(last), node.ndim) == last
        assert node.fill_value is not None
        assert node.dims is None or len(node.dims) == node.ndim
    stored = documents(node)
    if "zarr.json" in stored:
        again = parse_node(stored["zarr.json"])
    elif ".zarray" in stored:
        again = parse_array_v2(stored[".zarray"], stored[".zattrs"])
    else:
        again = parse_group_v2(stored[".zgroup"], stored[".zattrs"])
    if isinstance(node, GroupMetadata):
        for below in (node.consolidated or {}).values():
            use(below)
        assert isinstance(again, GroupMetadata)
        if node.zarr_format == 2:
            to_consolidated_v2(node)
            again = again.replace(consolidated=node.consolidated)
    # A NaN in an attribute is not equal to itself once it has been through text.
    assert again == node or b"NaN" in b"".join(stored.values())


def parse(document: bytes) -> None:
    """Parse a document as whatever it says it is, both strictly and leniently."""
    if b"zarr_consolidated_format" in document:
        use(parse_consolidated_v2(document))
    elif b'"chunks"' in document:
        parse_array_v2(document, None, lenient=True)
        use(parse_array_v2(document, None))
    else:
        parse_node(document, "zarr.json", lenient=True)
        use(parse_node(document, "zarr.json"))


def refused(document: bytes) -> ZarrdockError | None:
    """Why the document can't be used; any other kind of error fails the test."""
    try:
        parse(document)
    except (MetadataError, UnsupportedError) as error:
        return error
    return None


DOCUMENTS = [V3_ARRAY, V3_SHARDED, V3_COMPLEX, V3_EXTENDED, V3_GROUP, V2_ARRAY, V2_RAW, ZMETADATA]


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    for name, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from places(inner, (*way, name))


ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 2**31, 2**63, -(2**70), 10**30, 0.5, 1e400, math.nan, "", "0", "C", "é\ud800"),
    *(
        "\0",
        "bytes",
        "sharding_indexed",
        "r16",
        "<f8",
        "NaN",
        "0x0",
        "x" * 1000,
        [],
        {},
        [[]],
        [1],
        [1, 2, 3],
        [None],
        [0] * 70,
    ),
    *(
        {"name": "bytes"},
        {"id": "zlib"},
        {"id": 3},
        {"name": "transpose"},
        {"must_understand": False},
        {"a": {"a": []}},
    ),
]


def damaged(document: Any, chance: random.Random) -> Any:
    """The document with something replaced, removed, added, or copied from elsewhere."""
    document = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        ways = list(places(document))
        way = chance.choice(ways)
        if not way:
            continue
        parent = document
        for name in way[:-1]:
            parent = parent[name]
        odd = copy.deepcopy(chance.choice(ODD))
        match chance.randrange(5):
            case 0:
                del parent[way[-1]]
            case 1 if isinstance(parent, list):
                parent.insert(way[-1], odd)
            case 1:
                parent[chance.choice(["x", "name", "id", "configuration", "", "a/b", "shape"])] = odd
            case 2:
                other = document
                for name in chance.choice(ways):
                    other = other[name] if isinstance(other, dict) or name < len(other) else other
                parent[way[-1]] = copy.deepcopy(other)
            case _:
                parent[way[-1]] = odd
    return document


@pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda document: f"v{document.get('zarr_format', 2)}-{len(document)}"
)
def test_good_documents_are_good(document: Any) -> None:
    parse(json.dumps(document).encode())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("number", range(len(DOCUMENTS)))
def test_damaged_documents(number: int, seed: int) -> None:
    chance = random.Random(f"{number} {seed}")
    n_refused = 0
    for _ in range(40):
        document = damaged(DOCUMENTS[number], chance)
        data = json.dumps(document).encode()
        error = refused(data)
        if error is not None:
            n_refused += 1
            assert "\n" not in str(error)
            assert len(str(error)) < 2000
            # v2 filters in an order that no chain of codecs can have.
            assert isinstance(error, MetadataError) or b'"filters"' in data
    assert n_refused > 5


@pytest.mark.parametrize("number", range(len(DOCUMENTS)))
def test_damaged_bytes(number: int) -> None:
    chance = random.Random(number)
    good = json.dumps(DOCUMENTS[number]).encode()
    for _ in range(150):
        data = bytearray(good)
        for _ in range(chance.choice((1, 1, 2, 5))):
            position = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[position] = chance.randrange(256)
                case 1:
                    del data[position : position + chance.randrange(1, 20)]
                case _:
                    data[position:position] = chance.choice([b"[", b"{", b'"', b"0", b"-", b",", b"e9", b"\\", b"\xe2"])
        error = refused(bytes(data))
        assert error is None or "\n" not in str(error)


@given(st.binary(max_size=40))
def test_any_bytes(document: bytes) -> None:
    for read in (parse_node, parse_consolidated_v2):
        with pytest.raises(MetadataError):
            read(document)
    with pytest.raises(MetadataError):
        parse_array_v2(document, None)
    with pytest.raises(MetadataError):
        parse_group_v2(document, None)


@given(json_values)
def test_any_json(document: Any) -> None:
    data = json.dumps(document).encode()
    with pytest.raises(MetadataError):
        parse_node(data)
    with pytest.raises(MetadataError):
        parse_array_v2(data, None)
    with pytest.raises(MetadataError):
        parse_consolidated_v2(data)
