"""How each implementation reads an array from S3, anonymously, from an endpoint of our own."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.nginx import BUCKET
from benchmarks.peers.base import Selection, Unavailable, load_library
from benchmarks.peers.zarr_python import FusedPeer, ZarrdockPipelinePeer, ZarrsPeer


class RemotePeer(ABC):
    """One implementation over one transport. What ``open`` returns is read by the peer that made it only.

    Clients and connections are kept from one ``open`` to the next, as in an application that opens many arrays.
    """

    name: str
    version: str

    def __init__(self, url: str, threads: int) -> None:
        self.url = url

    @abstractmethod
    def open(self, path: str) -> Any:
        """The array at ``path`` in the bucket, with nothing of it cached but its metadata."""

    def read(self, handle: Any, selection: Selection) -> NDArray[Any]:
        return np.asarray(handle[selection])


def s3fs_options(url: str) -> dict[str, Any]:
    return {"anon": True, "endpoint_url": url, "use_listings_cache": False}


@cache
def obstore_store(url: str, path: str) -> Any:
    store = load_library("obstore.store")
    config = {"endpoint": url, "region": "us-east-1", "skip_signature": True, "virtual_hosted_style_request": False}
    return store.S3Store(BUCKET, config=config, client_options={"allow_http": True}, prefix=path)


class Zarrdock(RemotePeer):
    name = "zarrdock"
    direct_reads = True

    def __init__(self, url: str, threads: int) -> None:
        super().__init__(url, threads)
        self._zarrdock = load_library("zarrdock")
        self._store = load_library("zarrdock.stores.s3").S3Store
        load_library("s3fs")
        load_library("zarrdock.config").config.threads = threads
        self.version = getattr(self._zarrdock, "__version__", "unknown")

    def store(self, path: str) -> Any:
        return self._store(
            f"s3://{BUCKET}/{path}", storage_options=s3fs_options(self.url), direct_reads=self.direct_reads
        )

    def open(self, path: str) -> Any:
        return self._zarrdock.open_array(self.store(path), mode="r", zarr_format=3)


class ZarrdockS3fs(Zarrdock):
    """Without direct reads: every request through botocore."""

    name = "zarrdock s3fs"
    direct_reads = False


class ZarrdockObstore(Zarrdock):
    name = "zarrdock obstore"

    def __init__(self, url: str, threads: int) -> None:
        super().__init__(url, threads)
        load_library("obstore")
        self._over_obstore = load_library("zarrdock.stores.obstore_").ObstoreStore

    def store(self, path: str) -> Any:
        return self._over_obstore(obstore_store(self.url, path))


class ZarrdockPure(Zarrdock):
    """Without the compiled part."""

    name = "zarrdock pure"

    def read(self, handle: Any, selection: Selection) -> NDArray[Any]:
        with self._zarrdock.config.set(compiled=0):
            return super().read(handle, selection)


class TensorStore(RemotePeer):
    """As installed, but for the number of threads that copy."""

    name = "tensorstore"
    cache_bytes = 0

    def __init__(self, url: str, threads: int) -> None:
        super().__init__(url, threads)
        self._ts = load_library("tensorstore")
        self._threads = threads
        self.version = version("tensorstore")

    def open(self, path: str) -> Any:
        context = self._ts.Context(
            {
                "data_copy_concurrency": {"limit": self._threads},
                "cache_pool": {"total_bytes_limit": self.cache_bytes},
            }
        )
        kvstore = {
            "driver": "s3",
            "bucket": BUCKET,
            "path": f"{path}/",
            "endpoint": self.url,
            "aws_region": "us-east-1",
            "aws_credentials": {"type": "anonymous"},
        }
        spec: dict[str, Any] = {"driver": "zarr3", "kvstore": kvstore}
        if self.cache_bytes:
            spec["recheck_cached_data"] = "open"  # what is in the cache is trusted: the fastest it can be
        return self._ts.open(spec, open=True, read=True, context=context).result()

    def read(self, handle: Any, selection: Selection) -> NDArray[Any]:
        return np.asarray(handle[selection].read().result())


class TensorStoreCached(TensorStore):
    name = "tensorstore 8 MiB"
    cache_bytes = 8 * 2**20


class ZarrS3fs(RemotePeer):
    name = "zarr s3fs"

    def __init__(self, url: str, threads: int) -> None:
        super().__init__(url, threads)
        self._zarr = load_library("zarr")
        self._storage = load_library("zarr.storage")
        self.version = version("zarr")
        self._zarr.config.set({"threading.max_workers": threads})

    def open(self, path: str) -> Any:
        store = self._storage.FsspecStore.from_url(
            f"s3://{BUCKET}/{path}", storage_options=s3fs_options(self.url), read_only=True
        )
        return self._zarr.open_array(store, mode="r", zarr_format=3)


class ZarrPipeline(ZarrS3fs):
    """zarr-python with another codec pipeline: one line of configuration, and nothing else that is not its own."""

    pipeline = ""

    def __init__(self, url: str, threads: int) -> None:
        super().__init__(url, threads)
        module, _, name = self.pipeline.rpartition(".")
        if not hasattr(load_library(module), name):
            raise Unavailable(f"zarr {self.version} has no {name}")

    def open(self, path: str) -> Any:
        with self._zarr.config.set({"codec_pipeline.path": self.pipeline}):
            return super().open(path)

    def read(self, handle: Any, selection: Selection) -> NDArray[Any]:
        with self._zarr.config.set({"codec_pipeline.path": self.pipeline}):
            return super().read(handle, selection)


class ZarrdockPipeline(ZarrPipeline):
    name = "zarr+zarrdock s3fs"
    pipeline = ZarrdockPipelinePeer.pipeline


class ZarrFused(ZarrPipeline):
    name = "zarr-fused s3fs"
    pipeline = FusedPeer.pipeline


class ZarrsPipeline(ZarrPipeline):
    name = "zarrs s3fs"
    pipeline = ZarrsPeer.pipeline


class ZarrObstore(ZarrS3fs):
    name = "zarr obstore"

    def open(self, path: str) -> Any:
        store = self._storage.ObjectStore(obstore_store(self.url, path), read_only=True)
        return self._zarr.open_array(store, mode="r", zarr_format=3)


class Zarrista(RemotePeer):
    """Its coroutines, run by an event loop of the calling thread."""

    name = "zarrista"

    def __init__(self, url: str, threads: int) -> None:
        super().__init__(url, threads)
        self._zarrista = load_library("zarrista")
        load_library("obstore")
        self.version = version("zarrista")
        self._options = {"concurrent_target": threads}
        self._mine = threading.local()

    def _run(self, call: Callable[[], Any]) -> Any:
        async def wait() -> Any:
            return await call()

        if not hasattr(self._mine, "runner"):
            self._mine.runner = asyncio.Runner()
        return self._mine.runner.run(wait())

    def open(self, path: str) -> Any:
        return self._run(lambda: self._zarrista.AsyncArray.open(obstore_store(self.url, path)))

    def read(self, handle: Any, selection: Selection) -> NDArray[Any]:
        found = self._run(lambda: handle.retrieve_array_subset(selection, **self._options)).to_numpy()
        return np.asarray(found[tuple(0 if isinstance(part, int) else slice(None) for part in selection)])


REMOTE: dict[str, Callable[[str, int], RemotePeer]] = {
    cls.name: cls
    for cls in (
        Zarrdock, ZarrdockPure, ZarrdockS3fs, ZarrdockObstore, TensorStore, TensorStoreCached, ZarrS3fs, ZarrObstore,
        Zarrista, ZarrdockPipeline, ZarrFused, ZarrsPipeline,
    )
}  # fmt: skip

#: zarr-python with pipelines other than its default: ``--peers "zarr s3fs,..."``.
PIPELINES = [name for name, cls in REMOTE.items() if isinstance(cls, type) and issubclass(cls, ZarrPipeline)]
