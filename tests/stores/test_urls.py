"""URLs of files, and pipelines of URLs: read, printed, and read again."""

import os
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import zarrdock
from support.servers import StrictS3
from zarrdock.errors import NodeNotFoundError, UnsupportedError
from zarrdock.stores import urls
from zarrdock.stores.base import Store
from zarrdock.stores.local import LocalStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.open import open_store
from zarrdock.stores.urls import Pipeline, below, encoded, parse_pipeline, path_of_file_url, pipeline_url, sub_url
from zarrdock.stores.wrappers import PrefixStore, ReadOnlyStore
from zarrdock.stores.zip_ import ZipStore

# -- file: -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///data/a", "/data/a"),
        ("file:/data/a", "/data/a"),
        ("FILE:/data/a", "/data/a"),
        ("file://localhost/data/a", "/data/a"),
        ("file:rel/a", "rel/a"),
        ("file:a%20b%25", "a b%"),
        ("file:///a%2Fb|c", "/a/b|c"),
        ("file:///%C3%A4", "/ä"),
        ("file://./a", "./a"),
        ("file:////server/share", "//server/share"),
    ],
)
def test_file_urls(url: str, path: str) -> None:
    assert path_of_file_url(url) == path


@pytest.mark.parametrize("url", ["file:", "file://", "file:///a%00b", "file://host/a"])
def test_file_urls_that_name_no_local_file(url: str) -> None:
    with pytest.raises(UnsupportedError, match=url[:8]):
        open_store(url)


def test_the_error_of_a_host_says_the_right_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsupportedError, match=r"write file:data/a\.zarr"):
        open_store("file://data/a.zarr")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///C:/data", "C:/data"),
        ("file:/C:/data", "C:/data"),
        ("file:C:/data", "C:/data"),
        ("file://C:/data", "C:/data"),
        ("file://server/share/a", "//server/share/a"),
        ("file:////server/share/a", "//server/share/a"),
    ],
)
def test_file_urls_of_windows(url: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "IS_WINDOWS", True)
    assert path_of_file_url(url) == path


@pytest.mark.parametrize("text", [r"C:\data\a.zarr", "C:/data/a.zarr", "c:a|zip:", r"\\server\share"])
def test_drive_letters_are_no_schemes(text: str) -> None:
    assert path_of_file_url(text) is None
    found = parse_pipeline(text)
    assert found is None or found.base == "c:a"


