"""Consolidated metadata of both formats."""

import json
import pickle
from typing import Any

import pytest

from zarrdock.array.metadata.consolidated import consolidate, parse_consolidated_v2, to_consolidated_v2
from zarrdock.array.metadata.nodes import LazyNodes, below
from zarrdock.array.metadata.v2 import array_v2_from_json, documents
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node, parse_node
from zarrdock.errors import MetadataError, UnknownExtensionError

ARRAY: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [3],
    "data_type": "int32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "attributes": {},
}
# As zarr-python 3 writes it.
ARRAY_V2: dict[str, Any] = {
    "shape": [3],
    "chunks": [3],
    "dtype": "<i4",
    "fill_value": 0,
    "order": "C",
    "filters": None,
    "dimension_separator": ".",
    "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
    "zarr_format": 2,
}
V2 = {
    "metadata": {
        ".zgroup": {"zarr_format": 2},
        ".zattrs": {"root": True},
        "a/.zattrs": {"n": 1},
        "a/.zgroup": {
            "zarr_format": 2,
            "consolidated_metadata": {"metadata": {}, "must_understand": False, "kind": "inline"},
        },
        "a/b/.zattrs": {},
        "a/b/.zarray": ARRAY_V2,
        "a-b/.zarray": ARRAY_V2,
        "gone/.zattrs": {},
    },
    "zarr_consolidated_format": 1,
}


def array(**changes: Any) -> ArrayMetadata:
    return ArrayMetadata.from_json(ARRAY | changes)


def group(**attributes: Any) -> GroupMetadata:
    return GroupMetadata(attributes=attributes)


def hierarchy() -> dict[str, Node]:
    return {"a": group(n=1), "a/b": array(), "a/b2": group(), "a/b2/c": array(shape=[7]), "a-b": array(), "z": array()}


def parse_group(document: Any) -> GroupMetadata:
    node = parse_node(json.dumps(document).encode(), "zarr.json")
    assert isinstance(node, GroupMetadata)
    return node


def nodes_of(root: Node) -> LazyNodes:
    assert isinstance(root, GroupMetadata)
    assert isinstance(root.consolidated, LazyNodes)
    return root.consolidated


def test_v3_document() -> None:
    document = consolidate(group(root=1), {"a": group(), "a/b": array()}).to_json()
    assert document == {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"root": 1},
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": {
                "a": {
                    "zarr_format": 3,
                    "node_type": "group",
                    "attributes": {},
                    "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": {}},
                },
                "a/b": ARRAY,
            },
        },
    }


def test_v3_round_trip() -> None:
    root = consolidate(group(root=1), hierarchy())
    again = parse_group(root.to_json())
    nodes = nodes_of(again)
    assert set(nodes) == set(hierarchy())
    assert len(nodes) == 6
    assert again.to_json() == root.to_json()
    for path, node in hierarchy().items():
        found = nodes[path]
        assert (found.replace(consolidated=None) if isinstance(found, GroupMetadata) else found) == node
    assert parse_group(again.to_json()) == again


def test_outermost_nodes_come_first() -> None:
    document = consolidate(group(), dict(reversed(hierarchy().items()))).to_json()
    assert list(document["consolidated_metadata"]["metadata"]) == ["a", "a-b", "z", "a/b", "a/b2", "a/b2/c"]


def test_groups_inside_know_what_is_below_them() -> None:
    root = parse_group(consolidate(group(), hierarchy()).to_json())
    inside = nodes_of(nodes_of(root)["a"])
    # "a-b" and "a/b2" sort next to "a/b", and are not below it.
    assert sorted(inside) == ["b", "b2", "b2/c"]
    assert len(inside) == 3
    assert inside["b2/c"].shape == (7,)  # type: ignore[union-attr]
    assert "b2/c" in inside
    assert "c" not in inside
    assert "z" not in inside
    assert list(nodes_of(inside["b2"])) == ["c"]
    assert sorted(below(hierarchy(), "a")) == ["b", "b2", "b2/c"]
    assert list(below(inside, "b")) == []
    with pytest.raises(KeyError):
        inside["z"]


def test_nodes_are_parsed_when_asked_for() -> None:
    document = consolidate(group(), {"good": array(), "bad": array(), "odd": array()}).to_json()
    metadata = document["consolidated_metadata"]["metadata"]
    metadata["bad"]["shape"] = "x"
    metadata["odd"]["codecs"] = ["odd"]
    nodes = nodes_of(parse_group(document))
    assert nodes["good"] == array()
    assert nodes["good"] is nodes["good"]
    with pytest.raises(MetadataError) as caught:
        nodes["bad"]
    assert caught.value.key == "zarr.json"
    assert caught.value.pointer == "/consolidated_metadata/metadata/bad/shape"
    odd = nodes["odd"]
    assert isinstance(odd, ArrayMetadata)
    with pytest.raises(UnknownExtensionError):
        odd.require_known()


def test_paths_are_escaped_in_pointers() -> None:
    document = consolidate(group(), {"a": group(), "a/b": array()}).to_json()
    document["consolidated_metadata"]["metadata"]["a/b"] = 3
    with pytest.raises(MetadataError) as caught:
        nodes_of(nodes_of(parse_group(document))["a"])["b"]
    assert caught.value.pointer == "/consolidated_metadata/metadata/a~1b"


def test_missing_groups_are_filled_in() -> None:
    root = consolidate(group(), {"a/b/c": array()})
    assert root.consolidated is not None
    assert set(root.consolidated) == {"a", "a/b", "a/b/c"}


