"""The identity of a store: the service, and the place on it, that its keys lie in.

A URL is not enough: two S3 services can have a bucket of one name, two accounts a container, two filesystem objects a
``memory://``. Names in dask graphs, folders of caches, marks of unfinished copies and comparisons of stores are made of
identities. Credentials are no part of them, nor are signed query strings: they change while the place stays the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from zarrdock.after_fork import reset_after_fork

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem

__all__ = [
    "Identity",
    "digest_of",
    "identity_of_filesystem",
    "identity_of_object",
    "is_aws",
    "partition_of",
    "service_of_azure",
    "service_of_url",
]


@dataclass(frozen=True, slots=True)
class Identity:
    """The place that a store's keys lie in. Two stores with equal identities show the same values under the same keys.

    Attributes:
        service: the service or filesystem: its kind, endpoint and account. It never changes in a store's life.
        path: bucket and prefix, or real path of the folder, on the service; of an archive, that of its file.
        inside: path within that file; None where the store is no file.
        view: names of the views that stand between the values stored and those shown, the outermost first.
        in_process: the place is an object of this process, and its name is good for as long as that lives.

    >>> Identity("s3", "bucket/a").below("b")
    Identity(service='s3', path='bucket/a/b', inside=None, view=(), in_process=False)
    """

    service: str
    path: str = ""
    inside: str | None = None
    view: tuple[str, ...] = ()
    in_process: bool = False

    def below(self, path: str) -> Identity:
        """The identity of what lies below ``path`` in this place."""
        if not path:
            return self
        if self.inside is not None:
            return replace(self, inside=_joined(self.inside, path))
        return replace(self, path=_joined(self.path, path))

    def as_file(self, inside: str = "") -> Identity:
        """The identity of ``inside`` in the archive or file that lies at this place."""
        return replace(self, inside=inside if self.inside is None else f"{self.inside}!{inside}")

    def seen_as(self, view: str) -> Identity:
        """The identity of a view of this place."""
        return replace(self, view=(view, *self.view))

    def contains(self, other: Identity) -> bool:
        """True where ``other`` is this place or lies below it. Views count as what they show.

        >>> Identity("s3", "bucket/a").contains(Identity("s3", "bucket/a/b"))
        True
        >>> Identity("s3", "bucket/a").contains(Identity("s3 at http://localhost:9000", "bucket/a/b"))
        False
        """
        if self.service != other.service:
            return False
        if self.inside is None:
            return _is_below(other.path, self.path)
        return self.path == other.path and other.inside is not None and _is_below(other.inside, self.inside)

    def overlaps(self, other: Identity) -> bool:
        """True where one of both contains the other."""
        return self.contains(other) or other.contains(self)

    def __str__(self) -> str:
        """A name that is the same in every process that can reach the place."""
        inside = "" if self.inside is None else f"!{self.inside}"
        return "".join(f"{view} of " for view in self.view) + f"{self.service}:{self.path}{inside}"


def _joined(path: str, below: str) -> str:
    return f"{path.rstrip('/')}/{below}" if path else below


def _is_below(path: str, folder: str) -> bool:
    return path == folder or not folder or path.startswith(folder.rstrip("/") + "/")


# -- places without a name ---------------------------------------------------------------------------------------------

_process: list[str] = [os.urandom(8).hex()]
reset_after_fork(lambda: _process.__setitem__(0, os.urandom(8).hex()))


def identity_of_object(kind: str, obj: object) -> Identity:
    """The identity of values that live in an object of this process: another object, or a copy of it in a forked or
    other process, is another place. It holds for as long as the object lives; after that its number may come again.
    """
    return Identity(f"{kind} {_process[0]}-{id(obj):x}", in_process=True)


# -- services by URL ---------------------------------------------------------------------------------------------------

_AWS = re.compile(r"(?:^|[.-])s3[.-](?:.*\.)?amazonaws\.com(\.cn)?$")
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "us-iso": "aws-iso", "eusc-": "aws-eusc"}
_PORTS = {"http": 80, "https": 443}
# Parts of a query string that sign it (AWS, Google, Azure, CloudFront), with the times and rights that are signed.
_SIGNING = re.compile(
    r"(?i)x-amz-.*|x-goog-.*|awsaccesskeyid|googleaccessid|signature|expires|key-pair-id|policy|"
    r"sig|se|sp|sv|sr|st|spr|sip|ske|skt|sks|skv|skoid|sktid|ss|srt|(?:access_|id_)?token|api_?key"
)


def is_aws(endpoint: str | None) -> bool:
    """True for an endpoint of Amazon's own S3, which None stands for."""
    return endpoint is None or _AWS.search(urlsplit(endpoint).hostname or "") is not None