def test_file_urls_open_what_paths_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    zarrdock.create_array("file:a%20b.zarr", data=np.arange(3))
    for name in ("a b.zarr", f"file:{tmp_path}/a%20b.zarr", f"file://{tmp_path}/a%20b.zarr", "file:a%20b.zarr/"):
        assert zarrdock.open_array(name)[:].tolist() == [0, 1, 2]
    np.save(tmp_path / "x.npy", np.arange(4))
    zarrdock.copy("file:x.npy", "file:x.zarr")
    assert zarrdock.open_array("x.zarr")[:].tolist() == [0, 1, 2, 3]
    zarrdock.create_array("file:a%20b.zip", data=np.arange(3)).store.close()
    assert zipfile.is_zipfile("a b.zip")
    assert zarrdock.open_array("zip::file:a%20b.zip")[:].tolist() == [0, 1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b.zarr", "a b.zip", "x.npy", "x.zarr"]


@pytest.mark.parametrize("text", ["s3:bucket/x", "s3:/bucket/x", "gs:bucket", "http:/host/x", "az:container/x"])
def test_urls_without_slashes_make_no_folder(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    protocol, _, rest = text.partition(":")
    with pytest.raises(UnsupportedError, match=f"write {protocol}://{rest.lstrip('/')}"):
        zarrdock.create_array(text, shape=1, dtype="u1")
    assert list(tmp_path.iterdir()) == []
    zarrdock.create_array(f"./{text}", shape=1, dtype="u1")
    assert zarrdock.open_array(text).shape == (1,)


def test_paths_and_their_objects_are_no_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a|zip:", "file:x", "a|b", "a%20b"):
        store = open_store(Path(name))
        assert isinstance(store, LocalStore)
        store.write("k", b"1")
        assert (tmp_path / name / "k").exists()
        again = open_store(store.url)
        assert again.identity == store.identity
        assert again.get("k") is not None


# -- parsing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "base", "adapters", "version"),
    [
        # From ZEP 8.
        ("https://example.com/a.zip|zip|zarr3", "https://example.com/a.zip", [("zip", ""), ("zarr3", "")], 3),
        (
            "gs://bucket/outer.zip|zip:path/inner.zip|zip:path/to|zarr3:path/to/array",
            "gs://bucket/outer.zip",
            [("zip", "path/inner.zip"), ("zip", "path/to"), ("zarr3", "path/to/array")],
            3,
        ),
        (
            "gs://bucket/path/to/outer.zip|zip:path/to/inner.zip|..:other/zarr/hierarchy|zarr3:path/to/array",
            "gs://bucket/path/to/other/zarr/hierarchy",
            [("zarr3", "path/to/array")],
            3,
        ),
        (
            "gs://bucket/path/to/file.zip|zip:path/within/zip|..:/path/to/other.zip|zip:path/in/other/zip",
            "gs://bucket/path/to/other.zip",
            [("zip", "path/in/other/zip")],
            None,
        ),
        ("s3://b/o.zip|zip:x/y.zip|zip:z|..:w.zip|zip:v", "s3://b/o.zip", [("zip", "x/w.zip"), ("zip", "v")], None),
        ("s3://b/o.zip|zip:x/y.zip|zip:z|..:../../../w", "s3://b/o.zip", [("zip", "w")], None),
        ("s3://b/x/y|zip:|..:../../../z|zarr2:", "s3://b/z", [("zarr2", "")], 2),
        ("s3://b/a|zip:|..", "s3://b/a", [], None),
        # Schemes are of any case, names are not.
        ("s3://b/a.zip|ZIP:In|Zarr2:", "s3://b/a.zip", [("zip", "In"), ("zarr2", "")], 2),
        ("s3://b/a%20b%7C|zarr:", "s3://b/a b|", [("zarr", "")], None),
        ("https://h/a%20b.zip?x=1|zip:c%20d", "https://h/a%20b.zip?x=1", [("zip", "c d")], None),
        ("memory:a|zarr3", "memory://a", [("zarr3", "")], 3),
        ("data/100%25.zip|zip:a", "data/100%25.zip", [("zip", "a")], None),
        ("file:a%20b|zarr2", "file:a%20b", [("zarr2", "")], 2),
        ("simplecache::s3://b/a.zip|zip:", "simplecache::s3://b/a.zip", [("zip", "")], None),
        (
            "s3://b/repo|icechunk://branch.main/a|zarr3:",
            "s3://b/repo",
            [("icechunk", "//branch.main/a"), ("zarr3", "")],
            3,
        ),
    ],
)
def test_pipelines(text: str, base: str, adapters: list[tuple[str, str]], version: int | None) -> None:
    found = parse_pipeline(text)
    assert found == Pipeline(base, tuple(adapters))
    assert found is not None
    assert found.zarr_format == version


@pytest.mark.parametrize("text", ["a", "s3://b/a", "a|b", "s3://b/a|b", "a|b:c", "|zip:", "a|", "a|zip|b c:"])
def test_no_pipelines(text: str) -> None:
    assert parse_pipeline(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3://b/a|nosuch:x", "nosuch: is no scheme of a place within a place; known are zip:"),
        ("s3://b/a.zip|zp:x", "did you mean zip:"),
        ("s3://b/a|..:x", "leads out of the pipeline"),
        ("s3://b/a.zip|zip:|..:|..:", "leads out of the pipeline"),
        ("s3://b/a|zarr3:|zip:", "nothing can follow the format"),
        ("s3://b/a|zarr3:x?y", "neither query nor fragment"),
        ("s3:b/a|zip:", "begins with s3://"),
    ],
)
def test_pipelines_that_are_wrong(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsupportedError, match=message):
        zarrdock.open(text)
    assert list(tmp_path.iterdir()) == []


def test_errors_show_no_secrets() -> None:
    with pytest.raises(UnsupportedError) as caught:
        open_store("https://user:hidden@host/a?X-Amz-Signature=hidden|nosuch:")
    assert "hidden" not in str(caught.value)


_names = st.text(st.characters(codec="utf-8", exclude_characters="\0/\\"), min_size=1, max_size=8).filter(
    lambda name: name.strip(".") and not name.endswith(".__lock")
)
_paths = st.lists(_names, max_size=3).map("/".join)


