"""Metadata documents of nodes: from the store, into the store. Opening is one round of requests, whatever the
format.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from zarrdock.array.consolidated_copies import Copies, refuse_arrays_above, take_from_copies
from zarrdock.array.execution.read_write import update_key
from zarrdock.array.metadata.consolidated import parse_consolidated_v2
from zarrdock.array.metadata.lenient import Leniency
from zarrdock.array.metadata.v2 import documents, parse_array_v2, parse_group_v2
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node, parse_node
from zarrdock.array.planning.layout import parse
from zarrdock.array.removal import Keys, remove, survey
from zarrdock.errors import (
    AccessError,
    InvalidKeyError,
    KeyExistsError,
    MetadataError,
    NodeExistsError,
    NodeNotFoundError,
    StoreError,
    ZarrdockError,
)
from zarrdock.stores.base import Blob, Buffer, Read, Store, check_prefix
from zarrdock.stores.local import LocalStore

__all__ = [
    "ZarrFormat",
    "clear_node",
    "join",
    "load",
    "load_many",
    "new_node_path",
    "node_path",
    "replace_node",
    "require_group",
    "save_new",
    "update_metadata",
]

ZarrFormat: TypeAlias = Literal[2, 3]
Kind: TypeAlias = Literal["array", "group"]

_MANY = 1000  # nodes asked for in one round: as many names as a page of a service's listing holds

_RESERVED = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"})
_V2_DOCUMENTS = {
    "array": (".zarray", ".zattrs"),
    "group": (".zgroup", ".zattrs", ".zmetadata"),
    None: (".zarray", ".zgroup", ".zattrs", ".zmetadata"),
}


# Documents that name a node, the one that is believed first.
_MAIN = ("zarr.json", ".zarray", ".zgroup")


def node_path(path: str | None) -> str:
    """A node's path within its hierarchy, "" for the root; a leading or trailing "/" is allowed, as other libraries
    write them.

    Raises:
        InvalidKeyError: not a path that every store can hold.
    """
    return check_prefix((path or "").strip("/"))


def new_node_path(path: str | None) -> str:
    """The path of a node to be made: as :func:`node_path`, and without names that Zarr keeps for itself. Nodes of such
    names that are there already can be read, written and deleted.

    Raises:
        InvalidKeyError: a name that is reserved, or not one that every store can hold.

    Source: Zarr v3 core, "Node names"; the documents of Zarr v2.
    """
    found = node_path(path)
    for name in found.split("/") if found else ():
        if name in _RESERVED or name.startswith("__") or not name.strip("."):
            raise InvalidKeyError(f"Zarr reserves the name {name!r}: choose another", key=found)
    return found


def join(path: str, name: str) -> str:
    """The key or path ``name`` below ``path``."""
    return f"{path}/{name}" if path else name


def load(
    store: Store,
    path: str,
    kind: Kind | None,
    zarr_format: ZarrFormat | None,
    *,
    consolidated: bool = True,
    lenient: bool = False,
) -> Node:
    """Read a node's metadata in one round: one request where the format is known to be 3, else one a document that
    may be there.

    Args:
        kind: of the expected node; the other kind is then not asked for in v2, and an error in v3.
        zarr_format: 2, 3, or None for either; where both are present v3 wins.
        consolidated: use a v2 group's ``.zmetadata`` (v3 keeps consolidated metadata in the document itself).
    Raises:
        NodeNotFoundError: there is no such node. MetadataError: its document is wrong.
    """
    names = _names(kind, zarr_format, consolidated)
    found = _read_any(store, path, names)
    if found.get(".zgroup") is not None and ".zattrs" not in names and found.get(".zmetadata") is None:
        found |= _read(store, path, [".zattrs"])
    return _parse(store, path, kind, zarr_format, names, found, lenient=lenient)


def load_many(
    store: Store, paths: Sequence[str], zarr_format: ZarrFormat, *, lenient: bool = False
) -> Iterator[Node | ZarrdockError | None]:
    """The nodes at many paths, asked for together: one round for each thousand; in v2 one more for those among them
    that are no arrays.

    Returns:
        In the order of the paths the node, None where there is none, or the error that its metadata is.
    """
    names = _names(None, zarr_format, consolidated=False)
    for first in range(0, len(paths), _MANY):
        page = paths[first : first + _MANY]
        found = _read_many(store, page, [name for name in names if name != ".zgroup"])
        if found is not None and zarr_format == 2:
            no_arrays = [path for path in page if found[path][".zarray"] is None]
            groups = _read_many(store, no_arrays, [".zgroup"])
            found = None if groups is None else found | {path: found[path] | groups[path] for path in no_arrays}
        for path in page:
            try:
                documents = _read(store, path, names) if found is None else found[path]
                yield _parse(store, path, None, zarr_format, names, documents, lenient=lenient)
            except NodeNotFoundError:
                yield None
            except ZarrdockError as error:
                yield error


def _names(kind: Kind | None, zarr_format: ZarrFormat | None, consolidated: bool) -> list[str]:
    """The documents to ask for."""
    names: list[str] = []
    if zarr_format in (3, None):
        names.append("zarr.json")
    if zarr_format in (2, None):
        # .zmetadata repeats .zattrs: where it is there the other is not needed, and asking for both at once would cost
        # a request more.
        skip = ".zattrs" if kind == "group" and consolidated else ".zmetadata" if not consolidated else ""
        names += [name for name in _V2_DOCUMENTS[kind] if name != skip]
    return names


def _parse(
    store: Store,
    path: str,
    kind: Kind | None,
    zarr_format: ZarrFormat | None,
    names: Sequence[str],
    found: dict[str, Buffer | None],
    *,
    lenient: bool,
) -> Node:
    """The node that the documents found describe."""
    if (document := found.get("zarr.json")) is not None:
        node = parse(document, join(path, "zarr.json"), lenient=lenient)
        return _expect(node, kind, store, path)
    if (zarray := found.get(".zarray")) is not None:
        return parse_array_v2(zarray, found.get(".zattrs"), join(path, ".zarray"), lenient=lenient)
    if (zgroup := found.get(".zgroup")) is not None:
        unused: tuple[Leniency, ...] = ()
        if (zmetadata := found.get(".zmetadata")) is not None:
            try:
                root = parse_consolidated_v2(zmetadata, join(path, ".zmetadata"))
                if isinstance(root, GroupMetadata):
                    return root
                unused = (Leniency(".zmetadata", "", "it describes an array, and is not used: here is a group"),)
            except MetadataError as error:
                # A copy, which may be passed over: the nodes' own documents say the same.
                unused = (Leniency(".zmetadata", error.pointer, f"{error.problem}: it is not used"),)
            if ".zattrs" not in names:
                found = found | _read(store, path, [".zattrs"])
        group = parse_group_v2(zgroup, found.get(".zattrs"), join(path, ".zgroup"))
        return group.replace(leniencies=group.leniencies + unused) if unused else group
    if isinstance(store, LocalStore) and not os.path.lexists(store.root):
        raise NodeNotFoundError(f"{store.root} does not exist")
    what = kind or "array or group"
    of_format = f" of Zarr v{zarr_format}" if zarr_format else ""
    missing = f"none of {', '.join(names)} is there" if len(names) > 1 else f"{names[0]} is not there"
    raise NodeNotFoundError(
        f"there is no {what}{of_format} at {path or '/'!r} in {store}: {missing}{_of_place(store, path)}"
    )


def _of_place(store: Store, path: str) -> str:
    """A hint where the place is a document, or a local path that is no folder, or that of another format."""
    above, _, name = store.url.rstrip("/").rpartition("/")
    if not path and name in _NAMES:
        return f"; {name} is a part of a node: open {above!r}"
    if not isinstance(store, LocalStore):
        return _of_archive(store, path)
    if Path(store.root).is_dir():
        folder = Path(store.root, path)
        hints = (hint for names, hint in _OTHERS if all((folder / name).exists() for name in names))
        return next(hints, "").format(folder) or _of_members(folder)
    return (
        f"; {store.root} is a file, not a folder: `zarrdock copy {store.root} NAME.zarr` makes Zarr of HDF5, netCDF, "
        f".npy, .npz and TIFF; a zip archive that is not called so is opened by {store.root + '|zip:'!r}, and "
        f"references of kerchunk by {'reference::' + store.root!r}"
    )


def _of_members(folder: Path) -> str:
    """A hint where a folder is no node and has nodes in it."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in itertools.islice(entries, 1000))
    except OSError:
        return ""
    documents = ("zarr.json", ".zgroup", ".zarray")
    nodes = [name for name in names if any((folder / name / document).exists() for document in documents)]
    more = f" and {len(nodes) - 5:,} more" if len(nodes) > 5 else ""
    return f"; in it are {', '.join(nodes[:5])}{more}" if nodes else ""


