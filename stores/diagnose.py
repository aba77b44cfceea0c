"""Foreign exceptions to ours, in one place.

:func:`diagnose` says what kind of failure an exception of fsspec, botocore, aiohttp, google-auth, requests or the
operating system is; the retry policy asks it what is worth another try, and :func:`translate` makes the error a user
sees. Libraries are recognised by the names of their classes, so none is imported.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from zarrdock.errors import (
    AccessError,
    ConflictError,
    RangeError,
    ReadOnlyError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
    ZarrdockError,
)

__all__ = [
    "Diagnosis",
    "HttpStatusError",
    "Kind",
    "PageError",
    "TruncatedError",
    "cause_of",
    "diagnose",
    "has_expired",
    "is_expired",
    "is_page",
    "redact",
    "translate",
    "xml_error",
]


# -- What S3 and Azure say when they say no: an XML document with a code and a message.

_CODE = re.compile(rb"<Code>([^<]{1,200})</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{1,1000})</Message>")
_DETAIL = re.compile(rb"<AuthenticationErrorDetail>([^<]{1,1000})</AuthenticationErrorDetail>")


def xml_error(status: int, body: bytes | bytearray, headers: Mapping[str, str]) -> HttpStatusError:
    """The error of an answer of S3 or Azure. Services that speak S3 do not always send the document; Azure repeats the
    code in a header, for answers to HEAD.
    """
    start = body[:65536]
    code, message, detail = (
        found[1].decode(errors="replace") if (found := pattern.search(start)) else ""
        for pattern in (_CODE, _MESSAGE, _DETAIL)
    )
    code = code or headers.get("x-ms-error-code", "")
    message = " ".join(part for part in (message.partition("\n")[0].strip(), detail.strip()) if part)
    after = headers.get("Retry-After", "")
    return HttpStatusError(
        status,
        f"{code}: {message}" if message else code,
        code=code,
        retry_after=float(after) if after.isdecimal() else None,
    )


class HttpStatusError(Exception):
    """An HTTP answer that is not what was hoped for, raised by stores that speak HTTP themselves."""

    def __init__(self, status: int, text: str = "", *, code: str = "", retry_after: float | None = None) -> None:
        super().__init__(f"HTTP {status} {text}".strip())
        self.status = status
        self.code = code
        self.retry_after = retry_after


class TruncatedError(Exception):
    """Fewer bytes came than were announced or are there: worth asking again."""


class PageError(Exception):
    """A page of HTML came in the place of an object."""


def is_page(content_type: str, key: str) -> bool:
    """True for a page of HTML that was sent in the place of the object ``key``, by the type of the answer."""
    is_html = content_type.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")
    return is_html and not key.lower().endswith((".html", ".htm", ".xhtml"))


class Kind(enum.Enum):
    """Kind of a failure."""

    MISSING = "no such key"
    NO_BUCKET = "no such bucket"
    NO_CONTAINER = "no such container"
    DENIED = "access denied"
    PAGE = "a page of HTML came, and not the object"
    CREDENTIALS = "no valid credentials"
    EXPIRED = "the credentials have expired"
    REGION = "wrong region or endpoint"
    DNS = "the host name could not be resolved"
    TLS = "the TLS connection could not be made"
    CONNECTION = "the connection failed"
    TIMEOUT = "timed out"
    TRUNCATED = "the answer was cut short"
    SLOW_DOWN = "the service asks to slow down"
    SERVER = "the service failed"
    PRECONDITION = "the object is not the version asked for"
    CONFLICT = "another writer was at the same object"
    RANGE = "the range is not in the object"
    NO_SPACE = "no space left"
    READ_ONLY = "the file system is read-only"
    UNSUPPORTED = "not supported by this filesystem"
    OTHER = "failed"


_ANONYMOUS = "; a public bucket wants anonymous access (anon=True, or token='anon' for GCS)"
_MISSING_TOO = (
    "; where listing is not allowed a missing key is answered like this too: missing_statuses=(403,) takes it so"
)

_HINTS = {
    Kind.NO_BUCKET: "check the bucket's name, and the endpoint_url if it is not the provider's own",
    Kind.NO_CONTAINER: "check the names of the container and the account; anonymous readers may be told so of what is "
    "private, and of missing keys where they may not list: missing_statuses=(404,) takes it so",
    Kind.DENIED: f"check the permissions of these credentials{_ANONYMOUS}{_MISSING_TOO}",
    Kind.CREDENTIALS: f"give credentials in storage_options or in the environment{_ANONYMOUS}",
    Kind.PAGE: "it may be a page to log in, or what the server sends for missing keys: missing_statuses=(200,) takes it"
    " so",
    Kind.EXPIRED: "get new ones, and check this machine's clock",
    Kind.REGION: "set client_kwargs={'region_name': ...} or the endpoint_url",
    Kind.DNS: "check the host name or endpoint_url, and the network",
    Kind.TLS: "check the certificate, the system's certificate store and whether the endpoint speaks https",
    Kind.CONNECTION: "check the address and port, proxies and the network",
    Kind.TIMEOUT: "check the network, or allow more time with retry=RetryPolicy(deadline_seconds=...)",
    Kind.SLOW_DOWN: "lower n_concurrent, or allow more time with retry=RetryPolicy(deadline_seconds=...)",
}

_ANONYMOUS_HINTS = {
    Kind.DENIED: f"anonymous readers may not read this: give credentials in storage_options{_MISSING_TOO}",
    Kind.CREDENTIALS: "anonymous readers may not read this: give credentials in storage_options",
}

_TRANSIENT = {Kind.CONNECTION, Kind.TIMEOUT, Kind.TRUNCATED, Kind.SLOW_DOWN, Kind.SERVER}

_BY_STATUS = {
    401: Kind.CREDENTIALS,
    403: Kind.DENIED,
    404: Kind.MISSING,
    408: Kind.TIMEOUT,
    409: Kind.CONFLICT,
    410: Kind.MISSING,
    412: Kind.PRECONDITION,
    416: Kind.RANGE,
    429: Kind.SLOW_DOWN,
    500: Kind.SERVER,
    502: Kind.SERVER,
    503: Kind.SLOW_DOWN,
    504: Kind.SERVER,
    301: Kind.REGION,
}

# Error codes of S3 and of services that speak its protocol.
_BY_CODE = {
    "NoSuchKey": Kind.MISSING,
    "NotFound": Kind.MISSING,
    "NoSuchVersion": Kind.MISSING,
    "NoSuchBucket": Kind.NO_BUCKET,
    "InvalidBucketName": Kind.NO_BUCKET,
    "AccessDenied": Kind.DENIED,
    "AllAccessDisabled": Kind.DENIED,
    "Forbidden": Kind.DENIED,
    "InvalidAccessKeyId": Kind.CREDENTIALS,
    "SignatureDoesNotMatch": Kind.CREDENTIALS,
    "InvalidToken": Kind.CREDENTIALS,
    "ExpiredToken": Kind.EXPIRED,
    "ExpiredTokenException": Kind.EXPIRED,
    "TokenRefreshRequired": Kind.EXPIRED,
    "RequestTimeTooSkewed": Kind.EXPIRED,
    "PermanentRedirect": Kind.REGION,
    "AuthorizationHeaderMalformed": Kind.REGION,
    "IllegalLocationConstraintException": Kind.REGION,
    "SlowDown": Kind.SLOW_DOWN,
    "ServiceUnavailable": Kind.SLOW_DOWN,
    "TooManyRequests": Kind.SLOW_DOWN,
    "RequestLimitExceeded": Kind.SLOW_DOWN,
    "Throttling": Kind.SLOW_DOWN,
    "ThrottlingException": Kind.SLOW_DOWN,
    "BandwidthLimitExceeded": Kind.SLOW_DOWN,
    "InternalError": Kind.SERVER,
    "RequestTimeout": Kind.TIMEOUT,
    "PreconditionFailed": Kind.PRECONDITION,
    "ConditionalRequestConflict": Kind.CONFLICT,
    "OperationAborted": Kind.CONFLICT,
    "InvalidRange": Kind.RANGE,
    # Azure's own.
    "BlobNotFound": Kind.MISSING,
    "DirectoryIsNotEmpty": Kind.MISSING,  # where a blob was to be deleted
    "ContainerNotFound": Kind.NO_CONTAINER,
    "ContainerBeingDeleted": Kind.NO_CONTAINER,
    "ResourceNotFound": Kind.NO_CONTAINER,
    "AuthenticationFailed": Kind.CREDENTIALS,
    "InvalidAuthenticationInfo": Kind.CREDENTIALS,
    "NoAuthenticationInformation": Kind.CREDENTIALS,
    "PublicAccessNotPermitted": Kind.DENIED,
    "ServerBusy": Kind.SLOW_DOWN,
    "OperationTimedOut": Kind.TIMEOUT,
    # Answered with the status of a condition that does not hold, or of another writer, and neither is meant.
    "BlobArchived": Kind.OTHER,
    "BlobBeingRehydrated": Kind.OTHER,
    "BlobImmutableDueToPolicy": Kind.OTHER,
    "InvalidBlobType": Kind.OTHER,
    "LeaseIdMissing": Kind.OTHER,
    "PathConflict": Kind.OTHER,
    "ResourceTypeMismatch": Kind.OTHER,
    "SnapshotsPresent": Kind.OTHER,
}
_TRANSIENT_CODES = {"ConditionalRequestConflict", "OperationAborted"}

_BY_CLASS = {
    "PageError": Kind.PAGE,
    "NoCredentialsError": Kind.CREDENTIALS,
    "PartialCredentialsError": Kind.CREDENTIALS,
    "CredentialRetrievalError": Kind.CREDENTIALS,
    "TokenRetrievalError": Kind.CREDENTIALS,
    "SSOError": Kind.CREDENTIALS,
    "ProfileNotFound": Kind.CREDENTIALS,
    "DefaultCredentialsError": Kind.CREDENTIALS,
    "RefreshError": Kind.CREDENTIALS,
    "NoRegionError": Kind.REGION,
    "ClientConnectorDNSError": Kind.DNS,
    "ClientConnectorCertificateError": Kind.TLS,
    "ClientSSLError": Kind.TLS,
    "SSLError": Kind.TLS,
    "ConnectTimeoutError": Kind.TIMEOUT,
    "ReadTimeoutError": Kind.TIMEOUT,
    "ServerTimeoutError": Kind.TIMEOUT,
    "Timeout": Kind.TIMEOUT,
    "IncompleteReadError": Kind.TRUNCATED,
    "IncompleteRead": Kind.TRUNCATED,
    "ClientPayloadError": Kind.TRUNCATED,
    "ChunkedEncodingError": Kind.TRUNCATED,
    "ResponseStreamingError": Kind.TRUNCATED,
    "TruncatedError": Kind.TRUNCATED,
    "EndpointConnectionError": Kind.CONNECTION,
    "ConnectionClosedError": Kind.CONNECTION,
    "ProxyConnectionError": Kind.CONNECTION,
    "HTTPClientError": Kind.CONNECTION,
    "ClientConnectionError": Kind.CONNECTION,
    "ConnectionError": Kind.CONNECTION,
    "ClientAuthenticationError": Kind.CREDENTIALS,
    "ServiceRequestError": Kind.CONNECTION,
    "ServiceResponseError": Kind.CONNECTION,
}

_BY_ERRNO = {
    errno.ENOSPC: Kind.NO_SPACE,
    errno.EDQUOT: Kind.NO_SPACE,
    errno.EROFS: Kind.READ_ONLY,
    errno.ETIMEDOUT: Kind.TIMEOUT,
    errno.ECONNRESET: Kind.CONNECTION,
    errno.ECONNREFUSED: Kind.CONNECTION,
    errno.ECONNABORTED: Kind.CONNECTION,
    errno.EPIPE: Kind.CONNECTION,
    errno.EHOSTUNREACH: Kind.CONNECTION,
    errno.ENETUNREACH: Kind.CONNECTION,
}

_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://)([^\s/@'\"<>]*@)?([^\s?'\"<>)\]]*)(\?[^\s'\"<>)\]]*)?")
_SECRET = re.compile(
    r"(?i)\b((?:x-amz-|x-goog-)[a-z-]+|awsaccesskeyid|signature|sig|access_token|refresh_token|id_token|api_?key|"
    r"(?:aws_)?secret(?:_access_key)?|password|authorization)(['\"]?\s*[=:]\s*)(?:b?['\"])?(?:(?:bearer|basic|aws4-hmac-sha256)\s+)?[^\s&'\",}\])]+"
)


def _without_user(found: re.Match[str]) -> str:
    user = found[2] or ""
    # abfss://container@account.dfs.core.windows.net/folder: no user, but a part of the address.
    kept = user if found[1].lower().startswith("abfs") and ":" not in user else ""
    return found[1] + kept + found[3] + ("?…" if found[4] else "")


def redact(text: object) -> str:
    """``text`` without user names, passwords, query strings and signatures."""
    cleaned = _URL.sub(_without_user, str(text))
    return _SECRET.sub(lambda m: f"{m[1]}{m[2]}…", cleaned)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Diagnosis of an exception.

    Attributes:
        kind: kind of the failure.
        status: the HTTP status, if there was one.
        code: the service's own error code ("SlowDown"), if there was one.
        text: the exception in words, without credentials.
        retry_after: seconds the service asked to wait.
    """

    kind: Kind
    status: int | None = None
    code: str = ""
    text: str = ""
    retry_after: float | None = None

    @property
    def is_transient(self) -> bool:
        """Worth another try."""
        return self.kind in _TRANSIENT or self.code in _TRANSIENT_CODES


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _service_answer(error: BaseException) -> tuple[int | None, str]:
    """HTTP status and error code, wherever this library keeps them."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = str(response.get("Error", {}).get("Code", ""))
        if code.isdigit():
            return int(code), ""
        return status if isinstance(status, int) else None, code
    # aiohttp has a property of this name, which warns when it is read.
    own_code = "" if isinstance(getattr(type(error), "code", None), property) else getattr(error, "code", "")
    found = (getattr(holder, name, None) for holder, name in ((error, "status"), (error, "status_code")))
    for status in (*found, own_code, getattr(response, "status_code", None)):
        if isinstance(status, str) and status.isdigit():
            status = int(status)
        if isinstance(status, int) and not isinstance(status, bool) and 100 <= status < 600:
            return status, own_code if isinstance(own_code, str) else ""
    return None, ""


def _kind_of_class(error: BaseException) -> Kind | None:
    match error:
        case FileNotFoundError():
            return Kind.MISSING
        case IsADirectoryError() | NotADirectoryError():
            return Kind.MISSING
        case ssl.SSLError():
            return Kind.TLS
        case socket.gaierror():
            return Kind.CONNECTION if error.errno == socket.EAI_AGAIN else Kind.DNS
        case TimeoutError() | asyncio.TimeoutError():
            return Kind.TIMEOUT
        case asyncio.IncompleteReadError() | EOFError():
            return Kind.TRUNCATED
        case NotImplementedError():
            return Kind.UNSUPPORTED
        case PermissionError():
            return Kind.DENIED
        case RecursionError():
            # Redirected, botocore asks for the bucket's region; where that is redirected too, it asks again, and so on.
            return Kind.REGION
    for cls in type(error).__mro__:
        if (kind := _BY_CLASS.get(cls.__name__)) is not None:
            return kind
    return _BY_ERRNO.get(error.errno) if isinstance(error, OSError) and error.errno is not None else None


# Libraries and services that have no code of their own for it.
_EXPIRED = re.compile(r"(?i)\bexpired\b|not valid in the specified time frame")


def is_expired(text: str) -> bool:
    """True for words that say that credentials have expired."""
    return _EXPIRED.search(text) is not None


def has_expired(query: str) -> bool:
    """True for a signed URL whose time is over by this machine's clock."""
    parts = {name.lower(): value for name, value in parse_qsl(query)}
    end: float | None = None
    try:
        for kind in ("x-amz", "x-goog"):
            if f"{kind}-date" in parts and f"{kind}-expires" in parts:
                begin = datetime.strptime(parts[f"{kind}-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                end = begin.timestamp() + float(parts[f"{kind}-expires"])
        if "expires" in parts:  # CloudFront, older S3 and GCS
            end = float(parts["expires"])
        elif "se" in parts:  # Azure
            end = datetime.fromisoformat(parts["se"].replace("Z", "+00:00")).timestamp()
    except ValueError:
        return False
    return end is not None and end < time.time()


def _words(error: BaseException) -> str:
    text = redact(str(error).strip())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def diagnose(error: BaseException) -> Diagnosis:
    """Diagnose ``error`` or one of its causes: the answer of a service says more than a library error."""
    found = _diagnose(error)
    if found.kind in (Kind.DENIED, Kind.CREDENTIALS) and any(is_expired(str(link)) for link in _chain(error)):
        return replace(found, kind=Kind.EXPIRED)
    return found


def _diagnose(error: BaseException) -> Diagnosis:
    first: Diagnosis | None = None
    other: Diagnosis | None = None
    for link in _chain(error):
        status, code = _service_answer(link)
        kind = _BY_CODE.get(code) or (_BY_STATUS.get(status) if status is not None else None)
        if kind is None and status is not None and status >= 500:
            kind = Kind.SERVER if status not in (501, 505) else Kind.UNSUPPORTED
        if kind is not None or code:
            retry_after = getattr(link, "retry_after", None)
            return Diagnosis(kind or Kind.OTHER, status, code, _words(link), retry_after)
        if status is not None and status >= 400 and other is None:
            other = Diagnosis(Kind.OTHER, status, text=_words(link))
        found = _kind_of_class(link)
        # Libraries report a name that can't be resolved, or a certificate, as a connection that failed.
        tells_more = first is not None and first.kind is Kind.CONNECTION and found in (Kind.DNS, Kind.TLS)
        if found is not None and (first is None or tells_more):
            first = Diagnosis(found, text=_words(link))
            if found is Kind.TIMEOUT:  # cancelling a request leaves other errors behind it
                return first
    return first or other or Diagnosis(Kind.OTHER, text=_words(error))


_CLASSES: dict[Kind, type[StoreError]] = {
    Kind.DENIED: AccessError,
    Kind.PAGE: AccessError,
    Kind.CREDENTIALS: AccessError,
    Kind.EXPIRED: AccessError,
    Kind.PRECONDITION: VersionChangedError,
    Kind.CONFLICT: ConflictError,
    Kind.RANGE: RangeError,
    Kind.READ_ONLY: ReadOnlyError,
}


def translate(error: BaseException, *, key: str = "", store: object = "", is_anonymous: bool = False) -> ZarrdockError:
    """The error to raise instead of ``error``: ``raise translate(e, ...) from cause_of(e)``. Ours stay as they are.

    Args:
        is_anonymous: the request was sent without credentials.
    """
    if isinstance(error, ZarrdockError):
        return error
    found = diagnose(error)
    hint = (is_anonymous and _ANONYMOUS_HINTS.get(found.kind)) or _HINTS.get(found.kind, "")
    if not hint and found.kind is Kind.OTHER and found.status is not None and 400 <= found.status < 500:
        hint = f"if missing keys are answered like this: missing_statuses=({found.status},) takes it so"
    message = f"{found.kind.value}: {found.text}" + (f"; {hint}" if hint else "")
    if found.kind is Kind.UNSUPPORTED:
        where = f" ({store}: key {key!r})" if key else f" ({store})" if store else ""
        return UnsupportedError(message + where)
    return _CLASSES.get(found.kind, StoreError)(message, key=key, store=store)


class ForeignError(Exception):
    """Stands for a foreign exception whose own text holds credentials."""


def cause_of(error: BaseException) -> BaseException:
    """``error``, or, where a traceback would print credentials, a stand-in that says the rest."""
    for link in _chain(error):
        if redact(link) != str(link):
            return ForeignError(_words(error))
    return error
