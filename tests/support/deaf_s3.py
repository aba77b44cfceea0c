"""A fake of S3 that takes conditions on writes and ignores some of them, as imitations of S3 do."""

from __future__ import annotations

from typing import Any

from support.fault_proxy import FaultProxy
from support.strict_s3 import StrictS3
from zarrdock.stores.conditions import Conditions
from zarrdock.stores.obstore_ import ObstoreStore
from zarrdock.stores.retry import RetryPolicy
from zarrdock.stores.s3 import S3Store

__all__ = ["Deaf", "by_obstore", "by_s3fs"]

QUICK = RetryPolicy(attempts=3, deadline_seconds=60, attempt_seconds=20, initial=0.01, max=0.02)


class Deaf(StrictS3):
    """A fake of S3 that keeps only some conditions."""

    def __init__(self, *buckets: str, keeps: Conditions) -> None:
        super().__init__(*buckets)
        self.keeps = keeps

    def _check(self, request: Any, old: Any) -> None:
        is_create = "If-None-Match" in request.headers
        keeps = (
            self.keeps.delete if request.method == "DELETE" else self.keeps.create if is_create else self.keeps.replace
        )
        if keeps:
            super()._check(request, old)


def by_s3fs(server: StrictS3, proxy: FaultProxy | None = None, **settings: Any) -> S3Store:
    """A store on the fake's bucket ``bucket``, by way of the proxy if one is given."""
    options = {**server.storage_options, "endpoint_url": proxy.url if proxy else server.url}
    return S3Store("s3://bucket/x", storage_options=options, retry=QUICK, **settings)


def by_obstore(server: StrictS3, proxy: FaultProxy | None = None, **settings: Any) -> ObstoreStore:
    """The same through obstore."""
    from obstore.store import S3Store as Obstore

    inner = Obstore(
        "bucket",
        prefix="x",
        endpoint=proxy.url if proxy else server.url,
        access_key_id="test",
        secret_access_key="test",
        region="us-east-1",
        client_options={"allow_http": True},
    )
    return ObstoreStore(inner, retry=QUICK, **settings)
