"""Views: the same data shown in another form, read-only, to readers that need it so. Chunks are handed out as the bytes
they are; decoding has to be asked for.
"""

from zarrdock.views.formats import as_v2, as_v3
from zarrdock.views.hdf5_view import hdf5
from zarrdock.views.references import references
from zarrdock.views.regular import regular
from zarrdock.views.unsharded import unshard

__all__ = ["as_v2", "as_v3", "hdf5", "references", "regular", "unshard"]


def __dir__() -> list[str]:
    return sorted(__all__)
