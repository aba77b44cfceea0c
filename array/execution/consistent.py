"""Reads of many objects that are of one moment.

A read is always of one version of each object. That the versions of *several* objects belong together takes a second
look: when all has been read, every object is asked whether it is still the version that was read. If so, all of them
were what was read at the moment the last read ended.
"""

from __future__ import annotations

from zarrdock.array.execution import execute
from zarrdock.array.planning.axes import Points, Product
from zarrdock.array.planning.index_cache import IndexCache
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.base import AnyArray
from zarrdock.errors import ConflictError, RangeError, UnsupportedError
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Read, Store

__all__ = ["read_consistent"]

ATTEMPTS = 10


def read_consistent(
    store: Store, layout: Layout, selection: Product | Points, cache: IndexCache, out: AnyArray | None
) -> AnyArray:
    """Read a selection as it was at one moment.

    Raises:
        UnsupportedError: the store can't tell versions apart.
        ConflictError: the objects changed during each of several attempts.
    """
    if not store.traits.conditional_read:
        raise UnsupportedError(f"consistent=True needs a store with versions, which {store} is not")
    for _ in range(ATTEMPTS):
        seen: execute.Seen = {}
        array = execute.read(store, layout, selection, cache, out, seen)
        most = store.traits.max_versions
        if most is not None and len(seen) > most:
            raise UnsupportedError(
                f"consistent=True over {len(seen)} objects: {store} can tell the versions of {most} apart at once; read"
                " less at once, or allow the process more open files (ulimit -n)"
            )
        if not _moved(store, seen):
            return array
    raise ConflictError(f"chunks were replaced during each of {ATTEMPTS} attempts to read them all", store=store)


def _moved(store: Store, seen: execute.Seen) -> bool:
    """Whether any object is another version now than the one that was read, or was made or deleted since."""
    try:
        answers = store.read([Read(key, Span(0, 1), version) for key, version in seen.items()])
    except RangeError:  # empty now, and no chunk is
        return True
    return any(
        answer is not None if version is None else not isinstance(answer, Blob)
        for answer, version in zip(answers, seen.values(), strict=True)
    )
