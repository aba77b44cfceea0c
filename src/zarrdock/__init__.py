"""zarrdock: an fsspec-native storage and store-adapter suite for Zarr."""

__version__ = "0.1.0.dev0"
