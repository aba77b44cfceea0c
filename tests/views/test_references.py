"""Reference documents: through our own view, and through fsspec's filesystem."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import MetadataError, UnsupportedError
from zarrdock.stores.base import Read
from zarrdock.views import references

VALUES = np.arange(64 * 64, dtype="i4").reshape(64, 64)


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    """An array whose chunks are one after the other in one file, behind something else."""
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=VALUES, chunks=(8, 8), zarr_format=2, compressors=None)
    refs: dict[str, Any] = {}
    data = b"header"
    for key in sorted(entry.key for entry in store.list()):
        blob = store.get(key)
        assert blob is not None
        if key.startswith(".z"):
            refs[key] = bytes(blob.data).decode()
        else:
            refs[key] = ["{{u}}", len(data), len(blob.data)]
            data += bytes(blob.data)
    (tmp_path / "one.bin").write_bytes(data)
    refs["whole"] = ["{{u}}"]
    refs["inline"] = "base64:AAEC"
    return {"version": 1, "templates": {"u": f"file://{tmp_path / 'one.bin'}"}, "refs": refs}


def test_ranges_are_merged(document: dict[str, Any]) -> None:
    view = references(document)
    record = view.store = zarrdock.RecordingStore(view.store)
    array = zarrdock.open_array(view, zarr_format=2)
    np.testing.assert_array_equal(array[...], VALUES)
    assert (record.n_rounds, record.n_requests) == (1, 1)  # 64 chunks; the documents are inline


def test_what_else_is_in_it(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "refs.json").write_text(json.dumps(document))
    view = references(str(tmp_path / "refs.json"))
    assert view.get("inline").data == b"\0\1\2"  # type: ignore[union-attr]
    assert bytes(view.get("whole").data) == (tmp_path / "one.bin").read_bytes()  # type: ignore[union-attr]
    assert view.get("missing") is None
    assert view.read([Read("0.0"), Read("missing")])[1] is None
    assert view.size("0.0") == 256
    assert sorted(entry.key for entry in view.list()) == sorted(document["refs"])


def test_a_document_of_version_0(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    view = references({"a/b": [str(tmp_path / "x"), 2, 3], ".zgroup": {"zarr_format": 2}})
    assert bytes(view.get("a/b").data) == b"234"  # type: ignore[union-attr]
    assert zarrdock.open_group(view).zarr_format == 2


@pytest.mark.parametrize(
    "document,error",
    [
        ([], MetadataError),
        ({"version": 1, "refs": []}, MetadataError),
        ({"a": [1, 2]}, MetadataError),
        ({"a": ["x", -1, 2]}, MetadataError),
        ({"a": ["{{f(x=1)}}"]}, UnsupportedError),
        ({"version": 1, "refs": {}, "gen": [{"key": "x"}]}, UnsupportedError),
        ({"a": ["s3://one/x"], "b": ["s3://two/x"]}, UnsupportedError),
    ],
)
def test_what_is_no_such_document(document: Any, error: type[Exception], tmp_path: Path) -> None:
    if isinstance(document, list):
        (tmp_path / "x.json").write_text(json.dumps(document))
        document = str(tmp_path / "x.json")
    with pytest.raises(error):
        references(document)


def test_fsspecs_own_filesystem(document: dict[str, Any]) -> None:
    store = zarrdock.open_store("reference://", storage_options={"fo": document})
    np.testing.assert_array_equal(zarrdock.open_array(store, zarr_format=2)[...], VALUES)
