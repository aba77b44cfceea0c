"""zarrdock for other readers: zarr-python, xarray, dask, fsspec, obspec, mappings.

The modules :mod:`~zarrdock.adapters.zarr_python`, :mod:`~zarrdock.adapters.xarray` and
:mod:`~zarrdock.adapters.fsspec` are named in the settings and entry points of these libraries. A library is imported
when a name that needs it is first used.
"""

from typing import TYPE_CHECKING

from zarrdock.lazy_imports import lazy

if TYPE_CHECKING:
    from zarrdock.adapters import fsspec, xarray, zarr_python
    from zarrdock.adapters.dask import from_dask, to_dask
    from zarrdock.adapters.dask_workers import DaskWorkers
    from zarrdock.adapters.fsspec import ZarrdockFileSystem
    from zarrdock.adapters.mutable_mapping import as_mapping
    from zarrdock.adapters.obspec import as_obspec
    from zarrdock.adapters.zarr_python import CodecPipeline, ForeignStore, ZarrStore

# Public name -> the module it comes from.
_PLACES = {
    "CodecPipeline": "adapters.zarr_python",
    "DaskWorkers": "adapters.dask_workers",
    "ForeignStore": "adapters.zarr_python",
    "ZarrStore": "adapters.zarr_python",
    "ZarrdockFileSystem": "adapters.fsspec",
    "as_mapping": "adapters.mutable_mapping",
    "as_obspec": "adapters.obspec",
    "from_dask": "adapters.dask",
    "to_dask": "adapters.dask",
}

_MODULES = ("fsspec", "xarray", "zarr_python")

__all__ = [
    "CodecPipeline",
    "DaskWorkers",
    "ForeignStore",
    "ZarrStore",
    "ZarrdockFileSystem",
    "as_mapping",
    "as_obspec",
    "from_dask",
    "fsspec",
    "to_dask",
    "xarray",
    "zarr_python",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy(__name__, _PLACES, __all__, _MODULES, {"zarr": "zarr", "xarray": "xarray"})
