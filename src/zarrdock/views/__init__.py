"""Views: the same data shown in another form, read-only, to readers that need it so. No chunk is decoded or copied."""

from zarrdock.views.formats import as_v2, as_v3
from zarrdock.views.references import references
from zarrdock.views.unsharded import unshard

__all__ = ["as_v2", "as_v3", "references", "unshard"]
