"""Copying arrays and hierarchies: from any store, or a ``.npy`` file, to any store, chunked and sharded as asked for.

``copy_.py`` is the function users call; ``copy_plan.py`` lists the nodes to copy, ``target_metadata.py`` makes the
metadata of the copy, ``blocks.py`` divides an array into parts, ``transfer.py`` copies them, ``copy_objects.py`` does
so without decoding, ``progress.py`` marks an unfinished copy.
"""

from zarrdock.copying.copy_ import copy
from zarrdock.copying.progress import CopyProgress, IncompleteCopyWarning

__all__ = ["CopyProgress", "IncompleteCopyWarning", "copy"]
