"""zarrdock for zarr-python: :class:`ZarrStore`, a store for it; :class:`CodecPipeline`, which reads and writes; and
:class:`ForeignStore`, a store for zarrdock over any of zarr-python's.

>>> zarr.config.set({"codec_pipeline.path": "zarrdock.adapters.zarr_python.CodecPipeline"})  # doctest: +SKIP
>>> zarr.open_array(ZarrStore("s3://bucket/a.zarr"))  # doctest: +SKIP
"""

from zarr.registry import register_pipeline

from zarrdock.adapters.foreign_store import ForeignStore
from zarrdock.adapters.zarr_pipeline import CodecPipeline, why
from zarrdock.adapters.zarr_store import ZarrStore

__all__ = ["CodecPipeline", "ForeignStore", "ZarrStore", "why"]

# zarr-python looks pipelines up by the name of their class, and users are told this module's.
CodecPipeline.__module__ = __name__
register_pipeline(CodecPipeline)
