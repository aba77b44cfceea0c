"""Copying arrays and hierarchies: from any store, or a ``.npy`` file, to any store, chunked and sharded as asked for.

``copy_.py`` is the function users call; ``plan.py`` says what will be copied and ``retarget.py`` what the copy's
metadata is, ``blocks.py`` in which parts an array is copied, ``transfer.py`` does it, ``raw.py`` does it without
decoding, ``state.py`` remembers what is unfinished.
"""

from zarrdock.copying.copy_ import copy
from zarrdock.copying.progress import CopyProgress, IncompleteCopyWarning

__all__ = ["CopyProgress", "IncompleteCopyWarning", "copy"]
