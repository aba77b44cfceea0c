"""Work on stored arrays: check, repair, lay out anew, compress later, predict costs, serve.

>>> store = zarrdock.MemoryStore()
>>> array = zarrdock.create_array(store, data=[1, 2, 3])
>>> zarrdock.tools.check(store).is_good
True
"""

from typing import TYPE_CHECKING

from zarrdock.lazy_imports import lazy

if TYPE_CHECKING:
    from zarrdock.array.recompress import Recompressed, recompress
    from zarrdock.checking import Problem, Report, check
    from zarrdock.layouts.predict import predict
    from zarrdock.layouts.relayout import Relaid, relayout
    from zarrdock.layouts.shard_stats import survey
    from zarrdock.repairing import Repair, repair
    from zarrdock.restoring import restore
    from zarrdock.serve.server import Server
    from zarrdock.stores.abilities import StoreReport, check_store

# Public name -> the module it comes from.
_PLACES = {
    "Problem": "checking",
    "Recompressed": "array.recompress",
    "Relaid": "layouts.relayout",
    "Repair": "repairing",
    "Report": "checking",
    "Server": "serve.server",
    "StoreReport": "stores.abilities",
    "check": "checking",
    "check_store": "stores.abilities",
    "predict": "layouts.predict",
    "recompress": "array.recompress",
    "relayout": "layouts.relayout",
    "repair": "repairing",
    "restore": "restoring",
    "survey": "layouts.shard_stats",
}

__all__ = [
    "Problem",
    "Recompressed",
    "Relaid",
    "Repair",
    "Report",
    "Server",
    "StoreReport",
    "check",
    "check_store",
    "predict",
    "recompress",
    "relayout",
    "repair",
    "restore",
    "survey",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy(__name__, _PLACES, __all__)
