"""TIFF files, and folders of them, as arrays to copy. tifffile reads them, by tiles, strips or pages."""

from __future__ import annotations

import enum
import logging
import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from zarrdock.codecs.codec import AnyArray
from zarrdock.copying.blocks import Region
from zarrdock.errors import CodecError, MetadataError, UnsupportedError, ZarrdockError
from zarrdock.stores.base import Store
from zarrdock.stores.local import LocalStore
from zarrdock.views.store_file import StoreFile

__all__ = ["Image", "TiffArray", "open_tiff", "open_tiff_folder"]

# Where the pixels lie and how they are stored: nothing of it is true of a copy.
_STRUCTURE = {
    "StripOffsets", "StripByteCounts", "RowsPerStrip", "TileOffsets", "TileByteCounts", "TileWidth", "TileLength",
    "TileDepth", "FreeOffsets", "FreeByteCounts", "ImageWidth", "ImageLength", "ImageDepth", "BitsPerSample",
    "SamplesPerPixel", "SampleFormat", "Compression", "Predictor", "PlanarConfiguration", "FillOrder", "JPEGTables",
    "SubIFDs", "ExtraSamples", "NewSubfileType", "SubfileType",
}  # fmt: skip
_MAX_TEXT = 2**16


@dataclass(frozen=True, slots=True)
class TiffArray:
    """One series of pages, or one level of its pyramid.

    Attributes:
        shape, dtype: of the array. grain: shape of the smallest part that is decoded as a whole.
        dimension_names: those of tifffile's axes, such as "t", "c", "y", "x".
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    grain: tuple[int, ...]
    dimension_names: tuple[str, ...]
    _array: Any = field(repr=False)

    def read(self, region: Region, out: AnyArray) -> None:
        """See :class:`zarrdock.copying.sources.Source`."""
        try:
            out[...] = self._array[region]
        except ZarrdockError:
            raise
        except Exception as error:  # of any decoder
            raise CodecError(f"tifffile cannot decode it: {error}", codec="tiff") from error


@dataclass(frozen=True, slots=True)
class Image:
    """Arrays of a file, by path ("" where there is but one), what it says of them, and what of that is left out."""

    arrays: Mapping[str, TiffArray]
    attributes: Mapping[str, Any]
    left_out: tuple[str, ...] = ()


def open_tiff(store: Store, key: str) -> Image:
    """A TIFF file: a series of pages is an array, levels of a pyramid are arrays "0", "1", ...; where there are several
    series, each is a group of that number, or an array.

    Raises:
        MetadataError: it is damaged. UnsupportedError: tifffile is missing.
    """
    with _damage_named(store, key) as said:
        file = _opened_file(store, key, said)
        series = list(file.series)
        arrays: dict[str, TiffArray] = {}
        for number, one in enumerate(series):
            above = f"{number}" if len(series) > 1 else ""
            levels = list(one.levels)
            for depth, level in enumerate(levels):
                path = "/".join(part for part in (above, f"{depth}" if len(levels) > 1 else "") if part)
                pages = one.aszarr(level=depth)
                arrays[path] = _array(pages, level.axes)
                if file.filehandle.is_file:
                    pages.close()
                    elsewhere = _SeveralFiles(Path(file.filehandle.path), number, depth)
                    arrays[path] = replace(arrays[path], _array=elsewhere)
        tags, left_out = _tags(file)
        if file.filehandle.is_file:
            file.close()
    return Image(arrays, {"tiff": tags}, (*left_out, *said))


def open_tiff_folder(store: Store, keys: Sequence[str]) -> Image:
    """A folder of TIFF files of one shape: an array with the files, in the order of the numbers in their names, along a
    first axis.

    Raises:
        UnsupportedError: they differ in shape or data type; tifffile is missing. MetadataError: one is damaged.
    """
    tifffile = _tifffile()
    keys = tifffile.natural_sorted(keys)

    def look(key: str) -> tuple[Any, ...]:
        with _opened(store, key) as file:
            one = file.series[0]
            return tuple(one.shape), one.dtype, len(file.series), one.axes

    with ThreadPoolExecutor(16 if store.traits.remote else 1, "zarrdock-tiff") as pool:
        found = list(pool.map(look, keys))
    shape, dtype, n_series, axes = found[0]
    for key, other in zip(keys, found, strict=True):
        if other != found[0]:
            raise UnsupportedError(
                f"{key!r} in {store}: {other[0]} {other[1]} in {other[2]} series, where the files before have {shape} "
                f"{dtype} in {n_series}: only files that are alike make one array; copy them one by one"
            )
    with _opened(store, keys[0]) as file:
        tags, left_out = _tags(file)
    tags["files"] = [key.rpartition("/")[2] for key in keys]
    stack = TiffArray((len(keys), *shape), np.dtype(dtype), (1, *shape), _names(f"I{axes}"), _Stack(store, tuple(keys)))
    return Image({"": stack}, {"tiff": tags}, left_out)


@dataclass(frozen=True, slots=True)
class _Stack:
    """The files of a folder behind one another; each is decoded as a whole."""

    store: Store
    keys: tuple[str, ...]

    def __getitem__(self, region: Region) -> AnyArray:
        files, *inside = region
        return np.stack([self._read(key)[tuple(inside)] for key in self.keys[files]])

    def _read(self, key: str) -> AnyArray:
        with _opened(self.store, key) as file:
            read: AnyArray = file.series[0].asarray()
            return read


@contextmanager
def _opened(store: Store, key: str) -> Iterator[Any]:
    with _damage_named(store, key) as said, _opened_file(store, key, said) as file:
        yield file


def _opened_file(store: Store, key: str, said: list[str]) -> Any:
    """The file, with its series known. Where an image lies in several local files, the other ones are looked for."""
    opener = _tifffile().TiffFile
    file = opener(StoreFile(store, key))
    _ = file.series
    if isinstance(store, LocalStore) and any(_ELSEWHERE in text for text in said):
        said.clear()
        file = opener(Path(store.root) / key)
        _ = file.series
    return file


@dataclass(frozen=True, slots=True)
class _SeveralFiles:
    """A level of a series of pages that lie in several files, which are open while they are read."""

    path: Path
    series: int
    level: int

    def __getitem__(self, region: Region) -> AnyArray:
        import zarr

        with _tifffile().TiffFile(self.path) as file, file.series[self.series].aszarr(level=self.level) as store:
            array: Any = zarr.open_array(store, mode="r")
            return np.asarray(array[region])


# Of tifffile's words: with these the pixels of a copy would be others, or fewer.
_ELSEWHERE = "failed to read"
_FATAL = (_ELSEWHERE, "invalid page offset")


@contextmanager
def _damage_named(store: Store, key: str) -> Iterator[list[str]]:
    """Errors of tifffile as ours. It only logs that a file is cut short, or that parts of an image are not there: the
    list has what it says of that, as far as it is no reason to stop.
    """
    said: list[str] = []
    thread = threading.get_ident()

    def note(record: logging.LogRecord) -> bool:
        if record.thread != thread:
            return True
        text = re.sub(r"^<[^>]*> ", "", record.getMessage())
        if record.levelno >= logging.ERROR or "series" in text or "missing" in text:
            said.append(text)
            return False
        return True

    logger = logging.getLogger("tifffile")
    logger.addFilter(note)
    try:
        yield said
    except ZarrdockError:
        raise
    except Exception as error:  # whatever a parser of damaged files may raise
        raise MetadataError(f"{key!r} in {store} is no TIFF file that tifffile can read: {error}") from error
    finally:
        logger.removeFilter(note)
    for text in said:
        if any(words in text for words in _FATAL):
            raise MetadataError(f"{key!r} in {store} is cut short, or lacks other files of its image: {text}")


def _array(store: Any, axes: str) -> TiffArray:
    import zarr

    array: Any = zarr.open_array(store, mode="r")
    return TiffArray(tuple(array.shape), np.dtype(array.dtype), tuple(array.chunks), _names(axes), array)


def _names(axes: str) -> tuple[str, ...]:
    names = tuple({"S": "s", "I": "i", "Q": "q"}.get(axis, axis.lower()) for axis in axes)
    if len(set(names)) < len(names):
        names = tuple(f"{name}{i}" for i, name in enumerate(names))
    return names


def _tags(file: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The tags of the first page that say something of the image, as JSON has them, and what is left out of them."""
    found: dict[str, Any] = {"axes": [series.axes for series in file.series]}
    left_out: list[str] = []
    for tag in file.pages[0].tags:
        if tag.name in _STRUCTURE:
            continue
        try:
            found[tag.name] = _json(tag.value)
        except (TypeError, ValueError) as error:
            left_out.append(f"tag {tag.name} ({error})")
    return found, tuple(left_out)


def _json(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) > _MAX_TEXT:
            raise ValueError(f"text of {len(value)} characters")
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, tuple | list):
        return [_json(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _json(part) for name, part in value.items()}
    raise TypeError(f"{type(value).__name__}, which JSON has no form for")


def _tifffile() -> Any:
    try:
        import tifffile
        import zarr  # noqa: F401
    except ImportError as error:
        raise UnsupportedError(f'TIFF files need tifffile and zarr: pip install "zarrdock[tiff]" ({error})') from error
    return tifffile
