"""Files of netCDF's classic formats (CDF-1, CDF-2, CDF-5) as arrays to copy. netCDF4 reads them.

netCDF4 opens a file of the local disk by its name, and any other from memory: such a file is read as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zarrdock.codecs.codec import AnyArray
from zarrdock.copying.blocks import Region
from zarrdock.errors import MetadataError, NodeNotFoundError, UnsupportedError
from zarrdock.stores.base import Store
from zarrdock.stores.local import LocalStore
from zarrdock.views.netcdf import attributes_of

__all__ = ["ClassicFile", "ClassicVariable", "open_netcdf3"]

# The library is not safe for threads, whatever the file.
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class ClassicVariable:
    """One variable.

    Attributes:
        shape, dtype: of the array, in the byte order of the machine. grain: shape of the smallest part worth reading.
        dimension_names: those of its dimensions. attributes: as xarray writes them to Zarr.
        fill_value: the ``_FillValue``; None if it has none.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    grain: tuple[int, ...]
    dimension_names: tuple[str, ...]
    attributes: Mapping[str, Any]
    fill_value: Any
    _variable: Any = field(repr=False)

    def read(self, region: Region, out: AnyArray) -> None:
        """See :class:`zarrdock.copying.sources.Source`."""
        try:
            with _lock:
                out[...] = self._variable[region or ...]
        except (OSError, RuntimeError, IndexError, ValueError) as error:
            raise MetadataError(f"netCDF4 cannot read the variable {self._variable.name!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class ClassicFile:
    """The variables of a file by name, its attributes, and what of them is left out."""

    variables: Mapping[str, ClassicVariable]
    attributes: Mapping[str, Any]
    left_out: tuple[str, ...]


def open_netcdf3(store: Store, key: str) -> ClassicFile:
    """Open a file.

    Raises:
        MetadataError: it is damaged. NodeNotFoundError: there is none. UnsupportedError: netCDF4 is missing.
    """
    try:
        import netCDF4
    except ImportError as error:
        raise UnsupportedError(
            f'netCDF files of the classic formats need netCDF4: pip install "zarrdock[netcdf]" ({error})'
        ) from error
    memory: Any = None
    path = key
    if isinstance(store, LocalStore):
        path = str(Path(store.root, key))
    else:
        blob = store.get(key)
        if blob is None:
            raise NodeNotFoundError(f"there is no file {key!r} in {store}")
        memory = bytes(blob.data)
    left_out: list[str] = []
    try:
        with _lock:
            file = netCDF4.Dataset(path, "r", memory=memory)
            file.set_auto_maskandscale(False)
            file.set_auto_chartostring(False)
            attributes = _attributes(file, None, "", left_out)
            variables = {name: _variable(name, one, left_out) for name, one in file.variables.items()}
    except (OSError, RuntimeError, ValueError, AttributeError) as error:
        raise MetadataError(f"{key!r} in {store} is no netCDF file that netCDF4 can read: {error}") from error
    return ClassicFile(variables, attributes, tuple(left_out))


def _variable(name: str, variable: Any, left_out: list[str]) -> ClassicVariable:
    dtype = np.dtype(variable.dtype).newbyteorder("=")
    shape = tuple(int(n) for n in variable.shape)
    # Records of one step of the unlimited dimension lie together, and those of other variables between them.
    grain = (1, *shape[1:]) if shape else ()
    attributes = _attributes(variable, dtype, name, left_out)
    fill = getattr(variable, "_FillValue", None)
    return ClassicVariable(shape, dtype, grain, tuple(variable.dimensions), attributes, fill, variable)


@dataclass(frozen=True, slots=True)
class _Attributed:
    attrs: Mapping[str, Any]
    dtype: np.dtype[Any] | None


def _attributes(node: Any, dtype: np.dtype[Any] | None, name: str, left_out: list[str]) -> dict[str, Any]:
    found, lost = attributes_of(_Attributed({key: node.getncattr(key) for key in node.ncattrs()}, dtype))
    left_out += [f"attribute {key!r} of {name or 'the file'}" for key in lost]
    return found
