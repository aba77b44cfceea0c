"""Identities: the endpoint, account and folder that tell one place from another of the same URL."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import obstore.store
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import zarrdock
from support.strict_gcs import StrictGCS
from support.strict_s3 import StrictS3
from zarrdock.adapters.zarr_python import ZarrStore
from zarrdock.errors import NodeExistsError
from zarrdock.stores.base import Store
from zarrdock.stores.fsspec_ import FsspecStore
from zarrdock.stores.http_ import HTTPStore
from zarrdock.stores.identity import Identity, is_aws, service_of_url
from zarrdock.stores.local import LocalStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.s3 import S3Store
from zarrdock.views import unshard
from zarrdock.views.references import references

PLACE = "bucket/a"


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[StrictS3, StrictS3]]:
    with StrictS3("bucket") as one, StrictS3("bucket") as two:
        yield one, two


@pytest.fixture(scope="module")
def gcs() -> Iterator[tuple[StrictGCS, StrictGCS]]:
    with StrictGCS("bucket") as one, StrictGCS("bucket") as two:
        yield one, two


class OtherMemory(MemoryFileSystem):
    store = {}
    pseudo_dirs = [""]


def inline(i: int) -> Store:
    held: dict[str, bytes] = {}
    zarrdock.create_array(held, data=np.full(8, i + 1), chunks=(4,))
    return references({key: bytes(value).decode("latin-1") for key, value in held.items() if key == "zarr.json"})


PAIRS: dict[str, Callable[[Path, int], Store]] = {
    "memory": lambda _, i: MemoryStore(),
    "mappings": lambda _, i: zarrdock.open_store({}),
    "folders": lambda folder, i: LocalStore(folder / str(i)),
    "prefixes": lambda folder, i: zarrdock.PrefixStore(LocalStore(folder / "p"), f"x{i}"),
    "archives": lambda folder, i: zarrdock.ZipStore(folder / f"{i}.zip"),
    "parts of an archive": lambda folder, i: zarrdock.ZipStore(folder / "a.zip", prefix=f"x{i}"),
    "memory filesystems": lambda _, i: FsspecStore((MemoryFileSystem, OtherMemory)[i](), "/a"),
    "obstore in memory": lambda _, i: zarrdock.open_store(obstore.store.MemoryStore()),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_two_places_of_one_name(kind: str, tmp_path: Path) -> None:
    check_apart(*[PAIRS[kind](tmp_path, i) for i in range(2)])


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_two_services_with_one_url(kind: str, request: pytest.FixtureRequest) -> None:
    services = request.getfixturevalue({"s3": "s3", "gs": "gcs"}[kind])
    url = f"{kind}://{PLACE}/apart"
    one, two = (zarrdock.open_store(url, storage_options=service.storage_options) for service in services)
    assert one.url == two.url
    check_apart(one, two)


def check_apart(one: Store, two: Store) -> None:
    """Names in dask graphs, equality and overlap of two stores that hold arrays of one shape."""
    import dask
    import dask.array as da

    assert one.identity != two.identity
    assert str(one.identity) != str(two.identity)
    assert not one.identity.overlaps(two.identity)
    assert ZarrStore(one) != ZarrStore(two)
    assert ZarrStore(one) == ZarrStore(one)
    arrays = [zarrdock.create_array(store, data=np.full(8, i), chunks=(4,)) for i, store in enumerate((one, two))]
    first, second = (array.to_dask() for array in arrays)
    with dask.config.set(scheduler="threads"):
        assert da.stack([first, second]).compute()[:, 0].tolist() == [0, 1]
        assert (second - first).compute().tolist() == [1] * 8


@pytest.mark.parametrize("kind", ["s3", "gs"])
@pytest.mark.parametrize("options", [{"immutable": True}, {"ttl": 60.0}, {}], ids=str)
def test_one_cache_folder_for_two_services(
    kind: str, options: dict[str, object], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    services = request.getfixturevalue({"s3": "s3", "gs": "gcs"}[kind])
    url = f"{kind}://{PLACE}/cached{len(str(options))}"
    for i, service in enumerate(services):
        zarrdock.create_array(url, data=np.full(8, i), chunks=(4,), storage_options=service.storage_options)
    for _ in range(2):
        for i, service in enumerate(services):
            inner = zarrdock.open_store(url, storage_options=service.storage_options)
            store = zarrdock.CachingStore(inner, max_bytes=10**7, folder=tmp_path, **options)
            assert zarrdock.open_array(store)[:].tolist() == [i] * 8


def test_stores_have_names_in_dask() -> None:
    from dask.base import tokenize

    store = MemoryStore()
    before = tokenize(store)
    store.write("k", bytes(1000))
    assert tokenize(store) == before
    assert tokenize(MemoryStore()) != before
    assert tokenize(zarrdock.PrefixStore(store, "a")) != tokenize(zarrdock.PrefixStore(store, "b"))


def test_a_cache_folder_forgets_mappings(tmp_path: Path) -> None:
    """The number of an object that is gone comes again."""
    for i in range(50):
        store = zarrdock.CachingStore(zarrdock.open_store({"k": bytes([i])}), max_bytes=10**6, folder=tmp_path, ttl=60)
        blob = store.get("k")
        assert blob is not None
        assert bytes(blob.data) == bytes([i])


def test_a_copy_resumes_from_the_same_service_only(
    s3: tuple[StrictS3, StrictS3], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{PLACE}/source"
    for i, service in enumerate(s3):
        zarrdock.create_array(url, data=np.full(8, i + 1), chunks=(1,), storage_options=service.storage_options)
    options = [service.storage_options for service in s3]
    with monkeypatch.context() as broken:
        broken.setattr(LocalStore, "write", failing_after(LocalStore.write, 4))
        with pytest.raises(KeyboardInterrupt):
            zarrdock.copy(url, tmp_path / "b", src_storage_options=options[0])
    with pytest.raises(NodeExistsError, match="another service"):
        zarrdock.copy(url, tmp_path / "b", src_storage_options=options[1], resume=True)
    again = {**options[0], "config_kwargs": {"connect_timeout": 7}, "key": "other"}
    assert zarrdock.copy(url, tmp_path / "b", src_storage_options=again, resume=True)[:].tolist() == [1] * 8


def failing_after(write: Callable[..., object], n: int) -> Callable[..., object]:
    count = iter(range(10**6))

    def failing(*args: object, **kwargs: object) -> object:
        if next(count) >= n:
            raise KeyboardInterrupt
        return write(*args, **kwargs)

    return failing


def test_two_buckets_of_one_name_do_not_overlap(s3: tuple[StrictS3, StrictS3]) -> None:
    url = f"s3://{PLACE}/over"
    one, two = (service.storage_options for service in s3)
    zarrdock.create_array(url, data=np.arange(8), storage_options=one)
    assert zarrdock.copy(url, url, src_storage_options=one, dst_storage_options=two)[:].tolist() == list(range(8))


def test_the_same_place_by_other_ways(s3: tuple[StrictS3, StrictS3], tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert LocalStore(tmp_path / "link").identity == LocalStore(tmp_path / "real").identity
    assert LocalStore(tmp_path / "link" / "a" / ".." / "b").identity == LocalStore(tmp_path / "real" / "b").identity
    by_fsspec = FsspecStore(fsspec.filesystem("file"), str(tmp_path / "link"))
    assert by_fsspec.identity == LocalStore(tmp_path / "real").identity
    assert (
        zarrdock.ZipStore(tmp_path / "link" / "a.zip").identity == zarrdock.ZipStore(tmp_path / "real/a.zip").identity
    )
    by_s3fs = S3Store(f"s3://{PLACE}", storage_options=s3[0].storage_options)
    by_obstore = obstore.store.S3Store(
        "bucket", prefix="a", endpoint=s3[0].url + "/", client_options={"allow_http": True}
    )
    assert zarrdock.open_store(by_obstore).identity == by_s3fs.identity
    held: dict[str, bytes] = {}
    assert zarrdock.open_store(held).identity == zarrdock.open_store(held).identity


def test_what_lies_in_what(tmp_path: Path) -> None:
    folder = LocalStore(tmp_path).identity
    archive = zarrdock.ZipStore(tmp_path / "a.zip").identity
    assert folder.contains(archive)
    assert folder.contains(archive.below("x"))
    assert not archive.contains(folder)
    assert not archive.overlaps(LocalStore(tmp_path / "b").identity)
    assert archive.contains(zarrdock.ZipStore(tmp_path / "a.zip", prefix="x").identity)
    assert not zarrdock.ZipStore(tmp_path / "a.zip", prefix="x").identity.overlaps(archive.below("xy"))
    view = unshard(LocalStore(tmp_path)).identity
    assert view != folder
    assert view.overlaps(folder.below("a"))
    assert not view.below("a").overlaps(folder.below("b"))


def test_credentials_are_no_part_of_it(s3: tuple[StrictS3, StrictS3]) -> None:
    options = s3[0].storage_options
    names = [
        S3Store("s3://bucket/a", storage_options={**options, "key": "A1", "secret": "hidden", "token": token}).identity
        for token in ("first", "second")
    ]
    assert names[0] == names[1]
    urls = ["X-Amz-Signature=1&X-Amz-Expires=3", "X-Amz-Signature=2&X-Amz-Expires=9", "sig=q&se=2030&sp=r&sv=2", ""]
    assert len({HTTPStore(f"https://h/a?{query}").identity for query in urls}) == 1
    assert HTTPStore("https://user:hidden@h/a").identity == HTTPStore("https://h/a").identity
    assert HTTPStore("https://h/a?v=1").identity != HTTPStore("https://h/a?v=2").identity
    assert HTTPStore("https://h/a?token=1").identity == HTTPStore("https://h/a?token=2").identity
    for identity in (names[0], HTTPStore("https://user:hidden@h/a?secret=hidden").identity):
        assert "hidden" not in str(identity)


@pytest.mark.parametrize(
    ("endpoint", "partition", "service"),
    [
        (None, "", "s3"),
        (None, "aws-cn", "s3 (aws-cn)"),
        ("https://s3.amazonaws.com", "", "s3"),
        ("https://s3.eu-central-1.amazonaws.com/", "aws", "s3"),
        ("https://bucket.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com", "", "s3"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "", "s3 (aws-cn)"),
        ("https://s3.example.org", "", "s3 at https://s3.example.org"),
        ("https://s3.amazonaws.com.example.org", "", "s3 at https://s3.amazonaws.com.example.org"),
        ("HTTPS://Minio.Local:443/", "", "s3 at https://minio.local"),
        ("http://minio.local:9000", "", "s3 at http://minio.local:9000"),
    ],
)
def test_endpoints(endpoint: str | None, partition: str, service: str) -> None:
    assert service_of_url("s3", endpoint, partition=partition) == service
    assert is_aws(endpoint) is not (" at " in service)


def test_the_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def service(**options: object) -> str:
        return S3Store("s3://bucket/a", storage_options={"key": "k", "secret": "s", **options}).identity.service

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(
        "[profile lab]\nendpoint_url = http://lab:1\n[profile china]\nregion = cn-north-1\n"
        "[profile many]\nservices = s\n[services s]\ns3 =\n  endpoint_url = http://many:2\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert service() == "s3"
    assert service(profile="lab") == "s3 at http://lab:1"
    assert service(profile="many") == "s3 at http://many:2"
    assert service(profile="china") == "s3 (aws-cn)"
    assert service(client_kwargs={"region_name": "us-gov-east-1"}) == "s3 (aws-us-gov)"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all:3")
    assert service() == "s3 at http://all:3"
    assert zarrdock.open_store(obstore.store.S3Store("bucket")).identity.service == "s3 at http://all:3"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://one:4")
    assert service() == "s3 at http://one:4"
    assert service(endpoint_url="http://given:5") == "s3 at http://given:5"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert service() == "s3"


def test_azure_accounts() -> None:
    def identity(**config: str) -> Identity:
        store = obstore.store.AzureStore(container_name="c", prefix="p", skip_signature=True, **config)
        return zarrdock.open_store(store).identity

    assert identity(account_name="a") == identity(account_name="a")
    assert identity(account_name="a") != identity(account_name="b")
    assert identity(account_name="a").path == "c/p"


def test_the_same_name_in_another_process(s3: tuple[StrictS3, StrictS3], tmp_path: Path) -> None:
    stores = [
        LocalStore(tmp_path),
        zarrdock.open_store(f"s3://{PLACE}", storage_options=s3[0].storage_options),
        HTTPStore("https://h/a?v=1"),
        zarrdock.open_store(f"simplecache::{s3[0].url}/x"),
        references({"a": "inline", "b": [f"file://{tmp_path}/f", 1, 2]}),
    ]
    code = "import pickle, sys; print(*[s.identity for s in pickle.loads(sys.stdin.buffer.read())], sep='\\n')"
    run = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(stores), capture_output=True, check=True)
    assert run.stdout.decode().splitlines() == [str(store.identity) for store in stores]


def test_reference_documents(tmp_path: Path) -> None:
    def of(offset: int) -> Identity:
        return references({"a": [f"file://{tmp_path}/f", offset, 2]}).identity

    assert of(1) == of(1)
    assert of(1) != of(2)
    assert inline(0).identity != inline(1).identity


def test_names_hold_through_a_fork() -> None:
    store = MemoryStore()
    before = store.identity
    pid = os.fork()
    if not pid:
        os._exit(store.identity == before)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert store.identity == before
