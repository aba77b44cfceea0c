"""What S3 says when it says no: an XML document with a code and a message."""

from __future__ import annotations

import re
from collections.abc import Mapping

from zarrdock.stores.translate import HttpStatusError

__all__ = ["s3_error"]

_CODE = re.compile(rb"<Code>([^<]{1,200})</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{1,1000})</Message>")


def s3_error(status: int, body: bytes, headers: Mapping[str, str]) -> HttpStatusError:
    """The error of an answer; services that speak S3 do not always send the document."""
    start = body[:65536]
    code, message = (
        found[1].decode(errors="replace") if (found := pattern.search(start)) else "" for pattern in (_CODE, _MESSAGE)
    )
    after = headers.get("Retry-After", "")
    return HttpStatusError(
        status,
        f"{code}: {message}" if message else code,
        code=code,
        retry_after=float(after) if after.isdecimal() else None,
    )
