"""The function users call. A pyramid is a copy whose arrays are made of one another: blocks, memory, workers and the
remains of an interruption are those of :func:`zarrdock.copy`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from zarrdock.array.array import Array
from zarrdock.array.consolidated_copies import take_from_copies
from zarrdock.array.group import Group, NodeOptions, wrap
from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata
from zarrdock.array.node_storage import load, new_node_path, node_path, update_metadata
from zarrdock.array.removal import Inventory, remove, survey
from zarrdock.array.same_place import Reading, refuse_aliases
from zarrdock.codecs.write_options import WriteOptions
from zarrdock.copying.conversions import tiff_folder
from zarrdock.copying.copy_ import Copier, contents_of_any, layout_of
from zarrdock.copying.copy_plan import ArrayPart, Contents
from zarrdock.copying.parallel import Workers
from zarrdock.copying.progress import MARK, CopyProgress, below
from zarrdock.copying.recognise import find_file
from zarrdock.copying.sources import load_root
from zarrdock.copying.target_metadata import Parts, Wishes, retarget
from zarrdock.copying.tiff import TiffArray
from zarrdock.copying.transfer import N_LOCAL, N_REMOTE
from zarrdock.errors import NodeExistsError, NodeNotFoundError, UnsupportedError
from zarrdock.pyramids.downsample import Halved, Method, check_method
from zarrdock.pyramids.image import AxesLike, document, image_axes, steps
from zarrdock.stores.base import Store
from zarrdock.stores.open import open_store
from zarrdock.stores.zip_ import ZipStore
from zarrdock.viewer.multiscale import Axis, Multiscale, parse_multiscale

__all__ = ["pyramid"]

# What is read for a block is held beside sums as large, and what is encoded: eighths of the memory for each block.
_PIECES = 8
# Axes of TIFF files: images of a sequence, and an axis of unknown meaning.
_STACKED = ("i", "q")
_OWN_ATTRIBUTES = ("ome", "multiscales", "omero")


def pyramid(
    src: Any,
    dst: Any = None,
    *,
    src_path: str | None = None,
    dst_path: str | None = None,
    levels: int | None = None,
    method: Method | None = None,
    axes: AxesLike | None = None,
    scale: Sequence[float] | Mapping[str, float] | None = None,
    units: str | Mapping[str, str] | None = None,
    isotropic: bool = False,
    name: str | None = None,
    chunks: Any = "keep",
    shards: Any = "keep",
    compressors: Any = "keep",
    index_location: Literal["keep", "start", "end"] = "keep",
    overwrite: bool = False,
    resume: bool = False,
    src_storage_options: Mapping[str, Any] | None = None,
    dst_storage_options: Mapping[str, Any] | None = None,
    memory_bytes: int = 512 * 2**20,
    progress: Callable[[CopyProgress], None] | None = None,
    workers: Workers | None = None,
) -> Group:
    """Write an OME-Zarr 0.5 image: an array in several resolutions, each half the one before along the axes of space.

    Each level is made from the one before, in blocks of whole shards. An axis of odd length keeps its last element. The
    group says that it is an image when all levels are there.

    Args:
        src: the finest level: an array; a group that is an image already, or holds one array; or anything else that
            :func:`zarrdock.copy` takes, such as a folder of TIFF files.
        dst: where the image goes, with a copy of ``src`` as its finest level: anything :func:`zarrdock.open_store`
            takes. None: the other levels are written beside ``src``, into the group that it is in.
        src_path, dst_path: of the node within either store.
        levels: number of resolutions, the finest included. None: until every axis of space fits in one chunk, or has at
            most 64 elements.
        method: "mean" of the elements that become one (integers are rounded to the nearest, halves to the even one; a
            NaN makes a NaN), their "max", their "mode" (for labels; the first of several), or "nearest", the first of
            them. None: mode for bool, mean for other numbers.
        axes: names of the dimensions, "tczyx" or a list, in which an object with "name", "type" and "unit" may stand
            for a name. None: those of the image that ``src`` is; the dimension names of the array; else the last two or
            three are space.
        scale: length of an element along each axis, or by name. units: of the axes of space, or by name: names of
            OME-Zarr such as "micrometer", or "um".
        isotropic: halve an axis only once its elements are no longer than those of the others.
        name: of the image; that of the destination unless given.
        chunks, shards, compressors, index_location: as for ``copy``; of the levels that are written.
        overwrite: replace what is at ``dst``; without ``dst`` the levels that there are, but the finest.
        resume: complete an earlier call with the same arguments that was interrupted.
        memory_bytes: about what may be held at one time; by each worker, where there are workers. A chunk of the source
            and an encoded object of the destination are the least there can be.
        progress, workers: as for ``copy``.
    Returns:
        The image, a group that is open for reading and writing.
    Raises:
        UnsupportedError: no axis of space, or axes that OME-Zarr has no form for; an array too small for so many
            levels; no such method for its data type.
        NodeExistsError: there is something at the destination, or there are levels already.
        NodeNotFoundError: there is no source. MetadataError, CodecError, StoreError: as for ``copy``.

    >>> array = zarrdock.create_array("a.zarr", data=np.arange(64).reshape(8, 8), dimension_names=("y", "x"))
    >>> image = zarrdock.pyramid(array, "image.zarr", levels=3, scale=(0.5, 0.5), units="um")
    >>> image["1"][0].tolist(), image["2"].shape
    ([4, 6, 8, 10], (2, 2))
    """
    wanted = _Wanted(levels, method, axes, scale, units, isotropic, name)
    wishes = Wishes(chunks, shards, compressors, index_location, zarr_format=3)
    if dst is None:
        if dst_path is not None or dst_storage_options is not None:
            raise UnsupportedError("dst_path= and dst_storage_options= need a destination: give dst=...")
        plan = _beside(src, src_path, src_storage_options, wanted, wishes, memory_bytes)
    else:
        plan = _copied(
            src, dst, src_path, dst_path, src_storage_options, dst_storage_options, wanted, wishes, memory_bytes
        )
    plan.store._check_writable(plan.path)
    if isinstance(plan.store, ZipStore) and plan.store.is_single_file:
        raise UnsupportedError(
            f"{plan.store}: levels are read back while the image is made, and single-file OME-Zarr is written in one "
            "pass: make the image in a folder, and copy that"
        )
    contents = plan.contents
    if workers is not None:
        workers.check(plan.store, *(one for one in (contents.store,) if one is not None))
    layouts = [layout_of(part, WriteOptions()) for part in contents.arrays]
    kind = Copier if dst is not None else _Beside
    kind(contents, layouts, plan.store, plan.path, memory_bytes, progress, False, False, workers).run(
        overwrite=overwrite, resume=resume
    )
    image = wrap(plan.store, plan.path, load(plan.store, plan.path, "group", 3), NodeOptions())
    assert isinstance(image, Group)
    return image


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Wishes for the image. See :func:`pyramid`."""

    levels: int | None
    method: Method | None
    axes: AxesLike | None
    scale: Sequence[float] | Mapping[str, float] | None
    units: str | Mapping[str, str] | None
    isotropic: bool
    name: str | None