_NAMES = {"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"}
# What is in a folder of another format, and words about it.
_OTHERS = (
    (("attributes.json",), "; an attributes.json is there, as N5 has, which zarrdock does not read: TensorStore does"),
    (("snapshots", "manifests"), "; it looks like an Icechunk repository: open '{}|icechunk:'"),
)


def _of_archive(store: Store, path: str) -> str:
    """A hint where all of a zip archive lies in one folder, as when a folder was packed instead of its contents."""
    zips = sys.modules.get("zarrdock.stores.zip_")
    if path or zips is None or not isinstance(store, zips.ZipStore):
        return ""
    level = store.list_dir()
    folders = [name for name in level.prefixes if name != "__MACOSX"]
    if len(folders) != 1 or set(level.keys) - {".DS_Store"}:
        return ""
    if not any(_read(store, folders[0], ["zarr.json", ".zgroup", ".zarray"]).values()):
        return ""
    return f"; all of the archive lies in its folder {folders[0]!r}: open {store.url_of(folders[0])!r}"


def _expect(node: Node, kind: Kind | None, store: Store, path: str) -> Node:
    if kind is not None and node.node_type != kind:
        found = node.node_type
        raise NodeNotFoundError(
            f"at {path or '/'!r} in {store} there is a Zarr {found}, no {kind}: use open_{found} or open"
        )
    return node