def test_what_cannot_be_consolidated() -> None:
    with pytest.raises(MetadataError, match="a group at 'a'"):
        consolidate(group(), {"a": array(), "a/b": array()})
    with pytest.raises(MetadataError, match="zarr_format"):
        consolidate(GroupMetadata(zarr_format=2), {"a": array()})


def test_consolidating_again_starts_afresh() -> None:
    root = parse_group(consolidate(group(), hierarchy()).to_json())
    nodes = {path: node for path, node in nodes_of(root).items() if path != "z"}
    again = consolidate(root, nodes)
    expected = {path: node for path, node in hierarchy().items() if path != "z"}
    assert again.to_json() == consolidate(group(), expected).to_json()


def test_empty_consolidated_metadata() -> None:
    root = parse_group(consolidate(group(), {}).to_json())
    assert root.consolidated == {}
    assert parse_group(group().to_json()).consolidated is None
    assert parse_group(group().to_json() | {"consolidated_metadata": None}).consolidated is None


def test_pickle() -> None:
    root = parse_group(consolidate(group(), hierarchy()).to_json())
    again = pickle.loads(pickle.dumps(root))
    assert again == root
    assert sorted(nodes_of(nodes_of(again)["a"])) == ["b", "b2", "b2/c"]


def test_v2() -> None:
    root = parse_consolidated_v2(json.dumps(V2).encode())
    nodes = nodes_of(root)
    assert root.attributes == {"root": True}
    assert root.zarr_format == 2
    assert sorted(nodes) == ["a", "a-b", "a/b"]
    assert nodes["a/b"] == nodes["a-b"] == array_v2_from_json(ARRAY_V2, {})
    assert nodes["a"].attributes == {"n": 1}
    assert list(nodes_of(nodes["a"])) == ["b"]


def test_v2_round_trip() -> None:
    root = parse_consolidated_v2(json.dumps(V2).encode())
    assert isinstance(root, GroupMetadata)
    document = to_consolidated_v2(root)
    assert document["metadata"] == {name: value for name, value in V2["metadata"].items() if name != "gone/.zattrs"}  # type: ignore[attr-defined]
    rebuilt = to_consolidated_v2(consolidate(root, dict(nodes_of(root))))
    assert rebuilt["zarr_consolidated_format"] == 1
    assert rebuilt["metadata"].keys() == document["metadata"].keys() | {"a-b/.zattrs"}
    assert rebuilt["metadata"]["a/b/.zarray"] == ARRAY_V2
    assert rebuilt["metadata"]["a/.zgroup"] == {"zarr_format": 2}
    assert parse_consolidated_v2(json.dumps(rebuilt).encode()) == root
    assert to_consolidated_v2(GroupMetadata(zarr_format=2)) == {
        "zarr_consolidated_format": 1,
        "metadata": {".zgroup": {"zarr_format": 2}, ".zattrs": {}},
    }


def test_the_root_document_of_v2_has_no_nodes() -> None:
    root = parse_consolidated_v2(json.dumps(V2).encode())
    assert json.loads(documents(root)[".zgroup"]) == {"zarr_format": 2}


def test_v2_root_array() -> None:
    document = {"zarr_consolidated_format": 1, "metadata": {".zarray": ARRAY_V2}}
    assert parse_consolidated_v2(json.dumps(document).encode()) == array_v2_from_json(ARRAY_V2, {})


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], ""),
        ({}, "/zarr_consolidated_format"),
        (V2 | {"zarr_consolidated_format": 2}, "/zarr_consolidated_format"),
        (V2 | {"zarr_consolidated_format": True}, "/zarr_consolidated_format"),
        ({"zarr_consolidated_format": 1}, "/metadata"),
        (V2 | {"metadata": []}, "/metadata"),
        (V2 | {"metadata": {}}, "/metadata"),
        (V2 | {"metadata": {".zattrs": {}}}, "/metadata"),
        (V2 | {"metadata": {".zgroup": 3}}, "/metadata/.zgroup"),
        (V2 | {"metadata": {".zgroup": {}}}, "/metadata/.zgroup/zarr_format"),
        (V2 | {"metadata": {".zgroup": {"zarr_format": 2}, ".zattrs": []}}, "/metadata/.zattrs"),
    ],
)
def test_wrong_v2_documents(document: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_consolidated_v2(json.dumps(document).encode(), "x/.zmetadata")
    assert (caught.value.key, caught.value.pointer) == ("x/.zmetadata", pointer)


def test_a_wrong_v2_node_is_reported_when_looked_up() -> None:
    metadata = V2["metadata"] | {"a/b/.zarray": ARRAY_V2 | {"order": "X"}}  # type: ignore[operator]
    nodes = nodes_of(parse_consolidated_v2(json.dumps(V2 | {"metadata": metadata}).encode()))
    with pytest.raises(MetadataError) as caught:
        nodes["a/b"]
    assert (caught.value.key, caught.value.pointer) == (".zmetadata", "/metadata/a~1b~1.zarray/order")


def test_a_thousand_arrays_open_without_being_parsed() -> None:
    nodes: dict[str, Node] = {f"g{i % 100}/a{i}": array() for i in range(1000)}
    root = parse_group(consolidate(group(), nodes).to_json())
    assert len(nodes_of(root)) == 1100
    assert nodes_of(root)._nodes == {}
    assert len(nodes_of(nodes_of(root)["g1"])) == 10
