"""Pages of nodes for people in a browser. They need no script and nothing from elsewhere, and say what they read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import numpy.typing as npt

from zarrdock.array.array import Array
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node
from zarrdock.array.node_storage import join, load, load_many
from zarrdock.array.stored_objects import stored_objects
from zarrdock.errors import InvalidKeyError, NodeNotFoundError, UnsupportedError, ZarrdockError
from zarrdock.facts import MAX_LINES, grid_svg, size_text
from zarrdock.stores.base import Store, sized_entries
from zarrdock.viewer.multiscale import Picture, open_picture, parse_multiscale, picture_of
from zarrdock.viewer.neuroglancer_state import link
from zarrdock.viewer.preview import Bounds, is_labels, preview, shows_colours

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["PAGE_HEADERS", "error_page", "node_page"]

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Accept",
}
MEMBERS = 200  # on one page
COUNTED_GROUPS = 32  # their members are listed with the page
CHEAP_OBJECTS = 4096  # of an array on this machine: they are listed with the page
PATIENT = Bounds(n_objects=4096, nbytes=128 * 2**20, nbytes_decoded=2**30)


@dataclass(frozen=True, slots=True)
class Member:
    """A line in the tree: name, its address, what it is, the names below it."""

    name: str
    href: str
    kind: str
    said: str
    inside: tuple[tuple[str, str], ...] = ()
    n_inside: int | None = None


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).with_name("templates")
    found = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"size": size_text, "json": _pretty}
    return found


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def error_page(status: int, reason: str, text: str, path: str) -> str:
    """A page that says why there is no other one.

    Raises:
        ImportError: jinja2 is missing.
    """
    return (
        _environment()
        .get_template("error.html")
        .render(title=f"{status} {reason}", status=status, reason=reason, text=text, crumbs=_crumbs(path))
    )


def node_page(store: Store, path: str, query: dict[str, str], url: str) -> str | None:
    """The page of a node, or of a folder that is none; None where there is nothing.

    Args:
        query: wishes of the reader: ``from`` (of the members), ``stored`` (count the objects), ``look`` (a picture that
            may cost more), ``labels`` (1 or 0), an axis' number (where to cut it).
        url: of the server, as the reader reached it.
    Raises:
        MetadataError: the node's document is damaged. StoreError: it cannot be read. ImportError: jinja2 is missing.
    """
    environment = _environment()
    try:
        node = load(store, path, None, None, lenient=True)
    except (NodeNotFoundError, InvalidKeyError):
        return _folder_page(store, path)
    here = f"{url}/{quote(path)}/" if path else f"{url}/"
    common = {
        "title": _title(store, path),
        "crumbs": _crumbs(path),
        "zarr_format": node.zarr_format,
        "attributes": [(name, _text(value)) for name, value in node.attributes.items()],
        "notes": [str(one) for one in node.leniencies],
        "stored": _stored(store, path, query),
        "document": "zarr.json"
        if node.zarr_format == 3
        else ".zarray"
        if isinstance(node, ArrayMetadata)
        else ".zgroup",
    }
    if isinstance(node, ArrayMetadata):
        text = environment.get_template("array.html").render(**common, **_array(store, path, node, query, here))
    else:
        text = environment.get_template("group.html").render(**common, **_group(store, path, node, query, here))
    return text


def _title(store: Store, path: str) -> str:
    """Name of a node; of the root that of its store, as far as its URL has one."""
    above = unquote(urlsplit(store.url).path).rstrip("/") if "://" in store.url else ""
    return path.rpartition("/")[2] or above.rpartition("/")[2] or "/"


def _crumbs(path: str) -> list[tuple[str, str]]:
    """Names above and their addresses, relative and without "./"."""
    names = path.split("/") if path else []
    return [("/" if i == 0 else names[i - 1], "../" * (len(names) - i)) for i in range(len(names) + 1)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=None, default=str)


def _stored(store: Store, path: str, query: dict[str, str]) -> str | None:
    """Objects and bytes below a node, where that was asked for."""
    if "stored" not in query:
        return None
    if not store.traits.listable:
        return "unknown: this store cannot be listed"
    try:
        entries = sized_entries(store, path)
    except ZarrdockError as error:
        return f"unknown: {error}"
    return f"{size_text(sum(entry.size or 0 for entry in entries))} in {len(entries):,} objects, metadata included"


# -- folders and groups ------------------------------------------------------------------------------------------------


def _folder_page(store: Store, path: str) -> str | None:
    if not store.traits.listable:
        return None
    listing = store.list_dir(path)
    if path and not listing.keys and not listing.prefixes:
        return None
    names = [f"{name}/" for name in listing.prefixes] + list(listing.keys)
    return (
        _environment()
        .get_template("folder.html")
        .render(title=_title(store, path), crumbs=_crumbs(path), names=[(name, quote(name)) for name in names])
    )


def _group(store: Store, path: str, group: GroupMetadata, query: dict[str, str], here: str) -> dict[str, Any]:
    members, n, start, trouble = _members(store, path, group, _number(query.get("from"), 0))
    found: dict[str, Any] = {"members": members, "n_members": n, "start": start, "trouble": trouble}
    found |= {"next": start + MEMBERS if n is not None and start + MEMBERS < n else None, "image": None, "levels": []}
    found |= {
        "is_consolidated": group.consolidated is not None,
        "look": None,
        "why_not": "",
        "code": _code(here, group),
    }
    found |= {"viewer": None, "cuts": [], "is_labels": None, "axes": []}
    try:
        if parse_multiscale(group.attributes) is None:
            return found
        picture = open_picture(store, path=path)
    except ZarrdockError as error:
        return found | {"why_not": str(error), "image": True}
    inside = len(path) + 1 if path else 0
    found["levels"] = [
        (f"{quote(level.path[inside:])}/", level.path[inside:], _times(level.shape), str(level.dtype), _times_of(level))
        for level in picture.levels
    ]
    found["image"] = picture.version or "version not said"
    found["axes"] = [(axis.name, axis.kind, f"{axis.scale:g} {axis.unit}".strip()) for axis in picture.axes]
    return found | _look(picture, query, here)


def _members(store: Store, path: str, group: GroupMetadata, start: int) -> tuple[list[Member], int | None, int, str]:
    """Members from number ``start`` on, the number of all, and the reason why they are not known."""
    if group.consolidated is not None:
        return _consolidated_members(group, start)
    if not store.traits.listable:
        return [], None, 0, "unknown: this store cannot list, and there is no consolidated metadata"
    try:
        names = store.list_dir(path).prefixes
        shown = names[start : start + MEMBERS]
        nodes = list(load_many(store, [join(path, name) for name in shown], group.zarr_format, lenient=True))
    except ZarrdockError as error:
        return [], None, 0, f"unknown: {error}"
    groups = [name for name, node in zip(shown, nodes, strict=True) if isinstance(node, GroupMetadata)]
    inside: dict[str, list[str]] = {}
    if len(groups) <= COUNTED_GROUPS:
        try:
            listings = store.list_dirs([join(path, name) for name in groups]) if groups else []
            inside = {name: list(one.prefixes) for name, one in zip(groups, listings, strict=True)}
        except ZarrdockError:
            pass  # the group's own page says why
    return (
        [_member(name, node, inside.get(name)) for name, node in zip(shown, nodes, strict=True)],
        len(names),
        start,
        "",
    )


def _consolidated_members(group: GroupMetadata, start: int) -> tuple[list[Member], int, int, str]:
    assert group.consolidated is not None
    inside: dict[str, list[str]] = {}
    for name in group.consolidated:
        head, _, rest = name.partition("/")
        inside.setdefault(head, [])
        if rest and "/" not in rest:
            inside[head].append(rest)
    names = sorted(inside)
    members = []
    for name in names[start : start + MEMBERS]:
        try:
            node: Node | ZarrdockError | None = group.consolidated[name]
        except KeyError:
            node = None
        except ZarrdockError as error:
            node = error
        members.append(_member(name, node, sorted(inside[name])))
    return members, len(names), start, ""


def _member(name: str, node: Node | ZarrdockError | None, inside: list[str] | None) -> Member:
    href = f"{quote(name)}/"
    if node is None:
        return Member(name, href, "folder", "a folder without a node")
    if isinstance(node, ZarrdockError):
        return Member(name, href, "error", str(node))
    if isinstance(node, ArrayMetadata):
        dtype = node.data_type.name if node.unknown else str(node.dtype)
        return Member(name, href, "array", f"{_times(node.shape)} {dtype}")
    if inside is None:
        return Member(name, href, "group", "")
    links = tuple((one, f"{href}{quote(one)}/") for one in inside[:20])
    return Member(name, href, "group", "", links, len(inside))


# -- arrays ------------------------------------------------------------------------------------------------------------


def _array(store: Store, path: str, node: ArrayMetadata, query: dict[str, str], here: str) -> dict[str, Any]:
    fill = node.data_type.fill_to_json if node.zarr_format == 3 else node.data_type.fill_to_json_v2
    found: dict[str, Any] = {"look": None, "why_not": "", "grid": "", "grid_said": "", "viewer": None, "cuts": []}
    found |= {"is_labels": None, "code": _code(here, node), "codecs": [codec.to_json() for codec in node.codecs]}
    if node.unknown:
        facts = [("Shape", _times(node.shape)), ("Data type", node.data_type.name)]
        unknown = "; ".join(str(error) for error in node.unknown)
        return found | {"facts": facts, "why_not": f"values cannot be decoded: {unknown}"}
    array = Array(store, path, node, read_only=True)
    facts = [(name, str(value)) for name, value in array.info.items() if name not in ("Array", "Store", "Fill value")]
    facts.append(("Fill value", json.dumps(fill(node.fill_value), ensure_ascii=False)))
    found["facts"] = facts
    is_cheap = store.traits.listable and not store.traits.remote and prod(array.cdata_shape) <= CHEAP_OBJECTS
    counts, said = _counts(array) if is_cheap or "stored" in query else (None, "")
    found |= {"grid": _grid(array, counts), "grid_said": said}
    return found | _look(picture_of(array), query, here)


def _counts(array: Array) -> tuple[npt.NDArray[np.float64] | None, str]:
    """The share of an array's objects that are stored, in cells along the last two axes."""
    grid = array.metadata.grid.n_chunks(array.shape)
    n_last = 1 if shows_colours(picture_of(array)) else 0
    if not grid or 0 in grid or not array.store.traits.listable:
        return None, ""
    sides = (1, *grid[: len(grid) - n_last])[-2:]
    cells = tuple(min(side, MAX_LINES) for side in sides)
    counts = np.zeros(cells)
    n = nbytes = 0
    try:
        for coords, entry in stored_objects(array.store, array.path, array.key_encoding, grid):
            y, x = (0, *coords[: len(grid) - n_last])[-2:]
            counts[y * cells[0] // sides[0], x * cells[1] // sides[1]] += 1
            n, nbytes = n + 1, nbytes + (entry.size or 0)
    except ZarrdockError as error:
        return None, f"stored objects are unknown: {error}"
    each = [np.bincount(np.arange(side) * cell // side) for side, cell in zip(sides, cells, strict=True)]
    said = f"{n:,} of {prod(grid):,} objects are stored"
    said += f", {size_text(nbytes)}" if nbytes else ""
    return counts / (np.outer(*each) * (prod(grid) // prod(sides))), said


def _grid(array: Array, stored: npt.NDArray[np.float64] | None) -> str:
    try:
        n = array.ndim - (1 if shows_colours(picture_of(array)) else 0)
        shards = None if array.shards is None else array.shards[:n]
        return grid_svg(array.shape[:n], array.chunks[:n], shards, stored)
    except ZarrdockError:  # chunks that differ in shape
        return ""


def _look(picture: Picture, query: dict[str, str], here: str) -> dict[str, Any]:
    array = picture.levels[0]
    cuts = {int(key): _number(value, 0) for key, value in query.items() if key.isdecimal() and len(key) < 3}
    wish = query.get("labels")
    labels = is_labels(array) if wish is None else wish == "1"
    can_choose = array.dtype.kind in "iu" and array.ndim > 1 and not shows_colours(picture)
    found: dict[str, Any] = {"is_labels": labels if can_choose else None}
    try:
        found["look"] = look = preview(picture, cuts, PATIENT if "look" in query else Bounds(), labels=labels)
    except Exception as error:  # damaged data, a denied read: the rest of the page stands
        can_try = isinstance(error, UnsupportedError) and "look" not in query and 0 not in array.shape
        return found | {"why_not": str(error), "can_try": can_try}
    found["can_try"] = False
    if look.image:
        found["cuts"] = _cut_links(picture, cuts, wish)
        low, high = (float(look.low or 0), float(look.high or 1))
        try:
            found["viewer"] = link(picture, here, low, high, is_segmentation=labels)
        except ZarrdockError as error:
            found["why_no_viewer"] = str(error)
    return found


def _cut_links(picture: Picture, cuts: dict[int, int], labels: str | None) -> list[dict[str, Any]]:
    """Steps along the axes that are cut."""
    shape = picture.levels[0].shape
    is_rgb = shows_colours(picture)
    kept = "" if labels is None else f"&labels={'1' if labels == '1' else '0'}"
    links = []
    for i, (axis, length) in enumerate(zip(picture.axes, shape, strict=True)):
        if i >= len(shape) - (3 if is_rgb else 2):
            break
        at = min(cuts.get(i, 0 if axis.kind in ("time", "channel") else length // 2), length - 1)
        stride = max(1, length // 16)

        def to(target: int, i: int = i) -> str:
            return "?" + "&".join(f"{j}={n}" for j, n in sorted((cuts | {i: target}).items())) + kept

        back, forth = max(at - stride, 0), min(at + stride, length - 1)
        links.append({"name": axis.name, "at": at, "length": length, "back": to(back), "forth": to(forth)})
    return links


def _code(here: str, node: Node) -> list[tuple[str, str]]:
    """Lines that open a node, by library."""
    url, bare = json.dumps(here), json.dumps(here.rstrip("/"))
    if isinstance(node, GroupMetadata):
        consolidated = node.consolidated is not None
        return [
            ("zarrdock", f"import zarrdock\n\ngroup = zarrdock.open_group({bare})"),
            ("zarr-python", f'import zarr\n\ngroup = zarr.open_group({bare}, mode="r")'),
            ("xarray", f"import xarray as xr\n\ndataset = xr.open_zarr({bare}, consolidated={consolidated})"),
        ]
    driver = "zarr3" if node.zarr_format == 3 else "zarr"
    spec = f'{{"driver": "{driver}", "kvstore": {{"driver": "http", "base_url": {url}}}}}'
    opened = f"zarrdock.open_array({bare})"
    dims = "" if node.dims is None else f", dims={[name or f'd{i}' for i, name in enumerate(node.dims)]!r}"
    return [
        ("zarrdock", f"import zarrdock\n\narray = zarrdock.open_array({bare})"),
        ("zarr-python", f'import zarr\n\narray = zarr.open_array({bare}, mode="r")'),
        (
            "xarray",
            f"import xarray as xr\nimport zarrdock\n\narray = xr.DataArray({opened}.to_dask(){dims})",
        ),
        ("TensorStore", f"import tensorstore as ts\n\narray = ts.open({spec}, read=True).result()"),
    ]


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 19 else default


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "0-dimensional"


def _times_of(array: Array) -> str:
    facts = array.info
    return f"{facts['Chunks']} in shards of {facts['Shards']}" if "Shards" in facts else str(facts["Chunks"])
