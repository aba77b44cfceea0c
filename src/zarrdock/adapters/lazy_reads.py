"""The arrays that a lazy object (a dask collection, an xarray dataset, a function) will read when it is computed.

Everything the object refers to is looked through, by what the garbage collector knows of it: graphs, tasks, closures,
arguments. Arrays of zarrdock and of zarr-python are found wherever they are, and paths of files as text.
"""

from __future__ import annotations

import gc
import sys
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zarrdock.array.array import Array
from zarrdock.array.group import Group
from zarrdock.array.same_place import Reading, refuse_aliases
from zarrdock.errors import UnsupportedError
from zarrdock.stores.base import Store
from zarrdock.stores.local import LocalStore
from zarrdock.stores.open import open_store

__all__ = ["readings", "refuse_own_reads", "refuse_reads_of_writers"]

# What belongs to a program as a whole: everything can be reached through it.
_APART = (type, types.ModuleType, types.CodeType, types.FrameType, types.TracebackType, weakref.ref)
_MAX_PATH = 4096
_WRITERS = ("xarray.backends.", "dask.array.")
_SIMPLE = frozenset((type(None), bool, int, float, complex, bytes))
_LIBRARIES = frozenset(
    "_thread aiobotocore aiohttp asyncio botocore concurrent fsspec gcsfs importlib logging s3fs threading".split()
)


def refuse_own_reads(lazy: Any, store: Store, path: str) -> None:
    """Refuse to clear what a lazy object has still to read.

    Raises:
        UnsupportedError: it reads what is at ``path``, or a part of it; nothing was changed.
    """
    refuse_aliases(readings(lazy), store, path, is_cleared=True)


def readings(lazy: Any) -> list[Reading]:
    """The arrays, and the files named by absolute paths, that a lazy object reads. Nothing is computed."""
    found: dict[tuple[int, str], Reading] = {}
    names: set[str] = set()
    for one in _reached(lazy):
        if isinstance(one, str):
            names.add(one)
        elif (reading := _reading(one)) is not None:
            found.setdefault((id(reading.store), reading.path), reading)
    return [*found.values(), *(Reading(LocalStore(file.parent), file.name) for file in _files(names))]


def refuse_reads_of_writers(store: Store, path: str) -> None:
    """Refuse to clear what xarray or dask, about to write there, have still to read.

    They clear the place through zarr-python first, and tell it nothing of what they will write; but that stands in the
    frames of their functions, which are waiting.

    Raises:
        UnsupportedError: it is read; nothing was changed.
    """
    for frame in sys._current_frames().values():
        caller: types.FrameType | None = frame
        while caller is not None:
            if str(caller.f_globals.get("__name__")).startswith(_WRITERS):
                refuse_own_reads(list(caller.f_locals.values()), store, path)
            caller = caller.f_back


def _files(names: set[str]) -> Iterator[Path]:
    for name in names:
        if name.startswith("/") and "\0" not in name and len(name) < _MAX_PATH and Path(name).is_file():
            yield Path(name)


def _reached(lazy: Any) -> Iterator[Any]:
    """Arrays, groups, stores and texts that an object leads to; what these lead to is not followed."""
    graph = getattr(lazy, "__dask_graph__", None)
    todo: list[Any] = [lazy, None if graph is None else graph()]
    leaves = (str, Array, Group, Store, *_zarr_classes())
    kinds: dict[type, bool | None] = {}  # a leaf; to be followed; None for neither: asked once for each type
    seen: dict[int, Any] = {}  # with the objects, so that no number is used again
    while todo:
        one = todo.pop()
        kind = type(one)
        if kind not in kinds:
            is_apart = kind in _SIMPLE or isinstance(one, _APART) or _is_apart(kind)
            kinds[kind] = True if isinstance(one, leaves) else None if is_apart else False
        if kinds[kind] is None or id(one) in seen:
            continue
        if kinds[kind]:
            yield one
            continue
        seen[id(one)] = one
        if isinstance(one, types.FunctionType):
            todo += one.__closure__ or ()
            todo += one.__defaults__ or ()
            todo += (one.__kwdefaults__ or {}).values()
            continue
        if isinstance(one, np.ndarray) and one.dtype.hasobject:
            todo += one.ravel().tolist()
        todo += gc.get_referents(one)


def _is_apart(kind: type) -> bool:
    module = kind.__module__
    # What xarray has opened knows all members of its group, read or not.
    return module.partition(".")[0] in _LIBRARIES or (module == "xarray.backends.zarr" and kind.__name__ == "ZarrStore")


def _zarr_classes() -> tuple[type, ...]:
    if "zarr" not in sys.modules:
        return ()
    import zarr
    from zarr.abc.store import Store as ZarrPythonStore
    from zarr.core.array import AsyncArray
    from zarr.core.group import AsyncGroup

    return (zarr.Array, AsyncArray, zarr.Group, AsyncGroup, ZarrPythonStore)


def _reading(leaf: Any) -> Reading | None:
    """The node that is read through an object; None for one that only could be read through, such as a group."""
    if isinstance(leaf, Array):
        return Reading(leaf.store, leaf.path, {"": leaf.metadata})
    if isinstance(leaf, Group | Store):
        return None
    place = getattr(leaf, "store_path", None)
    if place is None or not hasattr(leaf, "shape"):
        return None
    try:
        return Reading(_opened(place.store), place.path)
    except UnsupportedError:  # a store of another package
        return None


def _opened(store: Any) -> Store:
    """A store of zarr-python as one of zarrdock's.

    Raises:
        UnsupportedError: of a kind that is not known here.
    """
    from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, ZipStore

    if isinstance(inner := getattr(store, "store", None), Store):
        return inner
    if isinstance(store, LocalStore):
        return open_store(str(store.root))
    if isinstance(store, ZipStore):
        return open_store(str(store.path))
    if isinstance(store, MemoryStore):
        return open_store(store._store_dict)
    if isinstance(store, FsspecStore):
        return open_store(store.fs, path=store.path)
    if isinstance(store, ObjectStore):
        return open_store(store.store)
    raise UnsupportedError(f"a {type(store).__name__} of zarr-python")