@dataclass(frozen=True, slots=True)
class _Plan:
    """Contents of the image, and the place of its group."""

    store: Store
    path: str
    contents: Contents


# -- the image elsewhere ----------------------------------------------------------------------------------------------


def _copied(
    src: Any,
    dst: Any,
    src_path: str | None,
    dst_path: str | None,
    src_storage_options: Mapping[str, Any] | None,
    dst_storage_options: Mapping[str, Any] | None,
    wanted: _Wanted,
    wishes: Wishes,
    memory_bytes: int,
) -> _Plan:
    """An image with a copy of the source as its finest level."""
    contents = contents_of_any(src, src_path, src_storage_options, wishes, recode=False)
    attributes = contents.groups[""].attributes if "" in contents.groups else {}
    known = parse_multiscale(attributes)
    part = _finest(contents, known)
    store = open_store(dst, storage_options=dict(dst_storage_options) if dst_storage_options else None)
    path = new_node_path(dst_path)
    if contents.reading is not None:
        refuse_aliases([contents.reading], store, path, is_cleared=False)
    metadata = part.metadata
    names = metadata.dimension_names
    if isinstance(part.source, TiffArray) and names is not None:
        names = tuple("z" if name in _STACKED and "z" not in names else name for name in names)
    made = _Levels.of(metadata, names, known, wanted)
    finest = replace(part, path="0", at=part.source_path, metadata=made.finest)
    paths = [str(number) for number in range(len(made.halved) + 1)]
    levels = made.parts(store, path, paths, Wishes(), memory_bytes)
    ome = document(_name(wanted, store, path), made.axes, paths, made.halved, made.method)
    _keep_rendering(ome, attributes)
    kept = {key: value for key, value in attributes.items() if key not in _OWN_ATTRIBUTES}
    group = GroupMetadata(attributes={**kept, "ome": ome})
    return _Plan(
        store,
        path,
        replace(
            contents,
            arrays=[finest, *levels],
            groups={"": group},
            consolidated=frozenset(),
            files=(),
            folders=(),
            left_out=(*contents.left_out, *_others(contents, part, known)),
        ),
    )


