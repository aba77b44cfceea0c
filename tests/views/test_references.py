"""Reference documents: through our own view, and through fsspec's filesystem."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import zarrdock
from zarrdock.errors import MetadataError, NodeNotFoundError, StoreError, UnsupportedError
from zarrdock.stores.base import Read
from zarrdock.views import references
from zarrdock.views.references import ReferenceView

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


def test_names_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "a #1, 100%25?.nc"
    Path(name).write_bytes(b"0123456789")
    for path in (name, f"../{tmp_path.name}/{name}", f"{tmp_path}/{name}", f"file://{tmp_path}/{name}"):
        view = references({"k": [path, 2, 3]})
        assert bytes(view.get("k").data) == b"234"  # type: ignore[union-attr]
    memory = MemoryFileSystem()
    memory.pipe_file("/memory/x", b"0123")  # named as the protocol is
    assert bytes(references({"k": ["memory://memory/x", 1, 2]}).get("k").data) == b"12"  # type: ignore[union-attr]
    memory.rm("/memory", recursive=True)
    with pytest.raises(UnsupportedError, match="query"):
        references({"k": ["https://host/x?signature=1", 0, 1]})


@pytest.mark.parametrize("reference", [["x", 2, 3], ["x"]])
def test_a_file_that_is_not_there_is_no_absence(tmp_path: Path, reference: list[Any]) -> None:
    view = references({"k": [str(tmp_path / "never"), *reference[1:]]})
    with pytest.raises(StoreError, match=r"does not exist.*never"):
        view.get("k")
    with pytest.raises(NodeNotFoundError, match="no reference document"):
        references(str(tmp_path / "never.json"))


@pytest.mark.parametrize("span", [(4, 8), (4.0, 8.0), (np.int64(4), np.uint32(8))], ids=["int", "float", "numpy"])
@pytest.mark.parametrize("kind", [list, tuple])
def test_spans_and_values_in_other_forms(span: tuple[Any, Any], kind: type, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(16)))
    values = {"text": "ab", "bytes": b"a\xe9b", "base64": b"base64:YWI=", "part": kind([str(tmp_path / "x"), *span])}
    view = references(values)
    found = {key: view.get(key) for key in values}
    assert {key: None if blob is None else bytes(blob.data) for key, blob in found.items()} == {
        "text": b"ab",
        "bytes": b"a\xe9b",
        "base64": b"ab",
        "part": bytes(range(4, 12)),
    }


@pytest.mark.parametrize(
    "document,error",
    [
        ([], MetadataError),
        ({"version": 1, "refs": []}, MetadataError),
        ({"a": [1, 2]}, MetadataError),
        ({"a": ["x", -1, 2]}, MetadataError),
        ({"a": ["x", 0.5, 2]}, MetadataError),
        ({"a": ["x", True, 2]}, MetadataError),
        ({"a": ["x", 0, "2"]}, MetadataError),
        ({"a": 3}, MetadataError),
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


@pytest.mark.parametrize("how", ["document", "file", "chained"])
def test_the_url(document: dict[str, Any], tmp_path: Path, how: str) -> None:
    (tmp_path / "refs.json").write_text(json.dumps(document))
    if how == "chained":
        store = zarrdock.open_store(f"reference::{tmp_path / 'refs.json'}")
    else:
        fo = document if how == "document" else str(tmp_path / "refs.json")
        store = zarrdock.open_store("reference://", storage_options={"fo": fo})
    assert isinstance(store, ReferenceView)
    record = store.store = zarrdock.RecordingStore(store.store)
    np.testing.assert_array_equal(zarrdock.open_array(store, zarr_format=2)[...], VALUES)
    assert record.n_requests == 1
    with pytest.raises(zarrdock.errors.ReadOnlyError):
        store.write("x", b"1")


def test_files_named_by_a_path_alone(document: dict[str, Any]) -> None:
    memory = MemoryFileSystem()
    memory.pipe_file("/bucket/one.bin", Path(document["templates"]["u"].removeprefix("file://")).read_bytes())
    document["templates"]["u"] = "bucket/one.bin"
    options = {"fo": document, "remote_protocol": "memory"}
    array = zarrdock.open_array("reference://", storage_options=options, zarr_format=2)
    np.testing.assert_array_equal(array[...], VALUES)
    memory.rm("/bucket", recursive=True)


def test_documents_that_the_view_refuses_are_fsspecs(document: dict[str, Any]) -> None:
    generated = {"key": "gen{{i}}", "url": "{{u}}", "offset": "{{i * 2}}", "length": "2", "dimensions": {"i": [0, 1]}}
    for more in ({"gen": [generated]}, {"templates": document["templates"] | {"f": "{{c}}"}}):
        changed = document | more
        changed["refs"] = document["refs"] | {"elsewhere": ["memory://x", 0, 1]}
        store = zarrdock.open_store("reference://", storage_options={"fo": changed})
        assert isinstance(store, zarrdock.FsspecStore)
        np.testing.assert_array_equal(zarrdock.open_array(store, zarr_format=2)[...], VALUES)
    with pytest.raises(UnsupportedError, match="name the reference document"):
        zarrdock.open_store("reference://")


@pytest.mark.peer
def test_datasets(tmp_path: Path) -> None:
    """Several variables in one file, as one dataset: read side by side by xarray's engine."""
    xr = pytest.importorskip("xarray")
    from zarrdock.adapters.xarray import XarrayBackend

    stored = zarrdock.MemoryStore()
    group = zarrdock.create_group(stored, zarr_format=2)
    for name in "ab":
        array = group.create_array(name, data=VALUES, chunks=(16, 16), fill_value=-1)
        array.attrs["_ARRAY_DIMENSIONS"] = ["y", "x"]
    refs: dict[str, Any] = {}
    with (tmp_path / "file.bin").open("wb") as file:
        for entry in stored.list():
            data = bytes(stored.get(entry.key).data)  # type: ignore[union-attr]
            is_document = "/.z" in f"/{entry.key}"
            refs[entry.key] = data.decode() if is_document else [f"file://{file.name}", file.tell(), len(data)]
            file.write(b"" if is_document else data)
    (tmp_path / "refs.json").write_text(json.dumps({"version": 1, "refs": refs}))
    dataset = xr.open_dataset(f"reference::{tmp_path / 'refs.json'}", engine=XarrayBackend)
    np.testing.assert_array_equal(dataset.a, VALUES)
    np.testing.assert_array_equal(dataset.b[3:20, 7], VALUES[3:20, 7])
