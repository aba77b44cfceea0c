"""``zarrdock info``: what a node is, from its metadata alone unless more is asked for."""

from __future__ import annotations

import json
import platform
import re
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, requires, version
from math import prod
from typing import Any

from zarrdock import __version__
from zarrdock.array.hierarchy import Hierarchy
from zarrdock.array.metadata.chunk_grids import RectilinearGrid
from zarrdock.array.metadata.other_separator import explain, likely_other
from zarrdock.array.metadata.unknown import UnknownGrid, UnknownKeyEncoding
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata
from zarrdock.array.node_storage import join
from zarrdock.cli.app import click
from zarrdock.cli.open_nodes import Found, brief, find, leaf
from zarrdock.cli.options import as_json, node_options
from zarrdock.cli.output import codec_text, print_json, shape_text, short, size_text, table
from zarrdock.codecs.compiled import compiled_codecs
from zarrdock.errors import ZarrdockError
from zarrdock.facts import count
from zarrdock.stores.base import Store, sized_entries

__all__ = ["command"]

_MAX_MEMBERS = 50
_FOR_DEVELOPERS = re.compile("extra == .(dev|test)")
_NAME = re.compile(r"^[\w.-]+")


def versions() -> list[tuple[str, str]]:
    """Versions of zarrdock and Python, of the compiled part's libraries, and of the packages that zarrdock can use."""
    built = compiled_codecs()
    libraries = "absent" if built is None else ", ".join(f"{name} {number}" for name, number in built.items())
    found = [("zarrdock", __version__), ("Python", platform.python_version()), ("compiled part", libraries)]
    needs = [need for need in requires("zarrdock") or () if not _FOR_DEVELOPERS.search(need)]
    for name in sorted({_NAME.findall(need)[0] for need in needs} - {"zarrdock"}):
        with suppress(PackageNotFoundError):
            found.append((name, version(name)))
    return found


