"""Every document that other implementations wrote into the golden archives is read, and written again as it was."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zarrdock.array.dtypes.dtype import parse_data_type
from zarrdock.array.metadata.consolidated import parse_consolidated_v2
from zarrdock.array.metadata.v2 import parse_array_v2, parse_group_v2, to_v2_documents
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node, parse_node

ARCHIVES = ("zarr2", "zarr3", "tensorstore")


@pytest.fixture(params=ARCHIVES)
def archive(request: pytest.FixtureRequest, repository: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(repository / "tests" / "golden" / f"{request.param}.zip") as opened:
        yield opened


def nodes(archive: zipfile.ZipFile, *, lenient: bool = False) -> Iterator[tuple[str, dict[str, Any], Node]]:
    """Key, document as found, and metadata."""
    names = set(archive.namelist())
    for key in sorted(names):
        data = archive.read(key)
        folder, slash, name = key.rpartition("/")
        zattrs = archive.read(f"{folder}{slash}.zattrs") if f"{folder}{slash}.zattrs" in names else None
        node: Node
        if name == "zarr.json":
            node = parse_node(data, key, lenient=lenient)
        elif name == ".zarray":
            node = parse_array_v2(data, zattrs, key, lenient=lenient)
        elif name == ".zgroup":
            node = parse_group_v2(data, zattrs, key)
        else:
            continue
        yield key, json.loads(data), node


def normal(document: dict[str, Any]) -> dict[str, Any]:
    """A document with what its writer left out as implied."""
    document = {"attributes": {}} | document
    encoding = document.get("chunk_key_encoding")
    if encoding is not None and "configuration" not in encoding:
        encoding["configuration"] = {"separator": "/" if encoding["name"] == "default" else "."}
    if "codecs" in document:
        document["codecs"] = [with_index_location(codec) for codec in document["codecs"]]
    return document


def with_index_location(codec: dict[str, Any]) -> dict[str, Any]:
    if codec["name"] != "sharding_indexed":
        return codec
    configuration = {"index_location": "end"} | codec["configuration"]
    configuration["codecs"] = [with_index_location(inner) for inner in configuration["codecs"]]
    return codec | {"configuration": configuration}


def test_documents_are_written_as_they_were_found(archive: zipfile.ZipFile) -> None:
    n_compared = 0
    for key, found, node in nodes(archive):
        if key.startswith("later/"):
            continue
        if node.zarr_format == 2:
            name = key.rpartition("/")[2]
            again = to_v2_documents(node)[name]
            if "dimension_separator" not in found:
                again = {member: value for member, value in again.items() if member != "dimension_separator"}
        else:
            found, again = normal(found), node.to_json()
        # As text: 1 is not 1.0, and -0.0 is not 0.0.
        assert json.dumps(again, sort_keys=True) == json.dumps(found, sort_keys=True), key
        n_compared += 1
    assert n_compared > 140


def test_metadata_says_what_the_manifest_says(archive: zipfile.ZipFile) -> None:
    found = {key.rpartition("/")[0]: node for key, _, node in nodes(archive, lenient=True)}
    n_arrays = 0
    for entry in json.loads(archive.read("manifest.json")):
        if entry["stage"] != "core":
            continue
        node = found[entry["path"]]
        assert node.zarr_format == entry["zarr_format"]
        assert json.dumps(node.attributes, sort_keys=True) == json.dumps(entry["attributes"], sort_keys=True)
        if entry["node"] == "group":
            assert isinstance(node, GroupMetadata)
            continue
        n_arrays += 1
        assert isinstance(node, ArrayMetadata)
        assert list(node.shape) == entry["shape"]
        assert node.dtype.newbyteorder("<").str == entry["dtype"].replace(">", "<")
        assert node.unknown == ()
        names = entry["dimension_names"]
        assert node.dimension_names == (None if names is None else tuple(names))
        if node.zarr_format == 3:
            assert node.data_type == parse_data_type(entry["data_type"])
    assert n_arrays > 140


def test_lenient_parsing_lets_nothing_pass_that_is_known(archive: zipfile.ZipFile) -> None:
    strict = {key: node for key, _, node in nodes(archive)}
    for key, _, node in nodes(archive, lenient=True):
        assert node == strict[key]
        assert isinstance(node, GroupMetadata) or node.unknown == ()


@pytest.mark.parametrize("name", ["zarr2", "zarr3"])
def test_consolidated_documents(repository: Path, name: str) -> None:
    with zipfile.ZipFile(repository / "tests" / "golden" / f"{name}.zip") as archive:
        alone = {key.rpartition("/")[0]: node for key, _, node in nodes(archive, lenient=True)}
        keys = [key for key in archive.namelist() if key.endswith("/.zmetadata")]
        assert keys
        for key in keys:
            folder = key.rpartition("/")[0]
            root = parse_consolidated_v2(archive.read(key), key)
            assert isinstance(root, GroupMetadata)
            assert root.replace(consolidated=None) == alone[folder]
            check_consolidated(folder, root, alone)
        inline = [(path, node) for path, node in alone.items() if isinstance(node, GroupMetadata) and node.consolidated]
        assert len(inline) > 0 or name == "zarr2"
        for path, node in inline:
            assert isinstance(node, GroupMetadata)
            check_consolidated(path, node, alone)


def check_consolidated(folder: str, root: GroupMetadata, alone: dict[str, Node]) -> None:
    assert root.consolidated is not None
    prefix = f"{folder}/" if folder else ""
    below = {path.removeprefix(prefix) for path in alone if path.startswith(prefix) and path != folder}
    assert set(root.consolidated) == below
    for path, node in root.consolidated.items():
        expected = alone[prefix + path]
        if isinstance(node, GroupMetadata):
            node = node.replace(consolidated=None)
        if isinstance(expected, GroupMetadata):
            expected = expected.replace(consolidated=None)
        assert node == expected