def _read(store: Store, path: str, names: Sequence[str]) -> dict[str, Buffer | None]:
    results = store.read([Read(join(path, name)) for name in names])
    return {
        name: result.data if isinstance(result, Blob) else None for name, result in zip(names, results, strict=True)
    }


def _read_any(store: Store, path: str, names: Sequence[str]) -> dict[str, Buffer | None]:
    """The documents that are there. Where the answer to some is no (services without the right to list deny what is
    missing), and another one says what node there is, those don't matter.
    """
    try:
        return _read(store, path, names)
    except AccessError:
        for main in _MAIN:
            found = _unless_denied(store, path, main) if main in names and len(names) > 1 else {}
            if found.get(main) is None:
                continue
            if main == ".zgroup" and ".zmetadata" in names:
                found |= _unless_denied(store, path, ".zmetadata")
            if main != "zarr.json" and ".zattrs" in names and found.get(".zmetadata") is None:
                found |= _read(store, path, [".zattrs"])
            return found
        raise
    except StoreError:
        # Servers fail in many ways over names that they don't like. Where the document of v3 is, it says all.
        if "zarr.json" in names and len(names) > 1:
            found = _read(store, path, ["zarr.json"])
            if found["zarr.json"] is not None:
                return found
        raise


def _unless_denied(store: Store, path: str, name: str) -> dict[str, Buffer | None]:
    with suppress(AccessError):
        return _read(store, path, [name])
    return {}


def _read_many(store: Store, paths: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, Buffer | None]] | None:
    """The documents of many nodes; None where one of them can't be read, so that each is to be asked for alone."""
    if not paths:
        return {}
    try:
        results = store.read([Read(join(path, name)) for path in paths for name in names])
    except ZarrdockError:
        return None
    data = [result.data if isinstance(result, Blob) else None for result in results]
    n = len(names)
    return {path: dict(zip(names, data[i * n : i * n + n], strict=True)) for i, path in enumerate(paths)}


def save_new(store: Store, path: str, node: Node, *, overwrite: bool) -> None:
    """Store a new node's documents. Of several processes that create the same node without ``overwrite`` exactly one
    succeeds.

    Args:
        overwrite: remove the node that is there, with all nodes below it, see :func:`~zarrdock.array.removal.remove`.
    Raises:
        NodeExistsError: it is there already, or an array above it; with ``overwrite``, something is there that is no
            Zarr.
    """
    stored = documents(node)
    if node.zarr_format == 2 and not overwrite:
        # In v2 the name of the document says the kind, so the new one would not be refused where the other kind is.
        other = ".zgroup" if isinstance(node, ArrayMetadata) else ".zarray"
        if store.exists(join(path, other)):
            raise NodeExistsError(_exists(store, path))
    if overwrite:
        replace_node(store, path, node)
    copies = Copies(store, [path], node.zarr_format, new=True)
    names = [name for name in stored if name != ".zattrs" or node.attributes]
    try:
        # The first document decides; a later one belongs to the node that the first one made ours.
        store.write(join(path, names[0]), stored[names[0]], create_only=not overwrite)
    except KeyExistsError:
        raise NodeExistsError(_exists(store, path)) from None
    try:
        for name in names[1:]:
            store.write(join(path, name), stored[name])
        copies.refresh()
    except BaseException as error:
        withdraw(store, path, node, error)
        raise


def require_group(store: Store, path: str, zarr_format: int) -> None:
    """Make sure that the node at ``path`` is a group, above one that is to be made.

    Raises:
        NodeExistsError: it is an array. NodeNotFoundError: there is none, or one of the other format.
    """
    try:
        load(store, path, "group", 3 if zarr_format == 3 else 2, consolidated=False)
    except NodeNotFoundError:
        refuse_arrays_above(store, join(path, "member"))
        raise


def withdraw(store: Store, path: str, node: Node, error: BaseException) -> None:
    """Take away the documents of a node that was just made, since ``error`` kept it from being finished. Where that
    fails too, the error gets a note that says so.
    """
    try:
        take_from_copies(store, path)
        store.delete_many([join(path, name) for name in reversed(documents(node))])
    except Exception as again:
        error.add_note(
            f"an unfinished node stays at {path or '/'!r} in {store}, since it could not be removed ({again}): "
            "overwrite=True replaces it"
        )


