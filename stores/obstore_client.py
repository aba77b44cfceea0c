"""obstore and obspec objects in the shape the bridge works with, and their errors in the shape the rest understands.

Two faces of the same few calls: one for objects with coroutine methods, which run on fsspec's IO loop many at a time,
and one for plain methods, called where the caller is. obstore itself is not imported here: an obspec object need not
come from it.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from zarrdock.errors import StoreError, UnsupportedError
from zarrdock.stores.diagnose import HttpStatusError, TruncatedError
from zarrdock.stores.identity import Identity, identity_of_object, partition_of, service_of_azure, service_of_url
from zarrdock.stores.io_loop import Transport, expect_bytes

__all__ = [
    "LOCAL_KINDS",
    "AsyncClient",
    "Client",
    "SyncClient",
    "client_of",
    "delete_if",
    "explained",
    "kind_of",
    "plain",
]


# -- The one request obstore cannot send: a deletion on condition that the object is still the same.

_SECONDS = 60


class _Response(http.client.HTTPResponse):
    """A connection that closes its socket where no answer comes; Python's leaves that to the garbage collector."""

    def begin(self) -> None:
        try:
            super().begin()
        except BaseException:
            self.close()
            raise


class _Plain(http.client.HTTPConnection):
    response_class = _Response


class _Secure(http.client.HTTPSConnection):
    response_class = _Response


class _PlainHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Plain, req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Secure, req)