def _others(contents: Contents, finest: ArrayPart, known: Multiscale | None) -> list[str]:
    """Name labels, tables and foreign files beside the image's levels, the uppermost of them, and say why."""
    levels = {finest.path, *(() if known is None else map(node_path, known.paths))}
    nodes = [*(part.path for part in contents.arrays), *contents.groups, *contents.files, *contents.folders]
    names = {path for path in nodes if path and not any(f"{level}/".startswith(f"{path}/") for level in levels)}
    top = sorted(name for name in names if not any(name.startswith(f"{other}/") for other in names))
    return [f"{name}: it is no level of the image; zarrdock copy takes it along" for name in top]


def _finest(contents: Contents, known: Multiscale | None) -> ArrayPart:
    """The array that a source is, or has as its finest level."""
    if known is not None:
        path = node_path(known.paths[0])
        found = [part for part in contents.arrays if part.path == path]
        if not found:
            raise NodeNotFoundError(f"{contents.url} is an OME-Zarr image, but its finest level {path!r} is not there")
        return found[0]
    return contents.arrays[_only([part.path for part in contents.arrays], contents.url)]


def _only(paths: Sequence[str], where: str) -> int:
    """The number of the one array there is."""
    if not paths:
        raise NodeNotFoundError(f"there is no array in {where}")
    if len(paths) > 1:
        some = ", ".join(map(repr, paths[:5]))
        raise UnsupportedError(f"there are {len(paths)} arrays in {where}: name one with src_path=... ({some})")
    return 0


def _name(wanted: _Wanted, store: Store, path: str) -> str:
    if wanted.name is not None:
        return wanted.name
    place = path or store.url.rstrip("/")
    return re.sub(r"(\.ome)?\.zarr(\.zip)?$", "", place.rpartition("/")[2])


def _keep_rendering(ome: dict[str, Any], attributes: Mapping[str, Any]) -> None:
    """Colours and ranges of the channels stay those of the source."""
    before = attributes.get("ome")
    for members in (attributes, before if isinstance(before, Mapping) else {}):
        if "omero" in members:
            ome["omero"] = members["omero"]