def replace_node(store: Store, path: str, new: Node | None) -> None:
    """Remove the node that is there, and all nodes below it; from consolidated copies first.

    Args:
        new: what takes its place, None for nothing.
    Raises:
        NodeExistsError: something is there that is no Zarr.
    """
    found = survey(store, path)
    found.check_replaceable(store, new)
    if found.nodes or new is None:
        take_from_copies(store, path)
    remove(store, path, new=new, found=found)


def clear_node(store: Store, path: str) -> None:
    """Remove the node that is there, and all nodes below it; or the chunks below a path within an array. Whatever else
    is there stays, and a warning says so.
    """
    found = survey(store, path)
    if found.foreign and not found.is_node:
        chunks = _chunks_of_array_above(store, path, found.foreign)
        store.delete_many(chunks)
        left = set(found.foreign).difference(chunks)
        if left:
            replace(found, foreign=tuple(sorted(left))).warn(store)
        return
    if found.keys:
        take_from_copies(store, path)
        remove(store, path, found=found)


def _chunks_of_array_above(store: Store, path: str, keys: Sequence[str]) -> list[str]:
    """Keys below a path that are chunks of the array that the path lies in, if it lies in one."""
    parts = path.split("/")
    above = ["/".join(parts[:n]) for n in range(len(parts) - 1, -1, -1)] if path else []
    formats: tuple[ZarrFormat, ...] = (3, 2)
    for zarr_format in formats:
        for at, node in zip(above, load_many(store, above, zarr_format, lenient=True), strict=True):
            if isinstance(node, ArrayMetadata):
                names, skip = Keys.of(node), len(at) + 1 if at else 0
                return [key for key in keys if names.match(key[skip:])]
    return []


def _exists(store: Store, path: str) -> str:
    return f"there is a node at {path or '/'!r} in {store} already: overwrite=True replaces it and all nodes below"


def update_metadata(
    store: Store,
    path: str,
    node: Node,
    change: Callable[[Any], Any],
    *,
    attributes: bool,
    single_writer: bool = False,
    copies: bool = True,
) -> Node:
    """Change a node's stored metadata atomically, starting from the document that is stored now.

    Args:
        node: as it is known here: says the format and the kind.
        change: from the metadata as stored to the metadata as it shall be; may run more than once.
        attributes: it changes the attributes, and nothing else; False: anything but the attributes.
        copies: bring the consolidated copies of the node's metadata up to date; False: the caller does.
    Returns:
        The metadata as stored.
    Raises:
        NodeNotFoundError: it was deleted meanwhile. UnsupportedError: the store has no atomic update.
    """
    new: Node = node
    if node.zarr_format == 3:
        key = join(path, "zarr.json")

        def rewrite(old: Buffer | None) -> Buffer:
            nonlocal new
            stored = _expect(parse_node(_present(old, key), key), node.node_type, store, path)  # type: ignore[arg-type]
            new = _written(change(stored), "zarr.json")
            return documents(new)["zarr.json"]

        above = Copies(store, [path], 3) if copies else None
        update_key(store, key, rewrite, single_writer=single_writer)
        if above is not None:
            above.refresh()
        return new
    # v2: attributes are a document of their own, so a change touches one of the two; the other one is only needed to
    # make sense of it.
    is_array = isinstance(node, ArrayMetadata)
    main, side = join(path, ".zarray" if is_array else ".zgroup"), join(path, ".zattrs")
    key, other = (side, main) if attributes else (main, side)
    blob = store.get(other)
    beside = None if blob is None else blob.data

    def rewrite_v2(old: Buffer | None) -> Buffer:
        nonlocal new
        document, zattrs = (_present(beside, main), old) if attributes else (_present(old, main), beside)
        stored: Node = parse_array_v2(document, zattrs, main) if is_array else parse_group_v2(document, zattrs, main)
        name = key.rpartition("/")[2]
        new = _written(change(stored), name)
        return documents(new)[name]

    above = Copies(store, [path], 2, own=not is_array) if copies else None
    update_key(store, key, rewrite_v2, single_writer=single_writer)
    if above is not None:
        above.refresh()
    return new


def _written(node: Node, name: str) -> Node:
    """The metadata once the document ``name`` is written, which is in its strict form then."""
    if not node.leniencies:
        return node
    return node.replace(leniencies=tuple(one for one in node.leniencies if one.document != name))


def _present(document: Buffer | None, key: str) -> Buffer:
    if document is None:
        raise NodeNotFoundError(f"{key!r} is gone: the node was deleted")
    return document
