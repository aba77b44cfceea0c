"""Images to look at: an array, or an OME-Zarr image in several resolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zarrdock.array.array import Array
from zarrdock.array.group import Group
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.node_storage import join, load, node_path
from zarrdock.errors import MetadataError, NodeNotFoundError, UnsupportedError
from zarrdock.json_ import expect_list, expect_object, expect_string
from zarrdock.stores.base import Store
from zarrdock.stores.open import open_store

__all__ = ["Axis", "Multiscale", "Picture", "open_picture", "parse_multiscale", "picture_of"]

# Before version 0.3 there was nothing else.
_AXES = ("t", "c", "z", "y", "x")
_KINDS = {"t": "time", "c": "channel"}


@dataclass(frozen=True, slots=True)
class Axis:
    """A dimension of an image.

    Attributes:
        kind: ``space``, ``time``, ``channel`` or what the file says.
        scale: length of an element of the finest level, in ``unit``, as the file names it ("" for none).
        translation: place of the middle of its first element, in ``unit``.
    """

    name: str
    kind: str = "space"
    scale: float = 1.0
    unit: str = ""
    translation: float = 0.0


@dataclass(frozen=True, slots=True)
class Multiscale:
    """An image in several resolutions.

    Attributes:
        axes: one a dimension. paths: of the arrays, relative to the group, the finest first.
        version: of the metadata, "" where it does not say.
    """

    axes: tuple[Axis, ...]
    paths: tuple[str, ...]
    version: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A node that a viewer can show.

    Attributes:
        store, path: of the node that was named. levels: the finest first; one for an array.
        axes: one a dimension. version: of the OME-Zarr metadata, None for an array.
    """

    store: Store
    path: str
    levels: tuple[Array, ...]
    axes: tuple[Axis, ...]
    version: str | None = None


def parse_multiscale(attributes: Mapping[str, Any]) -> Multiscale | None:
    """The first image of a group's attributes; None where there is none.

    Raises:
        MetadataError: there is one, but not as it should be.

    Source: OME-Zarr 0.1 to 0.5, "multiscales" metadata.
    """
    ome = attributes.get("ome")
    place = "/attributes/ome/multiscales" if isinstance(ome, Mapping) else "/attributes/multiscales"
    members = ome.get("multiscales") if isinstance(ome, Mapping) else attributes.get("multiscales")
    if members is None:
        return None
    images = expect_list(members, place, "a list of objects, one an image")
    if not images:
        raise MetadataError(pointer=place, expected="a list of objects, one an image", found=members)
    image = expect_object(images[0], f"{place}/0", "an object, an image")
    datasets = expect_list(image.get("datasets"), f"{place}/0/datasets", "a list of at least one array")
    if not datasets:
        raise MetadataError(pointer=f"{place}/0/datasets", expected="a list of at least one array", found=datasets)
    paths: list[str] = []
    for i, dataset in enumerate(datasets):
        at = f"{place}/0/datasets/{i}"
        paths.append(expect_string(expect_object(dataset, at).get("path"), f"{at}/path", "the path of an array"))
    axes = expect_list(image.get("axes", _AXES), f"{place}/0/axes", "a list of axes")
    version = (ome if isinstance(ome, Mapping) else image).get("version", "")
    places = [(1.0, 0.0)] * len(axes)
    for members, at in ((datasets[0], f"{place}/0/datasets/0"), (image, f"{place}/0")):
        places = _transformed(places, members, at)
    found = tuple(_axis(axis, *places[i], f"{place}/0/axes/{i}") for i, axis in enumerate(axes))
    return Multiscale(found, tuple(paths), str(version))


def _transformed(
    places: Sequence[tuple[float, float]], members: Mapping[str, Any], pointer: str
) -> list[tuple[float, float]]:
    """Scale and translation of each axis, once the transformations of an object were applied to them."""
    found = list(places)
    for i, step in enumerate(members.get("coordinateTransformations") or ()):
        kind = step.get("type") if isinstance(step, Mapping) else None
        if kind not in ("scale", "translation"):
            continue
        numbers = step.get(kind)
        if kind == "translation" and numbers is None:  # in an array of its own, as was allowed once
            continue
        is_list = isinstance(numbers, Sequence) and all(isinstance(number, int | float) for number in numbers)
        if not is_list or len(numbers) != len(found):
            at = f"{pointer}/coordinateTransformations/{i}/{kind}"
            raise MetadataError(pointer=at, expected=f"{len(found)} numbers, one an axis", found=numbers)
        pairs = zip(found, map(float, numbers), strict=True)
        if kind == "scale":
            found = [(scale * number, start * number) for (scale, start), number in pairs]
        else:
            found = [(scale, start + number) for (scale, start), number in pairs]
    return found


def _axis(axis: object, scale: float, translation: float, pointer: str) -> Axis:
    if isinstance(axis, str):
        return Axis(axis, _KINDS.get(axis, "space"), scale, translation=translation)
    if isinstance(axis, Mapping) and isinstance(axis.get("name"), str):
        kind = axis.get("type", _KINDS.get(axis["name"], "space"))
        return Axis(axis["name"], str(kind), scale, str(axis.get("unit") or ""), translation)
    raise MetadataError(pointer=pointer, expected="an object with a name", found=axis)


def open_picture(target: Any, *, path: str = "", storage_options: dict[str, Any] | None = None) -> Picture:
    """Open an array or OME-Zarr image to look at.

    Args:
        target: an array, a group, or anything :func:`zarrdock.open_store` takes. path: of the node in it.
    Raises:
        NodeNotFoundError: there is no node, or a group that is no OME-Zarr image.
        MetadataError: the metadata is invalid. UnsupportedError: levels of different dimensions.
    """
    if isinstance(target, Array) and not path:
        return picture_of(target)
    if isinstance(target, Array | Group):
        store, at = target.store, join(target.path, node_path(path)) if path else target.path
    else:
        store, at = open_store(target, storage_options=storage_options, read_only=True), node_path(path)
    node = load(store, at, None, None)
    if isinstance(node, ArrayMetadata):
        return picture_of(Array(store, at, node, read_only=True))
    image = parse_multiscale(node.attributes)
    if image is None:
        raise NodeNotFoundError(f"{at or '/'!r} in {store} is a group: name an array in it, or an OME-Zarr image")
    levels: list[Array] = []
    for inner in image.paths:
        found = load(store, join(at, node_path(inner)), "array", node.zarr_format)
        assert isinstance(found, ArrayMetadata)
        levels.append(Array(store, join(at, node_path(inner)), found, read_only=True))
    if len({(level.ndim, level.dtype) for level in levels}) != 1:
        raise UnsupportedError(f"the levels of {at or '/'!r} differ in dimensions or data type")
    axes = image.axes
    if len(axes) != levels[0].ndim:
        raise MetadataError(
            f"{at or '/'!r}",
            pointer="/attributes",
            expected=f"{levels[0].ndim} axes",
            found=[axis.name for axis in axes],
        )
    return Picture(store, at, tuple(levels), axes, image.version)


def picture_of(array: Array) -> Picture:
    """A single array as an image of one level, its axes by its dimension names."""
    names = array.dimension_names or (None,) * array.ndim
    axes = tuple(Axis(f"d{i}" if name is None else name) for i, name in enumerate(names))
    return Picture(array.store, array.path, (array,), axes)