@settings(deadline=None)
@given(_paths, _paths, _paths, st.sampled_from([None, 2, 3]), st.sampled_from(["s3://b/", "memory://", "gs://b/"]))
@example("a%7C", "b|zip:", "?#", None, "s3://b/")
@example("100%", "", "", None, "s3://b/")
def test_printed_is_parsed_again(base: str, inside: str, path: str, version: int | None, root: str) -> None:
    outer = f"{root}{base}"
    text = pipeline_url([sub_url(outer, inside), f"zip:{encoded(path)}"], version)
    found = parse_pipeline(text)
    expected: list[tuple[str, str]] = [("zip", path), *([(f"zarr{version}", "")] if version else [])]
    assert found == Pipeline(below(outer, inside), tuple(expected))
    assert text.isascii()
    assert " " not in text
    alone = pipeline_url([sub_url(outer, inside)], version)
    again = parse_pipeline(alone)
    assert (again.base if again else alone) == below(outer, inside)


@settings(deadline=None, max_examples=50)
@given(path=_paths.filter(bool))
@example(path="a%20b")
@example(path="a b|zip:?#%")
@example(path="a.zip")
def test_local_places_are_found_again(path: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = LocalStore(tmp_path_factory.getbasetemp() / "urls" / path)
    if not path.endswith((".zip", ".ozx")):
        for url in (store.url, store.pipeline_url(), store.pipeline_url(zarr_format=3)):
            found = open_store(url)
            assert (found.identity, found.url) == (store.identity, store.url)
    assert path_of_file_url(store.pipeline_url()) == store.root


# -- opening -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of a hierarchy below ``in it``, with an archive of another below ``inner``."""
    inner = tmp_path / "inner.zip"
    with ZipStore(inner) as store:
        zarrdock.create_array(store, path="b/c", data=np.arange(5))
    outer = tmp_path / "outer 100%.zip"
    with ZipStore(outer) as store:
        zarrdock.create_array(store, path="in it/a", data=np.arange(4))
        store.write("inner/x.zip", inner.read_bytes())
    return outer


def test_archives_in_archives(archive: Path) -> None:
    url = f"file://{encoded(str(archive))}"
    for base in (url, str(archive), url.replace("file://", "file:")):
        array = zarrdock.open_array(f"{base}|zip:in%20it|zarr3:a")
        assert array[:].tolist() == [0, 1, 2, 3]
        assert zarrdock.open(f"{base}|zip:|zarr3:in%20it/a")[:].tolist() == [0, 1, 2, 3]  # type: ignore[index]
        assert zarrdock.open_array(f"{base}|zip:inner/x.zip|zip:b", path="c")[:].tolist() == [0, 1, 2, 3, 4]
    deep = zarrdock.open_array(f"{url}|zip:inner/x.zip|zip:b|zarr3:c")
    assert deep.pipeline_url == f"{url}|zip:inner/x.zip|zip:b/c|zarr3:"
    assert zarrdock.open_array(deep.pipeline_url)[:].tolist() == [0, 1, 2, 3, 4]
    group = zarrdock.create_group(f"{url}|zip:in%20it")
    assert group["a"].pipeline_url == f"{url}|zip:in%20it/a|zarr3:"
    with pytest.raises(NodeNotFoundError):
        zarrdock.open(f"{url}|zip:in%20it|zarr2:a")


def test_a_pipeline_can_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = zarrdock.create_array("a|zip:b|zarr2:", data=np.arange(3))
    assert made.metadata.zarr_format == 2
    made.store.close()
    assert "b/.zarray" in zipfile.ZipFile("a").namelist()
    assert zarrdock.create_group("memory:pipelines/x|zarr2:").pipeline_url == "memory:///pipelines/x|zarr2:"
    assert fsspec.filesystem("memory").exists("/pipelines/x/.zgroup")
    zarrdock.create_hierarchy("memory:pipelines/y|zarr2:", {"a": {}})
    assert fsspec.filesystem("memory").exists("/pipelines/y/a/.zgroup")
    for call in (zarrdock.open, zarrdock.open_array, zarrdock.open_group, zarrdock.create_group):
        with pytest.raises(UnsupportedError, match=r"zarr_format=3, and the URL ends with \|zarr2"):
            call("memory:pipelines/x|zarr2:", zarr_format=3)  # type: ignore[operator]
    with pytest.raises(UnsupportedError, match=r"zarr_format=3, and the URL ends with \|zarr2"):
        zarrdock.create_array("memory:pipelines/z|zarr2:", shape=1, dtype="u1", zarr_format=3)


@pytest.mark.server
def test_pipelines_on_s3(archive: Path) -> None:
    with StrictS3("bucket") as server:
        options: dict[str, Any] = server.storage_options
        open_store("s3://bucket/a b", storage_options=options).write("x.bin", archive.read_bytes())
        url = "s3://bucket/a%20b/x.bin|zip:in%20it/a|zarr3:"
        array = zarrdock.open_array(url, storage_options=options)
        assert array[:].tolist() == [0, 1, 2, 3]
        assert array.pipeline_url == url
        store = open_store("s3://bucket/a b", storage_options=options)
        assert store.pipeline_url() == "s3://bucket/a%20b|zarr:"
        assert open_store(store.pipeline_url(), storage_options=options).identity == store.identity
        nested = open_store("s3://bucket/a b/x.bin|zip:inner/x.zip|zip:b", storage_options=options)
        assert nested.pipeline_url("c", zarr_format=3) == "s3://bucket/a%20b/x.bin|zip:inner/x.zip|zip:b/c|zarr3:"


def test_wrappers_tell_the_place_inside(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    plain = f"file://{encoded(str(tmp_path))}"
    for outer in (ReadOnlyStore(store), zarrdock.RecordingStore(store), zarrdock.CachingStore(store, max_bytes=100)):
        assert outer.pipeline_url("a b") == f"{plain}/a%20b"
    zipped = ZipStore(tmp_path / "a.zip")
    inside = PrefixStore(PrefixStore(zipped, "x"), "y")
    assert inside.pipeline_url("z") == f"{plain}/a.zip|zip:x/y/z"
    assert inside.url == f"zip://x/y::{zipped._archive.url}"
    assert open_store("zip://x y::s3://b/c d.zip", storage_options={"s3": {"anon": True}}).pipeline_url() == (
        "s3://b/c%20d.zip|zip:x%20y"
    )


@pytest.mark.parametrize("store", [MemoryStore(), open_store({}), zarrdock.testing.FaultyStore(MemoryStore())])
def test_places_that_no_url_leads_to(store: Store) -> None:
    with pytest.raises(UnsupportedError, match="no URL leads to"):
        store.pipeline_url()


def test_icechunk(tmp_path: Path) -> None:
    icechunk = pytest.importorskip("icechunk")
    place = tmp_path / "a repository"
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(place)))
    session = repository.writable_session("main")
    array = zarrdock.create_array(session, path="x y", data=np.arange(4))
    first = array.store.commit("first")  # type: ignore[attr-defined]
    repository.create_tag("v1", first)
    base = f"file://{encoded(str(place))}"
    writable = zarrdock.open_array(f"{base}|icechunk:x%20y|zarr3:", "r+")
    writable[0] = 7
    writable.store.store.commit("second")  # type: ignore[attr-defined]
    for url, value in (
        (f"{base}|icechunk", 7),
        (f"{place}|icechunk://branch.main/|zarr3:", 7),
        (f"{base}|icechunk:@branch.main", 7),
        (f"{base}|icechunk://tag.v1", 0),
        (f"{base}|icechunk://{first}", 0),
    ):
        found = zarrdock.open_array(url, path="x y")
        assert found[0] == value
        assert zarrdock.open_array(found.pipeline_url)[0] == value
    assert found.pipeline_url == f"{base}|icechunk://{first}/x%20y|zarr3:"
    for wrong in ("icechunk://tag.nosuch", "icechunk://branch.nosuch", "icechunk://x"):
        with pytest.raises(zarrdock.errors.ZarrdockError):
            zarrdock.open(f"{base}|{wrong}")
    with pytest.raises(UnsupportedError, match="file:, s3:// and gs:// alone"):
        open_store("memory://x|icechunk:")
    with pytest.raises(UnsupportedError, match="unpack the archive"):
        open_store(f"{place}|zip:|icechunk:")
    assert os.listdir(tmp_path) == ["a repository"]  # noqa: PTH208
