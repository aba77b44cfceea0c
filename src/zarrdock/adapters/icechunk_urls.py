"""Icechunk repositories at the end of URLs: ``s3://bucket/repository|icechunk://branch.main/path``."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from zarrdock.adapters.foreign_store import ForeignStore
from zarrdock.errors import StoreError, UnsupportedError
from zarrdock.stores.base import Store
from zarrdock.stores.diagnose import cause_of, redact, translate
from zarrdock.stores.local_files import file_url, local_path
from zarrdock.stores.urls import encoded, path_of_file_url, sub_url

__all__ = ["open_repository"]

# ``//branch.main/path``; ``@branch.main/path``, as it was written before.
_REF = re.compile(r"(?://|@)(?:(?P<kind>branch|tag)\.)?(?P<name>[^/]+)/?(?P<path>.*)", re.DOTALL)


class _Repository(ForeignStore):
    """A session of a repository, which knows the URL that led to it."""

    def __init__(self, store: Any, base: str, ref: str, *, read_only: bool) -> None:
        super().__init__(store, read_only=read_only)
        self.base, self.ref = base, ref

    def __reduce__(self) -> Any:
        raise UnsupportedError(f"{self.url} cannot be pickled: open its URL again where it is needed")

    def _sub_urls(self, path: str) -> tuple[str, ...]:
        return (self.base, f"icechunk://{self.ref}/{encoded(path)}".rstrip("/"))


def open_repository(base: str, inside: str, options: dict[str, Any], *, read_only: bool) -> tuple[Store, str]:
    """A session of the repository at a URL, and the path in it.

    Args:
        base: local path, or URL that begins with ``file:``, ``s3://`` or ``gs://``.
        inside: branch, tag or snapshot, and path: ``//branch.main/path``, ``//tag.v1/path``, ``//SNAPSHOT/path``; a
            path alone is of the branch ``main``.
        options: arguments of ``icechunk.s3_storage`` or ``icechunk.gcs_storage``.
        read_only: else what is written to the session of a branch stays in it until ``store.commit(message)``.
    Raises:
        UnsupportedError: Icechunk is not installed, or has no storage for such a URL. StoreError.
    """
    try:
        import icechunk
    except ImportError as error:
        raise UnsupportedError("icechunk: URLs need Icechunk; pip install icechunk") from error
    found = _REF.fullmatch(inside)
    if inside.startswith(("//", "@")) and found is None:
        raise UnsupportedError(f"icechunk:{inside}: write icechunk://branch.NAME/path, //tag.NAME or //SNAPSHOT")
    kind, name, path = (found["kind"], found["name"], found["path"]) if found else ("branch", "main", inside)
    address = _address(base)
    storage = _storage(base, address, options)
    try:
        repository = icechunk.Repository.open(storage)
        if kind == "branch" and not read_only:
            session = repository.writable_session(name)
        else:
            how: dict[str, Any] = {kind or "snapshot_id": name}
            session = repository.readonly_session(**how)
    except icechunk.IcechunkError as error:
        # Its text goes on with places in its own source.
        said = str(error).partition("\n")[0].strip().lstrip("x× ")
        raise StoreError(f"{redact(base)}|icechunk:{inside}: {said}") from error
    except Exception as error:
        raise translate(error, store=redact(base)) from cause_of(error)
    ref = encoded(f"{kind}.{name}" if kind else name)
    return _Repository(session.store, address, ref, read_only=read_only), path.strip("/")


def _address(base: str) -> str:
    if "://" in base and not base.lower().startswith("file:"):
        return sub_url(base, "")
    return file_url(local_path(path_of_file_url(base) or base))


def _storage(base: str, address: str, options: dict[str, Any]) -> Any:
    import icechunk

    parts = urlsplit(base)
    try:
        if address.startswith("file:"):
            if options:
                raise UnsupportedError(f"local files have no storage_options: {', '.join(sorted(options))}")
            return icechunk.local_filesystem_storage(local_path(path_of_file_url(address) or ""))
        if parts.scheme in ("s3", "s3a"):
            return icechunk.s3_storage(bucket=parts.netloc, prefix=parts.path.strip("/"), **_defaults(options))
        if parts.scheme in ("gs", "gcs"):
            return icechunk.gcs_storage(bucket=parts.netloc, prefix=parts.path.strip("/"), **_defaults(options))
    except TypeError as error:
        raise UnsupportedError(f"{redact(base)}|icechunk: takes the options of Icechunk's storage: {error}") from error
    raise UnsupportedError(
        f"{redact(base)}|icechunk: is opened on file:, s3:// and gs:// alone; elsewhere make a session with Icechunk, "
        "and open that"
    )


def _defaults(options: dict[str, Any]) -> dict[str, Any]:
    has_credentials = options.keys() & {"anonymous", "from_env", "access_key_id", "get_credentials", "bearer_token"}
    return options if has_credentials else {"from_env": True, **options}
