"""The one request obstore cannot send: a deletion on condition that the object is still the same."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from datetime import timedelta
from typing import Any

__all__ = ["delete_if"]

_SECONDS = 60


class _Response(http.client.HTTPResponse):
    """One that closes its socket where no answer comes; Python's leaves that to the garbage collector."""

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
