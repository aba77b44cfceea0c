"""What AzureStore sends, counted at the wire, and what only Azure has: directories, blocks, leases, SAS, accounts."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from azure.storage.blob import (
    BlobClient,
    BlobServiceClient,
    ContainerSasPermissions,
    PublicAccess,
    generate_container_sas,
)

import zarrdock
from support.servers import AZURITE_ACCOUNT, AZURITE_KEY, Endpoint, FaultProxy, StrictAzure
from zarrdock.cli.main import run
from zarrdock.errors import AccessError, KeyExistsError, RangeError, StoreError, UnsupportedError, VersionChangedError
from zarrdock.ranges import From, Span, Tail
from zarrdock.stores import azure as module
from zarrdock.stores.azure import AzureStore
from zarrdock.stores.base import Blob, Listing, Read
from zarrdock.stores.retry import RetryPolicy

pytestmark = pytest.mark.server

QUICK = RetryPolicy(attempts=3, deadline_seconds=10, attempt_seconds=5, initial=0.01, max=0.02)
DATA = bytes(range(100))


@pytest.fixture(scope="module")
def proxy(any_azure: Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy(any_azure.url, "azure") as proxy:
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, any_azure: Endpoint, prefix: str) -> AzureStore:
    proxy.clear()
    return AzureStore(f"az://{any_azure.bucket}/{prefix}", storage_options=any_azure.through(proxy), retry=QUICK)


@pytest.fixture
def on_azurite(azurite: Endpoint, prefix: str) -> AzureStore:
    return AzureStore(f"az://{azurite.bucket}/{prefix}", storage_options=azurite.storage_options, retry=QUICK)


def conditions(proxy: FaultProxy) -> list[tuple[str, str]]:
    """Method and condition of what was sent since the last look."""
    log = [(seen.method, seen.if_match) for seen in proxy.log]
    proxy.clear()
    return log


def with_text(endpoint: Endpoint, text: str) -> dict[str, Any]:
    """Options of another connection string for the server."""
    return {"connection_string": f"BlobEndpoint={endpoint.url};{text}"}


# -- requests ----------------------------------------------------------------------------------------------------------


def test_requests_of_writes(store: AzureStore, proxy: FaultProxy) -> None:
    version = store.write("k", DATA, create_only=True)
    assert conditions(proxy) == [("PUT", "*")]
    with pytest.raises(KeyExistsError):
        store.write("k", DATA, create_only=True)
    assert conditions(proxy) == [("PUT", "*")], "one request: aiohttp does not repeat it, so it cannot be our own doing"
    store.update("k", lambda old: bytes(old or b"") + b"x")
    assert conditions(proxy) == [("GET", ""), ("PUT", version)]
    store.update("new", lambda old: b"x")
    assert conditions(proxy) == [("GET", ""), ("PUT", "*")]
    store.update("k", lambda old: old)
    assert conditions(proxy) == [("GET", "")]
    version = store.get("k").version
    proxy.clear()
    store.update("k", lambda old: None)
    assert conditions(proxy) == [("GET", ""), ("DELETE", version)]


def test_requests_of_reads(store: AzureStore, proxy: FaultProxy) -> None:
    version = store.write("k", DATA)
    proxy.clear()
    assert store.get("missing") is None
    assert proxy.sent() == [("GET", 404)]
    store.update("k", lambda old: DATA[::-1])
    proxy.clear()
    assert isinstance(store.read([Read("k", Span(3, 5), version)])[0], VersionChangedError)
    assert proxy.sent() == [("GET", 412), ("HEAD", 200)], "the second asks if there still is one"
    assert store.read([Read("missing", Span(3, 5), version)])[0] is None
    with pytest.raises(RangeError):
        store.get("k", From(100))
    proxy.clear()
    assert store.get("k", Span(3, 3)) == Blob(b"")
    assert proxy.sent() == []


def test_many_keys_are_deleted_together(store: AzureStore, proxy: FaultProxy) -> None:
    keys = [f"a b/{i}%é" for i in range(300)]
    for key in keys[:3]:
        store.write(key, b"1")
    store.write("left", b"1")
    proxy.clear()
    store.delete_many(keys)
    assert [method for method, _ in proxy.sent()].count("POST") == 2, "256 a request"
    assert [entry.key for entry in store.list()] == ["left"]


def test_plans_announce_the_sizes(store: AzureStore, proxy: FaultProxy) -> None:
    zarrdock.create_array(store, data=np.arange(64), chunks=(4,), shards=(32,))
    array = zarrdock.open_array(store)
    plan = array.plan((slice(5, 40),))
    assert plan.rounds[0] == (2, 0)
    proxy.clear()
    assert array[5:40].tolist() == list(range(5, 40))
    assert plan.n_requests == len(proxy.log)
    assert [seen.method for seen in proxy.log].count("HEAD") == 2
    assert plan.n_rounds == 3


def test_large_blobs_are_written_in_blocks(
    store: AzureStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PUT_BYTES", 1000)
    monkeypatch.setattr(module, "BLOCK_BYTES", 400)
    data = np.random.default_rng(0).bytes(1100)
    store.write("k", data, create_only=True)
    assert [seen.if_match for seen in proxy.log] == ["", "", "", "*"]
    assert bytes(store.get("k").data) == data
    with pytest.raises(KeyExistsError):
        store.write("k", data, create_only=True)
    store.update("k", lambda old: bytes(old or b"") + b"x")
    assert bytes(store.get("k").data) == data + b"x"


# -- directories -------------------------------------------------------------------------------------------------------


def test_a_blob_that_marks_a_folder_is_no_key(any_azure: Endpoint, store: AzureStore, prefix: str) -> None:
    text = any_azure.storage_options["connection_string"]
    name = f"{prefix}/folder"
    with BlobClient.from_connection_string(text, any_azure.bucket, name) as client:
        client.upload_blob(b"", metadata={"hdi_isfolder": "true"})
        store.write("folder/k", b"1")
        for range_ in (None, Span(0, 1), From(0), Tail(1)):
            assert store.get("folder", range_) is None
        assert store.size("folder") is None
        assert [entry.key for entry in store.list()] == ["folder/k"]
        assert store.list_dir() == Listing((), ("folder",))
        store.delete_prefix("")
        assert not client.exists()


def test_a_blob_in_the_place_of_a_directory_stays() -> None:
    with StrictAzure("bucket", hierarchical=True) as server:
        store = AzureStore("az://bucket/root", storage_options=server.storage_options, retry=QUICK)
        store.write("a/b/c", b"1")
        assert {"root", "root/a", "root/a/b", "root/a/b/c"} == set(server.blobs)
        send = server._delete

        def replaced(name: str) -> tuple[int, str]:
            answer = send(name)
            if name == "root/a/b":  # another writer, between the deletion of the folder and the one above it
                del server.blobs["root/a"]
                server.put("root/a", b"a blob now")
            return answer

        server._delete = replaced  # type: ignore[method-assign]
        store.delete("a/b/c")
        assert bytes(store.get("a").data) == b"a blob now"
        store.delete_prefix("a")
        assert bytes(store.get("a").data) == b"a blob now"
        store.delete("a")
        assert set(server.blobs) == {"root"}


# -- errors ------------------------------------------------------------------------------------------------------------


def sas(endpoint: Endpoint, permission: str, hours: float) -> str:
    now = datetime.now(UTC)
    return generate_container_sas(
        AZURITE_ACCOUNT,
        endpoint.bucket,
        account_key=AZURITE_KEY,
        permission=ContainerSasPermissions.from_string(permission),
        start=now - timedelta(days=2),
        expiry=now + timedelta(hours=hours),
    )


def test_signatures(azurite: Endpoint, on_azurite: AzureStore) -> None:
    on_azurite.write("k", DATA)
    url = on_azurite.url
    options = with_text(azurite, f"SharedAccessSignature={sas(azurite, 'rl', 1)}")
    reader = AzureStore(url, storage_options=options, retry=QUICK)
    assert bytes(reader.get("k", Tail(3)).data) == DATA[-3:]
    assert [entry.key for entry in reader.list()] == ["k"]
    with pytest.raises(AccessError, match="access denied") as denied:
        reader.write("k", b"")
    assert "sig" not in str(denied.value)
    expired = with_text(azurite, f"SharedAccessSignature={sas(azurite, 'rl', -1)}")
    with pytest.raises(AccessError, match="expired"):
        AzureStore(url, storage_options=expired, retry=QUICK, missing_statuses=(403,)).get("k")
    writer = with_text(azurite, f"SharedAccessSignature={sas(azurite, 'rwdlc', 1)}")
    AzureStore(url, storage_options=writer, retry=QUICK).delete_many(["k", "missing"])
    assert on_azurite.get("k") is None


def test_what_is_private_is_no_missing_key(azurite: Endpoint, on_azurite: AzureStore) -> None:
    on_azurite.write("k", DATA)
    anonymous = AzureStore(on_azurite.url, storage_options=with_text(azurite, ""), retry=QUICK)
    for key in ("k", "missing"):
        with pytest.raises(StoreError):
            anonymous.get(key)
    wrong = azurite.storage_options["connection_string"].replace("Eby8", "Abcd")
    with pytest.raises(AccessError):
        AzureStore(on_azurite.url, storage_options={"connection_string": wrong}, retry=QUICK).get("k")


def test_a_public_container(azurite: Endpoint) -> None:
    text = azurite.storage_options["connection_string"]
    with BlobServiceClient.from_connection_string(text) as client:
        client.create_container("public", public_access=PublicAccess.CONTAINER)
    AzureStore("az://public/a", storage_options=azurite.storage_options).write("k", DATA)
    anonymous = AzureStore("az://public/a", storage_options=with_text(azurite, ""), retry=QUICK)
    assert bytes(anonymous.get("k").data) == DATA
    assert anonymous.get("missing") is None
    assert [entry.key for entry in anonymous.list()] == ["k"]
    with pytest.raises(AccessError) as denied:
        anonymous.write("k", b"")
    assert "anonymous access" not in str(denied.value)


def test_a_lease_is_no_lost_race(azurite: Endpoint, on_azurite: AzureStore) -> None:
    on_azurite.write("k", b"1")
    name = f"{on_azurite.root.partition('/')[2]}/k"
    text = azurite.storage_options["connection_string"]
    with BlobClient.from_connection_string(text, azurite.bucket, name) as client:
        lease = client.acquire_lease()
        for change in (lambda: on_azurite.write("k", b"2"), lambda: on_azurite.update("k", lambda old: b"2")):
            with pytest.raises(StoreError, match="LeaseIdMissing"):
                change()
        lease.release()
    on_azurite.update("k", lambda old: bytes(old or b"") + b"2")
    assert bytes(on_azurite.get("k").data) == b"12"


# -- names of accounts and places --------------------------------------------------------------------------------------


def test_no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCOUNT_NAME", "CONNECTION_STRING"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    with pytest.raises(UnsupportedError, match="names no storage account"):
        zarrdock.open_store("az://container/folder")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert zarrdock.open_store("az://container/folder", storage_options={"anon": True}).url == "az://container/folder"


def test_identity_of_an_account() -> None:
    import obstore.store

    options = {"account_name": "account", "anon": True}
    store = zarrdock.open_store("az://container/folder", storage_options=options)
    url = "abfss://container@account.dfs.core.windows.net/folder"
    by_url = zarrdock.open_store(url, storage_options={"anon": True})
    assert by_url.url == url
    assert store.identity == by_url.identity
    assert str(store.identity) == "az, account account:container/folder"
    inner = obstore.store.AzureStore("container", account_name="account", prefix="folder", skip_signature=True)
    assert zarrdock.open_store(inner).identity == store.identity
    other = zarrdock.open_store("az://container/folder", storage_options={**options, "account_name": "other"})
    assert other.identity != store.identity


# -- the quick start ---------------------------------------------------------------------------------------------------


def test_quick_start(azurite: Endpoint, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, options = f"az://{azurite.bucket}/{prefix}", azurite.storage_options
    values = np.arange(60 * 70, dtype="u2").reshape(60, 70)
    array = zarrdock.create_array(
        f"{url}/volume.zarr", data=values, chunks=(16, 16), shards=(32, 32), storage_options=options
    )
    array[3:20, 5] = 7
    array.append(values[:5])
    values[3:20, 5] = 7
    again = zarrdock.open_array(f"{url}/volume.zarr", storage_options=options)
    np.testing.assert_array_equal(again[:60], values)
    assert again.shape == (65, 70)
    group = zarrdock.create_group(f"{url}/tree.zarr", storage_options=options)
    group.create_array("a", data=np.arange(5))
    group.consolidate()
    assert [name for name, _ in zarrdock.open_group(f"{url}/tree.zarr", storage_options=options).members()] == ["a"]
    zarrdock.copy(zarrdock.open_store(f"{url}/volume.zarr", storage_options=options), tmp_path / "volume.zarr")
    np.testing.assert_array_equal(zarrdock.open_array(tmp_path / "volume.zarr")[:60], values)
    text = f"connection_string={options['connection_string']}"
    assert run(["check-store", f"{url}/tried", "--storage-option", text, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_good"]
