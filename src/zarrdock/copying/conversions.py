"""Files that are no Zarr, as something to copy: every array in them with the metadata that it will have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zarrdock.array.dtypes.dtype import data_type_of
from zarrdock.array.metadata.v3 import GroupMetadata, V2Details
from zarrdock.array.same_place import Reading
from zarrdock.copying.copy_plan import ArrayPart, Contents, node_documents, of_hierarchy
from zarrdock.copying.npy import Npy
from zarrdock.copying.progress import below
from zarrdock.copying.recognise import FileKind, ForeignFile
from zarrdock.copying.sources import Source
from zarrdock.copying.target_metadata import Wishes, new_metadata
from zarrdock.errors import NodeNotFoundError, UnknownExtensionError, UnsupportedError
from zarrdock.stores.base import Store
from zarrdock.stores.memory import MemoryStore

if TYPE_CHECKING:
    from zarrdock.copying.tiff import Image

__all__ = ["Described", "contents_of", "tiff_folder"]


_TIFF = (".tif", ".tiff")
_OF_WINDOWS = ("thumbs.db", "desktop.ini")


def contents_of(file: ForeignFile, path: str, wishes: Wishes, *, recode: bool) -> Contents:
    """Contents of a copy of a file.

    Args:
        path: of a group or an array within the file; "" for all of it.
        recode: elements are encoded anew even where chunks and codecs stay the same.
    Raises:
        NodeNotFoundError: there is no node at ``path``. UnsupportedError: Zarr has no form for it, or a library is
            missing. MetadataError, StoreError: the file is damaged, or cannot be read.
    """
    return _READERS[file.kind](file, path, wishes, recode)


def _of_hdf5(file: ForeignFile, path: str, wishes: Wishes, recode: bool) -> Contents:
    from zarrdock.views.hdf5_view import ConvertedHDF5

    view = ConvertedHDF5(file.store, file.key)
    left_out = view.left_out(path)
    if isinstance(wishes.compressors, str) and wishes.compressors == "keep":
        # Those of HDF5 are known to few readers of Zarr.
        wishes = replace(wishes, compressors="auto")
    try:
        contents = of_hierarchy(view, path, wishes, recode=recode)
    except NodeNotFoundError:
        if left_out:
            raise UnsupportedError(f"{file.url}: Zarr has no form for {left_out[0]}") from None
        raise
    return replace(contents, left_out=left_out)


def _of_virtual(file: ForeignFile, path: str, wishes: Wishes, recode: bool) -> Contents:
    from zarrdock.views.virtual import open_virtual

    return of_hierarchy(open_virtual(file.url).store, path, wishes, recode=recode)


def _of_npy(file: ForeignFile, path: str, wishes: Wishes, recode: bool) -> Contents:
    if path:
        raise NodeNotFoundError(f"there is no {path!r} in {file.url}: a .npy file is one array")
    source = Npy.load(file.store, file.key)
    return _arrays(file, {"": source}, wishes)


def _of_npz(file: ForeignFile, path: str, wishes: Wishes, recode: bool) -> Contents:
    from zarrdock.stores.zip_ import ZipStore

    archive = ZipStore((file.store, file.key))
    found: dict[str, Source] = {}
    left_out: list[str] = []
    for entry in archive.list():
        name = entry.key.removesuffix(".npy")
        if path and name != path:
            continue
        if name == entry.key:
            left_out.append(f"{name}: no .npy file")
            continue
        try:
            source = Npy.load(archive, entry.key)
            data_type = data_type_of(source.dtype, zarr_format=wishes.zarr_format or 3)
            if wishes.zarr_format != 2:
                data_type.to_json()
            found["" if path else name] = source
        except (UnsupportedError, UnknownExtensionError) as error:
            left_out.append(f"{name}: {error}")
    if path and not found:
        raise UnsupportedError(left_out[0]) if left_out else NodeNotFoundError(f"there is no {path!r} in {file.url}")
    return replace(_arrays(file, found, wishes), left_out=tuple(left_out))


def _of_tiff(file: ForeignFile, path: str, wishes: Wishes, recode: bool) -> Contents:
    from zarrdock.copying.tiff import open_tiff

    return _of_image(file, open_tiff(file.store, file.key), path, wishes)


def _of_netcdf3(file: ForeignFile, path: str, wishes: Wishes, recode: bool) -> Contents:
    from zarrdock.copying.netcdf3 import open_netcdf3

    opened = open_netcdf3(file.store, file.key)
    found: Mapping[str, Source] = opened.variables
    if path and path not in found:
        raise NodeNotFoundError(f"there is no {path!r} in {file.url}: there are {', '.join(found)}")
    attributes = opened.variables[path].attributes if path else opened.attributes
    contents = _arrays(file, {"": found[path]} if path else found, wishes, attributes)
    for i, part in enumerate(contents.arrays):
        if part.metadata.zarr_format == 2 and "_FillValue" not in part.metadata.attributes:
            # xarray takes v2's fill value for missing elements, and here none are.
            null = part.metadata.replace(v2=V2Details(fill_value_is_null=True))
            contents.arrays[i] = replace(part, metadata=null)
    return replace(contents, left_out=opened.left_out)


def tiff_folder(store: Store, path: str) -> Callable[[Wishes], Contents] | None:
    """Function that makes the contents of a folder of TIFF files; None for a folder that is not, in the main, such.

    Raises:
        NodeNotFoundError: something else lies among them.
    """
    if not store.traits.listable:
        return None
    listing = store.list_dir(path)
    names = [name for name in listing.keys if not name.startswith(".") and name.lower() not in _OF_WINDOWS]
    others = [name for name in names if not name.lower().endswith(_TIFF)] + [f"{name}/" for name in listing.prefixes]
    if len(names) + len(listing.prefixes) <= 2 * len(others):
        return None
    if others:
        more = f" and {len(others) - 3:,} more" if len(others) > 3 else ""
        raise NodeNotFoundError(
            f"a folder becomes one array where all in it are TIFF files, and {store.url_of(path)} also has "
            f"{', '.join(others[:3])}{more}: move what is no image, or copy the files one by one"
        )

    def make(wishes: Wishes) -> Contents:
        from zarrdock.copying.tiff import open_tiff_folder

        image = open_tiff_folder(store, [below(path, name) for name in names])
        return _of_image(ForeignFile("tiff", store, path), image, "", wishes)

    return make


def _of_image(file: ForeignFile, image: Image, path: str, wishes: Wishes) -> Contents:
    found: Mapping[str, Source] = image.arrays
    if path and path not in found:
        raise NodeNotFoundError(f"there is no {path!r} in {file.url}: there are {', '.join(found)}")
    contents = _arrays(file, {"": found[path]} if path else found, wishes, image.attributes)
    return replace(contents, left_out=image.left_out)


class Described(MemoryStore):
    """The documents of a copy that was not made: for those who show what it would be."""

    def __init__(self, contents: Contents) -> None:
        super().__init__()
        self._url = contents.url
        for part in contents.arrays:
            for name, data in node_documents(part.metadata).items():
                self.write(below(part.path, name), data)
        for path, documents in contents.group_documents():
            for name, data in documents.items():
                self.write(below(path, name), data)

    @property
    def url(self) -> str:
        """URL of the file."""
        return self._url


_READERS: Mapping[FileKind, Callable[[ForeignFile, str, Wishes, bool], Contents]] = {
    "hdf5": _of_hdf5,
    "netcdf3": _of_netcdf3,
    "npy": _of_npy,
    "npz": _of_npz,
    "tiff": _of_tiff,
    "virtual": _of_virtual,
}


def _arrays(
    file: ForeignFile, sources: Mapping[str, Source], wishes: Wishes, attributes: Mapping[str, Any] | None = None
) -> Contents:
    """Arrays by path, in groups as the paths say; one at "" is all there is."""
    parts: list[ArrayPart] = []
    groups: dict[str, GroupMetadata] = {}
    for path, source in sources.items():
        own = wishes.for_ndim(len(source.shape))
        named: Any = getattr(source, "dimension_names", None)
        metadata = new_metadata(
            source.shape,
            source.dtype,
            own if path else wishes,
            fill_value=getattr(source, "fill_value", None),
            attributes=getattr(source, "attributes", None) if path else attributes,
            dimension_names=named,
        )
        parts.append(ArrayPart(path, metadata, source, None))
        above = path
        while above:
            above = above.rpartition("/")[0]
            groups[above] = GroupMetadata(zarr_format=wishes.zarr_format or 3)
    if "" not in sources:
        groups[""] = GroupMetadata(attributes=dict(attributes or {}), zarr_format=wishes.zarr_format or 3)
    return Contents(file.url, None, "", parts, groups, reading=Reading(file.store, file.key))