def partition_of(region: str) -> str:
    """The partition of Amazon's cloud that a region lies in."""
    return next((name for beginning, name in _PARTITIONS.items() if region.startswith(beginning)), "aws")


def service_of_url(kind: str, endpoint: str | None, *, partition: str = "") -> str:
    """The name of a service by its endpoint; ``kind`` alone for the provider's own.

    >>> service_of_url("s3", "https://s3.eu-west-1.amazonaws.com"), service_of_url("s3", "HTTP://localhost:80/")
    ('s3', 's3 at http://localhost')
    """
    if kind == "s3" and is_aws(endpoint):
        # Buckets have one namespace in all regions of a partition.
        china = endpoint is not None and (urlsplit(endpoint).hostname or "").endswith(".cn")
        partition = "aws-cn" if china else partition
        return f"s3 ({partition})" if partition not in ("", "aws") else "s3"
    if endpoint is None:
        return kind
    parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    at = f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path.rstrip('/')}"
    content = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if not _SIGNING.fullmatch(pair[0])]
    return f"{kind} at {at}" + (f"?{digest_of(content)}" if content else "")


def service_of_azure(endpoint: str | None, account: str | None) -> str:
    """The name of an account of Azure by its endpoint, with the account's name where that is part of it; None: Azure's.

    >>> service_of_azure("https://name.blob.core.windows.net", "name"), service_of_azure(None, "name")
    ('az, account name', 'az, account name')
    """
    host = urlsplit(endpoint or "").hostname or ""
    own = host.endswith((".blob.core.windows.net", ".dfs.core.windows.net"))
    account = (host.partition(".")[0].removesuffix("-secondary") if own else "") or account or ""
    return f"{service_of_url('az', None if own else endpoint)}, account {account}"


# -- fsspec's filesystems ----------------------------------------------------------------------------------------------

_SECRET_OPTION = re.compile(r"(?i).*(?:secret|token|passw|credential|signature|sas|key|auth).*")
# Options that say how a filesystem works, not where it is.
_MANNER = {
    "asynchronous", "loop", "skip_instance_cache", "use_listings_cache", "listings_expiry_time", "max_paths",
    "batch_size", "default_block_size", "block_size", "default_cache_type", "default_fill_cache", "timeout", "retries",
    "max_concurrency", "anon", "requester_pays", "auto_mkdir", "encoded", "size_policy", "cache_type", "check_files",
    "cache_check", "expiry_time", "cache_storage", "simple_links", "same_names",
}  # fmt: skip


def digest_of(value: Any) -> str:
    """A short name for a value, the same in every process; secrets in mappings are left out."""
    import hashlib  # not for local stores, which never need it

    return hashlib.sha256(_plain(value).encode()).hexdigest()[:16]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        items = sorted((str(name), item) for name, item in value.items() if not _is_moot(str(name)))
        return "{" + ",".join(f"{name!r}:{_plain(item)}" for name, item in items) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_plain, value)) + "]"
    if all(hasattr(value, name) for name in ("storage_options", "storage_args", "protocol")):
        return _plain([class_name(value), value.storage_args, value.storage_options])
    return repr(value)


def _is_moot(name: str) -> bool:
    return name in _MANNER or _SECRET_OPTION.fullmatch(name) is not None


def class_name(obj: object) -> str:
    """Module and qualified name of an object's class."""
    return f"{type(obj).__module__}.{type(obj).__qualname__}"


def identity_of_filesystem(fs: AbstractFileSystem, protocol: str) -> Identity:
    """The identity of a filesystem's root, by its class and options.

    Instances that fsspec does not share (``cachable = False``) may hold anything, and are places of their own.
    """
    if protocol == "memory" and isinstance(held := getattr(fs, "store", None), dict):
        return identity_of_object(protocol, held)  # of the class, in fsspec's own
    if not fs.cachable:
        return identity_of_object(protocol, fs)
    options = _plain([fs.storage_args, fs.storage_options])
    name = class_name(fs)
    is_bare = name.startswith("fsspec.") and options == "[[],{}]"
    return Identity(protocol if is_bare else f"{protocol} {digest_of([name, options])}")
