"""s3fs as the S3 store needs it: without retries of its own. Imported only when an S3 store is made."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
from typing import Any

from botocore.configprovider import ConfiguredEndpointProvider
from botocore.exceptions import BotoCoreError
from botocore.session import Session
from s3fs import S3FileSystem

__all__ = ["PlainS3FileSystem", "endpoint_of", "is_usual", "plain"]


class PlainS3FileSystem(S3FileSystem):  # type: ignore[misc]
    """An S3FileSystem that sends each request once.

    s3fs retries 5 times what botocore has retried 5 times: 25 requests for one. The store has its own policy, with a
        deadline, so both are turned off here.
    A class of its own, because fsspec shares instances: the user's keep their settings.
    """

    retries = 1
    max_pool_connections = 128  # botocore's default of 10 would throttle the store's own limit
    _prepared: Any = None  # the client that has our handler

    def _prepare_config_kwargs(self) -> dict[str, Any]:
        config: dict[str, Any] = super()._prepare_config_kwargs()
        config.setdefault("retries", {"total_max_attempts": 1, "mode": "standard"})
        config.setdefault("max_pool_connections", self.max_pool_connections)
        return config

    async def set_session(self, refresh: bool = False, kwargs: Any = None) -> Any:
        # From 2026.1 to 2026.3 a client that has not sent anything yet is taken for a closed one, and made anew.
        if self._s3 is not None and not refresh:
            http = getattr(getattr(self._s3, "_endpoint", None), "http_session", None)
            sessions = getattr(http, "_sessions", ...)
            if sessions == {}:
                return self._s3
            refresh = sessions is None
        client = await super().set_session(refresh, kwargs or {})
        if client is not self._prepared:  # every request asks for the client
            client.meta.events.register("before-call.s3.DeleteObjects", _add_md5, unique_id="zarrdock-md5")
            self._prepared = client
        return client

    async def _call_s3(self, method: str, *akwarglist: Any, **kwargs: Any) -> Any:
        # Before 2026.9 only some of s3fs's own calls name the requester as the one who pays.
        return await super()._call_s3(method, self.req_kw, *akwarglist, **kwargs)


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """Services that know nothing of newer checksums want this one where many keys are deleted."""
    if isinstance(body := params.get("body"), (bytes, bytearray)):
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


def plain(fs: S3FileSystem) -> S3FileSystem:
    """A filesystem with the options of ``fs``, that sends each request once. A subclass that is not s3fs's own is
    kept as it is.
    """
    if type(fs) is not S3FileSystem:
        return fs
    options = {k: v for k, v in fs.storage_options.items() if k not in ("asynchronous", "loop")}
    return PlainS3FileSystem(*fs.storage_args, **options)


def is_usual(fs: S3FileSystem) -> bool:
    """True if ``fs`` is ours, with a session that s3fs made itself: no foreign hook can watch its requests."""
    return type(fs) is PlainS3FileSystem and fs.storage_options.get("session") is None


def endpoint_of(fs: S3FileSystem) -> tuple[str | None, str]:
    """The endpoint that ``fs`` sends its requests to, None for Amazon's own, and the region, "" where none is set.

    What is not among the options is in the environment or in the files of the AWS configuration, as botocore reads
    them; nothing is sent.
    """
    given = fs.client_kwargs.get("endpoint_url") or fs.endpoint_url
    region = fs.client_kwargs.get("region_name") or ""
    if given and region:
        return str(given), str(region)
    environment = tuple((name, value) for name, value in sorted(os.environ.items()) if name.startswith("AWS_"))
    session = fs.session if fs.storage_options.get("session") is not None else None
    endpoint, configured = _configured(session, fs.kwargs.get("profile"), environment)
    return given or endpoint, region or configured


@functools.lru_cache(maxsize=64)
def _configured(
    session: Session | None, profile: str | None, environment: tuple[tuple[str, str], ...]
) -> tuple[str | None, str]:
    session = session or Session(profile=profile)
    try:
        scoped = session.get_scoped_config()
        ignored = session.get_config_variable("ignore_configured_endpoint_urls")
        region = session.get_config_variable("region") or ""
    except BotoCoreError:  # no such profile: the first request says so
        return None, ""
    if ignored:
        return None, region
    return ConfiguredEndpointProvider(session.full_config, scoped, "s3", dict(environment)).provide(), region