def delete_if(store: Any, key: str, e_tag: str) -> None:
    """DELETE with If-Match: signed by obstore, sent from here. A blocking call.

    Raises:
        urllib.error.HTTPError: with status 412 where the object has another ETag, 404 where there is none.
    """
    import obstore

    url = obstore.sign(store, "DELETE", key, timedelta(seconds=_SECONDS))
    request = urllib.request.Request(url, method="DELETE", headers={"If-Match": e_tag})
    try:
        with urllib.request.build_opener(_PlainHandler, _SecureHandler).open(request, timeout=_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        raise


Options: TypeAlias = dict[str, Any]
Items: TypeAlias = "list[tuple[str, bytes]]"

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>\s*(\w+)")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_METADATA_SERVICE = re.compile(r"169\.254\.169\.254|169\.254\.170\.2|metadata\.google\.internal")
_STATUS_OF_CLASS = {
    "AlreadyExistsError": 412,
    "NotFoundError": 404,
    "NotModifiedError": 412,
    "PermissionDeniedError": 403,
    "PreconditionError": 412,
    "UnauthenticatedError": 401,
}
# Our own limits decide how long a request may take; the library's 30 s would cut large answers short.
_TIMEOUT = "1h"
_NOT_OURS = "obstore does not work in a forked process: start workers with 'spawn' or 'forkserver'"


def explained(error: Exception) -> Exception:
    """An error of obstore as one that :func:`zarrdock.stores.diagnose.diagnose` understands.

    Most come as one class with everything in its text: first a sentence, with the HTTP status and the answer's body
    where there was one, then the error's own structure.
    """
    everything = str(error)
    text = everything.partition("\n\nDebug source")[0]
    if _METADATA_SERVICE.search(text):
        # Where credentials are looked for last, on machines of a provider.
        return HttpStatusError(401, f"no credentials were given or found: {text}")
    if found := _STATUS.search(text):
        code = _CODE.search(text)
        return HttpStatusError(int(found[1]), text, code=code[1] if code else "")
    if isinstance(error, (FileNotFoundError, NotImplementedError)):
        return error
    if status := _STATUS_OF_CLASS.get(type(error).__name__):
        return HttpStatusError(status, text)
    if found := _OS_ERROR.search(text):
        return OSError(int(found[1]), text)
    if "StartTooLarge" in everything or "Requested range was invalid" in text:
        return HttpStatusError(416, text)
    if "Received redirect without LOCATION" in text:
        return HttpStatusError(301, text)
    return _of_the_network(text, everything) or error


def _of_the_network(text: str, everything: str) -> Exception | None:
    if "TimedOut" in everything or "operation timed out" in everything:
        return TimeoutError(text)
    if "UnexpectedRange" in everything or "response body error" in text or "UnexpectedEof" in everything:
        return TruncatedError(text)
    if "dns error" in everything:
        late = "Temporary failure" in everything
        return socket.gaierror(socket.EAI_AGAIN if late else socket.EAI_NONAME, text)
    if re.search(r"InvalidCertificate|InvalidMessage|AlertReceived|certificate", everything):
        return ssl.SSLError(text)
    return ConnectionError(text) if "error sending request" in text else None


def kind_of(store: Any) -> str:
    """``s3``, ``gs``, ``az``, ``http``, ``file`` or ``memory`` for obstore's own stores; "" for anything else."""
    for cls in type(store).__mro__:
        if cls.__module__.partition(".")[0] in ("obstore", "builtins") and cls.__name__ in _KINDS:
            return _KINDS[cls.__name__]
    return ""


LOCAL_KINDS = ("file", "memory")
_KINDS = {
    "S3Store": "s3",
    "GCSStore": "gs",
    "AzureStore": "az",
    "HTTPStore": "http",
    "LocalStore": "file",
    "MemoryStore": "memory",
}


# Where obstore looks for what its settings do not say.
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


def identity_of(store: Any) -> Identity:
    """The identity of obstore's own stores, by their settings; any other object is a place of its own."""
    kind = kind_of(store)
    if kind in ("", "memory"):
        return identity_of_object("obstore", store)
    prefix = str(store.prefix or "") if kind != "http" else ""
    if kind == "file":
        return Identity("file", os.path.realpath(prefix or "/"))
    if kind == "http":
        parts = urlsplit(store.url)
        server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return Identity(service_of_url("http", server), unquote(parts.path).strip("/"))
    config = store.config
    endpoint = config.get("endpoint") or config.get("base_url")
    endpoint = endpoint or next((url for name in _ENDPOINTS[kind] if (url := os.environ.get(name))), None)
    bucket = config.get("container_name" if kind == "az" else "bucket", "")
    region = config.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    if kind == "az":
        account = config.get("account_name") or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
        service = service_of_azure(endpoint, account)
    else:
        service = service_of_url(kind, endpoint, partition=partition_of(region))
    return Identity(service, bucket).below(prefix.strip("/"))


def below(store: Any, path: str) -> tuple[Any, str]:
    """A store like ``store`` whose keys lie below ``path``; where its kind has no prefix, ``store`` and the path."""
    if not path or kind_of(store) not in ("s3", "gs", "az"):
        return store, path
    args, kwargs = store.__getnewargs_ex__()
    return type(store)(*args, **{**kwargs, "prefix": f"{store.prefix or ''}/{path}".strip("/")}), ""


def plain(store: Any) -> Any:
    """A store like ``store`` that sends each request once and leaves it its time, and cleans up folders; settings that
    the user made are kept, and what is not obstore's own too.
    """
    kind = kind_of(store)
    if kind in ("", "memory") or not hasattr(store, "__getnewargs_ex__"):
        return store
    args, kwargs = store.__getnewargs_ex__()
    if kind == "file":
        return type(store)(*args, **{**kwargs, "automatic_cleanup": True, "mkdir": True}) if args else store
    client = kwargs.get("client_options") or {}
    changed = {
        "retry_config": kwargs.get("retry_config") or {"max_retries": 0},
        "client_options": {"timeout": _TIMEOUT, **client},
    }
    return type(store)(*args, **{**kwargs, **changed})


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to a GET: what is said of the object, the half-open span of it that came, and the bytes."""

    meta: Any
    span: tuple[int, int]
    attributes: dict[str, str]
    data: Any = b""

    @classmethod
    def of(cls, result: Any) -> Fetched:
        """Metadata of the answer; must be read before the bytes are taken."""
        return cls(result.meta, tuple(result.range), dict(getattr(result, "attributes", None) or {}))


class Client(Transport):
    """Base of both clients.

    Args:
        store: the object. pid: of the process it was made in.
    """

    def __init__(self, store: Any, pid: int) -> None:
        self.store, self.pid = store, pid

    def _check_process(self) -> None:
        # Its threads are not in a child made by fork, and a call would wait for them for ever.
        if self.pid != os.getpid():
            raise StoreError(_NOT_OURS)


class SyncClient(Client):
    """Client that calls plain methods, in the calling thread."""

    def __reduce__(self) -> Any:
        if kind_of(self.store) != "memory":
            return client_of, (self.store,)
        # A store in memory travels with a copy of its contents.
        items = [(m["path"], bytes(self.fetch(m["path"], {}).data)) for m in self.list_all(None)]
        return _refilled, (type(self.store), items)

    def fetch(self, path: str, options: Options) -> Fetched:
        """GET, or HEAD."""
        self._check_process()
        try:
            result = self.store.get(path, options=options)
            fetched = Fetched.of(result)
            return fetched if options.get("head") else replace(fetched, data=_buffer(result)())
        except Exception as error:
            raise explained(error) from error

    def send(self, path: str, data: Any, options: Options) -> Any:
        """PUT."""
        self._check_process()
        try:
            return self.store.put(path, data, **options)
        except Exception as error:
            raise explained(error) from error

    def remove(self, paths: Sequence[str]) -> None:
        """Delete one key or many."""
        self._check_process()
        try:
            self.store.delete(paths[0] if len(paths) == 1 else paths)
        except Exception as error:
            raise explained(error) from error

    def list_all(self, prefix: str | None) -> list[Any]:
        """Metadata of every object below a prefix."""
        self._check_process()
        try:
            return [meta for page in self.store.list(prefix) for meta in page]
        except Exception as error:
            raise explained(error) from error

    def list_level(self, prefix: str | None) -> Any:
        """Names and prefixes right below a prefix."""
        self._check_process()
        try:
            return self.store.list_with_delimiter(prefix)
        except Exception as error:
            raise explained(error) from error


class AsyncClient(Client):
    """Client that calls coroutines, on fsspec's IO loop."""

    async_impl = True

    def __reduce__(self) -> Any:
        return client_of, (self.store,)

    async def _fetch(self, path: str, options: Options) -> Fetched:
        self._check_process()
        try:
            result = await self.store.get_async(path, options=options)
            fetched = Fetched.of(result)
            if options.get("head"):
                return fetched
            expect_bytes(fetched.span[1] - fetched.span[0])
            return replace(fetched, data=await _buffer(result, "_async")())
        except Exception as error:
            raise explained(error) from error

    async def _send(self, path: str, data: Any, options: Options) -> Any:
        self._check_process()
        try:
            return await self.store.put_async(path, data, **options)
        except Exception as error:
            raise explained(error) from error

    async def _remove(self, paths: Sequence[str]) -> None:
        self._check_process()
        try:
            await self.store.delete_async(paths[0] if len(paths) == 1 else paths)
        except Exception as error:
            raise explained(error) from error

    async def _list_all(self, prefix: str | None) -> list[Any]:
        self._check_process()
        lister = getattr(self.store, "list_async", self.store.list)
        try:
            return [meta async for page in lister(prefix) for meta in page]
        except Exception as error:
            raise explained(error) from error

    async def _list_level(self, prefix: str | None) -> Any:
        self._check_process()
        try:
            return await self.store.list_with_delimiter_async(prefix)
        except Exception as error:
            raise explained(error) from error


def _buffer(result: Any, suffix: str = "") -> Any:
    """The method that gives a result's bytes; obstore called it otherwise before obspec."""
    return getattr(result, "buffer" + suffix, None) or getattr(result, "bytes" + suffix)


def client_of(store: Any) -> SyncClient | AsyncClient:
    """The face that suits a store: what answers without a network is quicker without a loop.

    Raises:
        UnsupportedError: it has no way to read.
    """
    if kind_of(store) in LOCAL_KINDS or not hasattr(store, "get_async"):
        if not hasattr(store, "get"):
            raise UnsupportedError(f"a {type(store).__name__} is no store: it has neither get nor get_async")
        return SyncClient(store, os.getpid())
    return AsyncClient(store, os.getpid())


def _refilled(cls: Any, items: Items) -> SyncClient | AsyncClient:
    store = cls()
    for path, data in items:
        store.put(path, data)
    return client_of(store)