@dataclass(frozen=True, slots=True)
class _Levels:
    """Levels of an image: the metadata of the finest one, and which axes are halved from each to the next."""

    finest: ArrayMetadata
    axes: tuple[Axis, ...]
    halved: list[tuple[bool, ...]]
    method: Method

    @classmethod
    def of(
        cls,
        metadata: ArrayMetadata,
        names: Sequence[str | None] | None,
        known: Multiscale | None,
        wanted: _Wanted,
    ) -> _Levels:
        """Levels as they are wanted of an array."""
        metadata.require_known()
        method = check_method(wanted.method, metadata.dtype)
        axes = image_axes(
            metadata.shape,
            names,
            axes=wanted.axes,
            scale=wanted.scale,
            units=wanted.units,
            known=None if known is None else known.axes,
        )
        chunks = Parts.of(metadata).chunk_shape
        halved = steps(metadata.shape, chunks, axes, wanted.levels, isotropic=wanted.isotropic)
        # OME-Zarr wants both to agree.
        return cls(metadata.replace(dimension_names=tuple(axis.name for axis in axes)), axes, halved, method)

    def parts(
        self, store: Store, path: str, paths: Sequence[str], wishes: Wishes, memory_bytes: int
    ) -> list[ArrayPart]:
        """All levels but the finest, each made of the one before.

        Args:
            paths: of all levels, relative to ``path``.
        """
        found: list[ArrayPart] = []
        before = self.finest
        n_jobs = N_REMOTE if store.traits.remote else N_LOCAL
        for number, halved in enumerate(self.halved):
            shape = tuple(-(-n // (1 + half)) for n, half in zip(before.shape, halved, strict=True))
            metadata = _smaller(before, shape, wishes if number == 0 else Wishes())
            source = Halved(
                store,
                below(path, paths[number]),
                before,
                halved,
                self.method,
                memory_bytes // (_PIECES * n_jobs),
            )
            found.append(ArrayPart(paths[number + 1], metadata, source, None))
            before = metadata
        return found


def _smaller(metadata: ArrayMetadata, shape: tuple[int, ...], wishes: Wishes) -> ArrayMetadata:
    """The same with fewer elements, in chunks and shards that are no longer than it takes."""
    wished, _ = retarget(metadata.replace(attributes={}), wishes)
    old = Parts.of(wished)
    chunks = tuple(max(1, min(size, n)) for size, n in zip(old.chunk_shape, shape, strict=True))
    shards: list[tuple[int, ...]] = []
    inner_before, inner = old.chunk_shape, chunks
    for outer, _ in reversed(old.levels):
        counts = (
            min(size // before, -(-n // now))
            for size, before, now, n in zip(outer, inner_before, inner, shape, strict=True)
        )
        inner_before = outer
        inner = tuple(count * size for count, size in zip(counts, inner, strict=True))
        shards.insert(0, inner)
    grid = RegularGrid(old.grid.largest)
    plain = wished.replace(shape=shape, grid=grid)
    return retarget(plain, Wishes(chunks=chunks, shards=shards or None))[0]


# -- the levels beside the array that there is ------------------------------------------------------------------------


def _beside(
    src: Any,
    src_path: str | None,
    storage_options: Mapping[str, Any] | None,
    wanted: _Wanted,
    wishes: Wishes,
    memory_bytes: int,
) -> _Plan:
    """The other levels of an array, in the group that it is in."""
    store, at, node = _opened(src, src_path, storage_options)
    if isinstance(node, ArrayMetadata):
        if not at:
            raise UnsupportedError(
                f"the array is the root of {store}: there is no group for other levels beside it. Give dst=..., "
                "or name the group as source, and the array in it as src_path=..."
            )
        path, _, finest_path = at.rpartition("/")
        group, metadata = load(store, path, "group", None, consolidated=False), node
        known = parse_multiscale(group.attributes)
        if known is not None and node_path(known.paths[0]) != finest_path:
            raise UnsupportedError(
                f"{at!r} is in the image {path or '/'!r}, and not its finest level: name the image, or give dst=..."
            )
    else:
        path, group = at, node
        known = parse_multiscale(group.attributes)
        finest_path = _array_in(store, path, group, known)
        found = load(store, below(path, finest_path), "array", None)
        assert isinstance(found, ArrayMetadata)
        metadata = found
    assert isinstance(group, GroupMetadata)
    if group.zarr_format != 3 or metadata.zarr_format != 3:
        raise UnsupportedError(
            f"{below(path, finest_path)!r} in {store} is Zarr v2, and an image of OME-Zarr 0.5 is v3: give dst=..., "
            "where a copy of it will be v3"
        )
    made = _Levels.of(metadata, metadata.dimension_names, known, wanted)
    names = metadata.dimension_names
    if names is not None and made.finest.dimension_names != names and any(name is not None for name in names):
        raise UnsupportedError(
            f"the dimensions of {below(path, finest_path)!r} are called {', '.join(map(str, names))}, and the axes "
            f"{', '.join(axis.name for axis in made.axes)}: OME-Zarr wants the same names"
        )
    paths = [_level_path(finest_path, number) for number in range(len(made.halved) + 1)]
    name = _name(wanted, store, path)
    contents = _Others(
        f"{store.url}/{at}" if at else store.url,
        None,
        path,
        made.parts(store, path, paths, wishes, memory_bytes),
        # All else that the group says may change meanwhile.
        {"": GroupMetadata(attributes={"ome": document(name, made.axes, paths, made.halved, made.method)})},
        reading=Reading(store, below(path, finest_path), {"": metadata}),
        finest_path=finest_path,
        finest=made.finest,
        alone=document(name, made.axes, paths[:1], (), made.method),
        before=() if known is None else tuple(node_path(one) for one in known.paths[1:]),
    )
    return _Plan(store, path, contents)


def _opened(
    src: Any, src_path: str | None, storage_options: Mapping[str, Any] | None
) -> tuple[Store, str, ArrayMetadata | GroupMetadata]:
    if isinstance(src, Array | Group):
        if src_path:
            raise UnsupportedError(f"src_path= needs a store as source, and {src!r} is a node already: leave it out")
        src._check_writable()
        return src.store, src.path, load_root(src.store, src.path)
    if isinstance(src, np.ndarray) or find_file(src, storage_options) is not None:
        raise UnsupportedError("the source is no Zarr: give a destination, dst=...")
    store = open_store(src, storage_options=dict(storage_options) if storage_options else None)
    path = node_path(src_path)
    try:
        return store, path, load_root(store, path)
    except NodeNotFoundError:
        if tiff_folder(store, path) is None:
            raise
        raise UnsupportedError(f"{store} is a folder of TIFF files: give a destination, dst=...") from None


def _array_in(store: Store, path: str, group: GroupMetadata, known: Multiscale | None) -> str:
    """Path of the finest level, relative to its group."""
    if known is not None:
        return node_path(known.paths[0])
    names = [name for name, _ in Group(store, path, group).arrays()]
    for name in names:  # an earlier call may have left some of the others
        if all(_level_path(name, number) in names for number in range(len(names))):
            return name
    return names[_only(names, f"{path or '/'!r} in {store}")]


def _level_path(finest: str, number: int) -> str:
    """Path of a level: beside "0" is "1", beside "s0" is "s1", and beside "image" is "image_1"."""
    if number == 0:
        return finest
    stem = finest[:-1] if re.search(r"(?<!\d)0$", finest) else f"{finest}_"
    return f"{stem}{number}"


@dataclass(frozen=True, slots=True)
class _Others(Contents):
    """The levels beside the finest one, which is there.

    Attributes:
        finest_path, finest: the finest level, and its metadata in the image.
        alone: attribute of an image that has no other level. before: paths of the other levels that the image had.
    """

    finest_path: str = ""
    finest: ArrayMetadata | None = None
    alone: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[str, ...] = ()


class _Beside(Copier):
    """Writes levels into the group that holds the finest one."""

    _contents: _Others

    def _make_room(self, is_begun: bool, *, overwrite: bool) -> None:
        contents, store = self._contents, self._store
        paths = dict.fromkeys([*(part.path for part in contents.arrays), *contents.before])
        if overwrite:
            self._clear(list(paths))
            return
        for relative in paths:
            listing = store.list_dir(below(self._path, relative)) if store.traits.listable else None
            if relative in contents.before or (listing is not None and (listing.keys or listing.prefixes)):
                raise NodeExistsError(
                    f"there is {relative!r} beside the finest level at {self._path or '/'!r} in {store} already: "
                    "overwrite=True replaces the levels that there are"
                )

    def _clear(self, paths: Sequence[str]) -> None:
        store = self._store
        self._say(self._contents.alone)  # nobody shall look for levels that are about to go
        found = survey(store, self._path)
        for relative in paths:
            at = below(self._path, relative)
            mine, others = (
                tuple(key for key in keys if key.startswith(f"{at}/")) for keys in (found.keys, found.foreign)
            )
            if mine or others:
                nodes = frozenset(node for node in found.nodes if node == at or node.startswith(f"{at}/"))
                take_from_copies(store, at)
                remove(store, at, found=Inventory(at, bool(mine), nodes, mine, others))
        if store.traits.any_key:
            store.delete(below(self._path, MARK))

    def _write_groups(self, groups: list[tuple[str, dict[str, bytes]]]) -> None:
        finest, at = self._contents.finest, below(self._path, self._contents.finest_path)
        assert finest is not None
        names = finest.dimension_names
        stored = load(self._store, at, "array", 3)
        if isinstance(stored, ArrayMetadata) and stored.dimension_names != names:
            update_metadata(self._store, at, stored, lambda now: now.replace(dimension_names=names), attributes=False)
        self._say(self._contents.root.attributes["ome"])

    def _say(self, ome: Mapping[str, Any]) -> None:
        """Say in the group's attributes which levels the image has; all else that they say stays."""

        def change(stored: GroupMetadata) -> GroupMetadata:
            attributes = {key: value for key, value in stored.attributes.items() if key != "multiscales"}
            before = attributes.get("ome")
            attributes["ome"] = {**(before if isinstance(before, Mapping) else {}), **ome}
            return stored.replace(attributes=attributes)

        update_metadata(self._store, self._path, GroupMetadata(), change, attributes=True)
