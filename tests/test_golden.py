"""Arrays that zarr-python 2, zarr-python 3 and TensorStore wrote, read by zarrdock. See ``golden/README.md``."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.stores.wrappers import PrefixStore

HERE = Path(__file__).parent / "golden"
NAMES = ("zarr2", "zarr3", "tensorstore")


@cache
def entries(name: str) -> tuple[dict[str, Any], ...]:
    with zipfile.ZipFile(HERE / f"{name}.zip") as archive:
        return tuple(json.loads(archive.read("manifest.json")))


@cache
def store_of(name: str) -> zarrdock.Store:
    store = zarrdock.MemoryStore()
    with zipfile.ZipFile(HERE / f"{name}.zip") as archive:
        for info in archive.infolist():
            if not info.is_dir():
                store.write(info.filename, archive.read(info))
    return store


def chosen(node: str, stage: str) -> list[Any]:
    return [
        pytest.param(name, entry, id=f"{name}:{entry['path']}")
        for name in NAMES
        for entry in entries(name)
        if entry["node"] == node and entry["stage"] == stage
    ]


def canonical_json(array: np.ndarray) -> bytes:
    import base64

    items = [base64.b64encode(item).decode() if isinstance(item, bytes) else item for item in array.ravel().tolist()]
    return json.dumps(items, ensure_ascii=False, separators=(",", ":")).encode()


def dtype_of(description: Any) -> np.dtype[Any]:
    if isinstance(description, str):
        return np.dtype(description)
    return np.dtype([(name, dtype_of(kind), *map(tuple, shape)) for name, kind, *shape in description])


def check_values(found: np.ndarray, name: str, entry: dict[str, Any]) -> None:
    """Bit by bit: a NaN keeps its payload, a zero its sign."""
    assert found.shape == tuple(entry["shape"])
    expected_file = store_of(name).get(entry["expected"]).data  # type: ignore[union-attr]
    if entry["checksum_of"] == "canonical-json":
        assert found.dtype.kind in "OT"
        payload = canonical_json(found)
        assert payload == bytes(expected_file)
    else:
        wanted = dtype_of(entry["dtype"])
        little = np.asarray(found, order="C").astype(found.dtype.newbyteorder("<"))
        if "bits" in entry["features"]:  # a type that numpy has not: the bits
            little = little.view(wanted)
        assert little.dtype == wanted
        expected = np.load(io.BytesIO(expected_file), allow_pickle=False)
        payload = little.tobytes()
        if payload != expected.tobytes():
            np.testing.assert_array_equal(found, expected)
            raise AssertionError("the same values, but other bits")
    assert hashlib.sha256(payload).hexdigest() == entry["sha256"]


def check_array(name: str, entry: dict[str, Any]) -> None:
    store = store_of(name)
    array = zarrdock.open_array(store, path=entry["path"])
    assert array.zarr_format == entry["zarr_format"]
    assert array.shape == tuple(entry["shape"])
    assert dict(array.attrs) == entry["attributes"]
    names = None if entry["dimension_names"] is None else tuple(entry["dimension_names"])
    assert array.dimension_names == names
    check_values(array.read(), name, entry)
    assert zarrdock.open_array(store, path=entry["path"], zarr_format=entry["zarr_format"]).metadata == array.metadata
    # The same piece by piece, with the index of each shard known by then; and by way of a prefix.
    again = zarrdock.open(PrefixStore(store, entry["path"]))
    assert isinstance(again, zarrdock.Array)
    check_values(again.read(), name, entry)
    if array.ndim:
        parts = np.empty(array.shape, array.dtype)
        for i in range(array.shape[0]):
            again.read((slice(i, i + 1),), out=parts[i : i + 1])
        check_values(parts, name, entry)


@pytest.mark.parametrize("name", NAMES)
def test_the_archives_are_those_of_the_checksums(name: str) -> None:
    sums = dict(reversed(line.split()) for line in (HERE / "SHA256SUMS").read_text().splitlines())
    assert hashlib.sha256((HERE / f"{name}.zip").read_bytes()).hexdigest() == sums[f"{name}.zip"]


@pytest.mark.parametrize("name, entry", chosen("array", "core"))
def test_core_arrays_read_as_they_were_written(name: str, entry: dict[str, Any]) -> None:
    check_array(name, entry)


@pytest.mark.parametrize("name, entry", chosen("group", "core"))
def test_groups(name: str, entry: dict[str, Any]) -> None:
    group = zarrdock.open_group(store_of(name), path=entry["path"])
    kinds = {member: "array" if isinstance(node, zarrdock.Array) else "group" for member, node in group.members()}
    assert kinds == entry["members"]
    assert dict(group.attrs) == entry["attributes"]
    assert group.zarr_format == entry["zarr_format"]
    assert list(group) == sorted(entry["members"])


@pytest.mark.parametrize("name, entry", chosen("array", "later"))
def test_other_types_and_codecs_read_as_they_were_written(name: str, entry: dict[str, Any]) -> None:
    check_array(name, entry)