def _versions(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        for name, found in versions():
            click.echo(f"{name} {found}")
        ctx.exit()


@click.command("info")
@node_options
@click.option(
    "--versions",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_versions,
    help="Say the versions of zarrdock, of what it uses, and of the compiled part; no URL is needed.",
)
@click.option("--stored", is_flag=True, help="Also list the store: how many objects there are, and their bytes.")
@as_json
def command(url: str, path: str, storage_options: dict[str, Any], stored: bool, as_json: bool) -> None:
    """Show what the array or group at URL is."""
    found = find(url, path, storage_options)
    counted = _count_stored(found.store, found.path) if stored else None
    if isinstance(found.node, ArrayMetadata):
        if as_json:
            print_json(array_facts(found.node, found, counted))
        else:
            _show_array(found.node, found, counted)
    elif as_json:
        print_json(_group_facts(found.node, found, counted))
    else:
        _show_group(found.node, found, counted)


def _count_stored(store: Store, path: str) -> tuple[int, int]:
    entries = sized_entries(store, path)
    return len(entries), sum(entry.size or 0 for entry in entries)


def _where(found: Found) -> str:
    return found.store.url_of(found.path)


def array_facts(metadata: ArrayMetadata, found: Found, stored: tuple[int, int] | None) -> dict[str, Any]:
    """Facts about an array, for scripts."""
    levels, chunks, codecs = leaf(metadata)
    n_objects = _n_objects(metadata)
    facts: dict[str, Any] = {
        "url": _where(found),
        "node_type": "array",
        "zarr_format": metadata.zarr_format,
        "shape": list(metadata.shape),
        "data_type": metadata.data_type.to_json(),
        "chunk_grid": metadata.grid.to_json(),
        "chunks": None if n_objects is None and not levels else list(chunks),
        "shards": [list(level) for level in levels] or None,
        "n_chunks": _n_pieces(metadata.shape, chunks) if levels and n_objects is not None else n_objects,
        "n_objects": n_objects,
        "codecs": [codec.to_json() for codec in metadata.codecs],
        "chunk_codecs": [codec.to_json() for codec in codecs],
        "fill_value": fill_json(metadata),
        "chunk_key_encoding": metadata.key_encoding.to_json(),
        "dimension_names": None if metadata.dims is None else list(metadata.dims),
        "attributes": dict(metadata.attributes),
        "nbytes": None if _has_unknown_size(metadata) else prod(metadata.shape) * metadata.dtype.itemsize,
        "unknown": [{"kind": error.kind, "name": error.name} for error in metadata.unknown],
        "read_leniently": [asdict(one) for one in metadata.leniencies],
    }
    return facts | {"misplaced": _misplaced(metadata, found)} | _stored_facts(stored, found)


def _misplaced(metadata: ArrayMetadata, found: Found) -> str | None:
    """Hint for an array whose first chunk has the other separator in its key; used if the metadata names none."""
    other = likely_other(metadata)
    if other is None:
        return None
    first = (0,) * metadata.ndim
    named, elsewhere = (join(found.path, keys.key(first)) for keys in (metadata.key_encoding, other))
    sizes = found.store.sizes([named, elsewhere])
    return explain(other, elsewhere, metadata.zarr_format) if sizes[0] is None and sizes[1] is not None else None


def _group_facts(metadata: GroupMetadata, found: Found, stored: tuple[int, int] | None) -> dict[str, Any]:
    nodes = _members(found, metadata)
    members: dict[str, Any] = {}
    for name, node in nodes or ():
        if isinstance(node, ZarrdockError):
            members[name] = {"error": str(node)}
        elif isinstance(node, ArrayMetadata):
            members[name] = {
                "node_type": "array",
                "shape": list(node.shape),
                "data_type": node.data_type.to_json(),
            }
        else:
            members[name] = {"node_type": "group"}
    return {
        "url": _where(found),
        "node_type": "group",
        "zarr_format": metadata.zarr_format,
        "is_consolidated": metadata.consolidated is not None,
        "attributes": dict(metadata.attributes),
        "members": None if nodes is None else members,
        "read_leniently": [asdict(one) for one in metadata.leniencies],
    } | _stored_facts(stored, found)


def _stored_facts(stored: tuple[int, int] | None, found: Found) -> dict[str, Any]:
    facts: dict[str, Any] = {} if stored is None else {"n_stored": stored[0], "nbytes_stored": stored[1]}
    return facts if found.file is None else facts | {"file": found.file.kind, "left_out": list(found.left_out)}


def fill_json(metadata: ArrayMetadata) -> Any:
    """The fill value as the array's own metadata has it."""
    data_type = metadata.data_type
    as_json = data_type.fill_to_json if metadata.zarr_format == 3 else data_type.fill_to_json_v2
    return as_json(metadata.fill_value)


def _n_objects(metadata: ArrayMetadata) -> int | None:
    """Number of objects; None if the grid is unknown."""
    return None if isinstance(metadata.grid, UnknownGrid) else prod(metadata.grid.n_chunks(metadata.shape))


def _n_pieces(shape: tuple[int, ...], piece: tuple[int, ...]) -> int:
    return prod(-(-n // p) if p else 0 for n, p in zip(shape, piece, strict=True))


def _has_unknown_size(metadata: ArrayMetadata) -> bool:
    return metadata.dtype.itemsize == 0 or metadata.dtype.hasobject


def _show_array(metadata: ArrayMetadata, found: Found, stored: tuple[int, int] | None) -> None:
    levels, chunks, codecs = leaf(metadata)
    n_objects = _n_objects(metadata)
    up_to = "up to " if isinstance(metadata.grid, RectilinearGrid) else ""
    n_chunks = _n_pieces(metadata.shape, chunks) if levels else n_objects
    rows = [
        ("shape", shape_text(metadata.shape)),
        ("data type", metadata.data_type.name if metadata.unknown else str(metadata.dtype)),
    ]
    if n_objects is None:
        rows.append(("chunks", "unknown"))
        levels = []
    else:
        rows.append(("chunks", f"{'' if levels else up_to}{shape_text(chunks)} ({count(n_chunks or 0, 'chunk')})"))
    rows += [
        ("shards", f"{up_to}{shape_text(level)} ({count(n_objects or 0, 'shard')})")
        if level is levels[0]
        else ("shards", f"{shape_text(level)} ({count(_n_pieces(metadata.shape, level), 'shard')})")
        for level in reversed(levels)
    ]
    rows.append(("codecs", " → ".join(map(codec_text, codecs)) or "unknown"))
    if levels:
        sharding: Any = metadata.codecs[0]
        index = " → ".join(map(codec_text, sharding.index_codecs))
        rows.append(("shard index", f"at the {sharding.index_location}, {index}"))
    fill = short(json.dumps(fill_json(metadata)))
    rows.append(("fill value", f"null (read as {fill})" if metadata.fill_value_is_null else fill))
    encoding = metadata.key_encoding
    if isinstance(encoding, UnknownKeyEncoding):
        rows.append(("chunk keys", encoding.name))
    else:
        rows.append(("chunk keys", f"{encoding.name}, such as {encoding.key((0,) * metadata.ndim)!r}"))
    if metadata.dims is not None:
        rows.append(("dimensions", ", ".join(name if name is not None else "-" for name in metadata.dims)))
    rows += _attribute_rows(metadata.attributes)
    nbytes = 0 if _has_unknown_size(metadata) else prod(metadata.shape) * metadata.dtype.itemsize
    if nbytes:
        at_most = "" if n_objects is None else f", at most {count(n_objects, 'object')}"
        rows.append(("size", f"{size_text(nbytes)} uncompressed{at_most}"))
    if stored is not None:
        ratio = f", {nbytes / stored[1]:.2f} times smaller" if nbytes and stored[1] else ""
        rows.append(("stored", f"{size_text(stored[1])} in {count(stored[0], 'object')}, metadata included{ratio}"))
    rows += [("unknown", str(error)) for error in metadata.unknown]
    rows += [("read leniently", str(one)) for one in metadata.leniencies]
    rows += [("not in a copy", line) for line in found.left_out]
    if (text := _misplaced(metadata, found)) is not None:
        rows.append(("misplaced", text))
    print(f"{_where(found)}: array, {found.what}")
    table(rows)


def _show_group(metadata: GroupMetadata, found: Found, stored: tuple[int, int] | None) -> None:
    print(f"{_where(found)}: group, {found.what}")
    rows = _attribute_rows(metadata.attributes)
    if metadata.consolidated is not None:
        rows.append(("consolidated", f"metadata of {count(len(metadata.consolidated), 'node')}"))
    if stored is not None:
        rows.append(("stored", f"{size_text(stored[1])} in {count(stored[0], 'object')}"))
    rows += [("read leniently", str(one)) for one in metadata.leniencies]
    rows += [("not in a copy", line) for line in found.left_out]
    nodes = _members(found, metadata)
    if nodes is None:
        rows.append(("members", "unknown: this store cannot list, and there is no consolidated metadata"))
        table(rows)
        return
    members = [(f"{name}/" if isinstance(node, GroupMetadata) else name, brief(node)) for name, node in nodes]
    rows.append(("members", count(len(members), "member")))
    table(rows)
    table(members[:_MAX_MEMBERS], indent="    ")
    if len(members) > _MAX_MEMBERS:
        print(f"    … and {len(members) - _MAX_MEMBERS:,} more: zarrdock ls")


def _members(found: Found, metadata: GroupMetadata) -> list[tuple[str, Any]] | None:
    """Members of a group; None if they cannot be listed."""
    if metadata.consolidated is None and not found.store.traits.listable:
        return None
    return list(Hierarchy(found.store).members(found.path, metadata))


def _attribute_rows(attributes: Any) -> list[tuple[str, str]]:
    rows = [(("attributes" if i == 0 else ""), f"{key}: {short(json.dumps(value, ensure_ascii=False), 80)}")
            for i, (key, value) in enumerate(attributes.items())]  # fmt: skip
    return rows[:20] + ([("", f"… and {len(rows) - 20} more (--json shows all)")] if len(rows) > 20 else [])
