"""Foreign exceptions become ours, with a hint and without credentials."""

import asyncio
import errno
import http.client
import pickle
import socket
import ssl
from typing import Any

import aiohttp
import pytest

from zarrdock.errors import (
    AccessError,
    ConflictError,
    RangeError,
    ReadOnlyError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
)
from zarrdock.stores.diagnose import HttpStatusError, Kind, TruncatedError, cause_of, diagnose, redact, translate


def botocore_error(code: str, status: int, operation: str = "GetObject") -> Exception:
    from botocore.exceptions import ClientError

    answer: Any = {"Error": {"Code": code, "Message": "words"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)


def wrapped(outer: BaseException, inner: BaseException) -> BaseException:
    try:
        raise outer from inner
    except BaseException as error:
        return error


def google_error(code: int) -> Exception:
    from gcsfs.retry import HttpError

    return HttpError({"code": code, "message": "words"})


def no_credentials() -> Exception:
    from botocore.exceptions import NoCredentialsError

    return NoCredentialsError()


def no_endpoint() -> Exception:
    from botocore.exceptions import EndpointConnectionError

    return EndpointConnectionError(endpoint_url="https://s3.example.com/b?X-Amz-Signature=s3cret")


def dns_error() -> Exception:
    key: Any = aiohttp.client_reqrep.ConnectionKey("h", 443, True, True, None, None, None)
    return aiohttp.ClientConnectorDNSError(key, OSError(-2, "Name or service not known"))


CASES: list[tuple[BaseException, Kind, type[Exception], bool]] = [
    (botocore_error("NoSuchKey", 404), Kind.MISSING, StoreError, False),
    (botocore_error("404", 404, "HeadObject"), Kind.MISSING, StoreError, False),
    (botocore_error("NoSuchBucket", 404), Kind.NO_BUCKET, StoreError, False),
    (wrapped(FileNotFoundError("b"), botocore_error("NoSuchBucket", 404)), Kind.NO_BUCKET, StoreError, False),
    (wrapped(PermissionError("b"), botocore_error("AccessDenied", 403)), Kind.DENIED, AccessError, False),
    (botocore_error("403", 403, "HeadObject"), Kind.DENIED, AccessError, False),
    (botocore_error("InvalidAccessKeyId", 403), Kind.CREDENTIALS, AccessError, False),
    (botocore_error("SignatureDoesNotMatch", 403), Kind.CREDENTIALS, AccessError, False),
    (botocore_error("ExpiredToken", 400), Kind.EXPIRED, AccessError, False),
    (botocore_error("PermanentRedirect", 301), Kind.REGION, StoreError, False),
    (botocore_error("AuthorizationHeaderMalformed", 400), Kind.REGION, StoreError, False),
    (wrapped(OSError(errno.EBUSY, "x"), botocore_error("SlowDown", 503)), Kind.SLOW_DOWN, StoreError, True),
    (botocore_error("InternalError", 500), Kind.SERVER, StoreError, True),
    (botocore_error("RequestTimeout", 400), Kind.TIMEOUT, StoreError, True),
    (
        wrapped(OSError(errno.EINVAL, "x"), botocore_error("PreconditionFailed", 412)),
        Kind.PRECONDITION,
        VersionChangedError,
        False,
    ),
    (botocore_error("ConditionalRequestConflict", 409), Kind.CONFLICT, ConflictError, True),
    (botocore_error("BucketAlreadyExists", 409), Kind.CONFLICT, ConflictError, False),
    (botocore_error("InvalidRange", 416), Kind.RANGE, RangeError, False),
    (botocore_error("MethodNotAllowed", 405), Kind.OTHER, StoreError, False),
    (no_credentials(), Kind.CREDENTIALS, AccessError, False),
    (no_endpoint(), Kind.CONNECTION, StoreError, True),
    (google_error(404), Kind.MISSING, StoreError, False),
    (google_error(401), Kind.CREDENTIALS, AccessError, False),
    (google_error(429), Kind.SLOW_DOWN, StoreError, True),
    (google_error(412), Kind.PRECONDITION, VersionChangedError, False),
    (HttpStatusError(504, "Gateway Timeout"), Kind.SERVER, StoreError, True),
    (HttpStatusError(408), Kind.TIMEOUT, StoreError, True),
    (HttpStatusError(501), Kind.UNSUPPORTED, UnsupportedError, False),
    (HttpStatusError(404, code="NoSuchBucket"), Kind.NO_BUCKET, StoreError, False),
    (TruncatedError("3 bytes"), Kind.TRUNCATED, StoreError, True),
    (aiohttp.ClientPayloadError("not enough data"), Kind.TRUNCATED, StoreError, True),
    (aiohttp.ServerDisconnectedError(), Kind.CONNECTION, StoreError, True),
    (aiohttp.ServerTimeoutError("slow"), Kind.TIMEOUT, StoreError, True),
    (dns_error(), Kind.DNS, StoreError, False),
    (socket.gaierror(socket.EAI_NONAME, "unknown"), Kind.DNS, StoreError, False),
    (socket.gaierror(socket.EAI_AGAIN, "busy"), Kind.CONNECTION, StoreError, True),
    (ssl.SSLCertVerificationError("self-signed"), Kind.TLS, StoreError, False),
    (asyncio.IncompleteReadError(b"", 5), Kind.TRUNCATED, StoreError, True),
    (http.client.IncompleteRead(b""), Kind.TRUNCATED, StoreError, True),
    (TimeoutError(), Kind.TIMEOUT, StoreError, True),
    (ConnectionResetError(errno.ECONNRESET, "reset"), Kind.CONNECTION, StoreError, True),
    (BrokenPipeError(errno.EPIPE, "pipe"), Kind.CONNECTION, StoreError, True),
    (PermissionError(errno.EACCES, "no"), Kind.DENIED, AccessError, False),
    (OSError(errno.ENOSPC, "full"), Kind.NO_SPACE, StoreError, False),
    (OSError(errno.EROFS, "ro"), Kind.READ_ONLY, ReadOnlyError, False),
    (FileNotFoundError(errno.ENOENT, "gone"), Kind.MISSING, StoreError, False),
    (NotImplementedError(), Kind.UNSUPPORTED, UnsupportedError, False),
    (ValueError("what"), Kind.OTHER, StoreError, False),
]


@pytest.mark.parametrize("error,kind,ours,transient", CASES, ids=lambda value: str(value)[:40])
def test_each_kind(error: BaseException, kind: Kind, ours: type[Exception], transient: bool) -> None:
    found = diagnose(error)
    assert (found.kind, found.is_transient) == (kind, transient)
    raised = translate(error, key="a/k", store="s3://bucket")
    assert type(raised) is ours
    assert kind.value in str(raised)
    assert "a/k" in str(raised)
    assert "s3://bucket" in str(raised)
    assert str(pickle.loads(pickle.dumps(raised))) == str(raised)


def test_hints_say_what_to_do() -> None:
    for error, words in (
        (botocore_error("NoSuchBucket", 404), "endpoint_url"),
        (botocore_error("AccessDenied", 403), "anon=True"),
        (no_credentials(), "storage_options"),
        (botocore_error("ExpiredToken", 400), "clock"),
        (botocore_error("PermanentRedirect", 301), "region_name"),
        (dns_error(), "host name"),
        (ssl.SSLError("x"), "certificate"),
        (HttpStatusError(503), "n_concurrent"),
    ):
        assert words in str(translate(error))


def test_ours_stay_as_they_are() -> None:
    ours = RangeError("x", key="k")
    assert translate(ours, key="other") is ours


SECRETS = [
    ("GET https://me:pa55@host/p?X-Amz-Credential=AKIA&X-Amz-Signature=abc failed", "GET https://host/p?… failed"),
    ("s3://bucket/key and http://h:80/p", "s3://bucket/key and http://h:80/p"),
    ("aws_secret_access_key='wJalr'", None),
    ("{'Authorization': 'Bearer ya29.x'}", None),
    ("X-Amz-Security-Token: FwoG", None),
    ("password=hunter2&x=1", None),
]


@pytest.mark.parametrize("text,expected", SECRETS)
def test_redaction(text: str, expected: str | None) -> None:
    cleaned = redact(text)
    if expected is not None:
        assert cleaned == expected
    for secret in ("pa55", "AKIA", "=abc", "wJalr", "ya29", "FwoG", "hunter2"):
        assert secret not in cleaned
    assert redact(cleaned) == cleaned


def test_the_printed_cause_has_no_credentials() -> None:
    error = no_endpoint()
    assert "s3cret" in str(error)
    assert "s3cret" not in str(translate(error))
    assert "s3cret" not in str(cause_of(error))
    harmless = ValueError("nothing to hide")
    assert cause_of(harmless) is harmless
