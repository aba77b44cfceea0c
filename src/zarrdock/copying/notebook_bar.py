"""Progress of a copy under the cell of a notebook. A terminal has the command line's bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from html import escape
from typing import Any

from zarrdock.copying.progress import CopyProgress
from zarrdock.facts import size_text

__all__ = ["notebook_bar"]

# A copy that is done sooner shows nothing.
_WAIT_SECONDS = 1.0
_PAUSE_SECONDS = 0.2


def notebook_bar() -> Callable[[CopyProgress], None] | None:
    """A function that shows the progress it is called with, where this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return _Bar() if hasattr(shell, "kernel") else None


class _Bar:
    def __init__(self) -> None:
        self._due = time.monotonic() + _WAIT_SECONDS
        self._shown: Any = None

    def __call__(self, progress: CopyProgress) -> None:
        is_done = progress.nbytes >= progress.nbytes_total
        if time.monotonic() < self._due and not (is_done and self._shown is not None):
            return
        self._due = time.monotonic() + _PAUSE_SECONDS
        from IPython import display

        shown: Any = display  # without types in some of its releases
        html = shown.HTML(_html(progress))
        if self._shown is None:
            self._shown = shown.display(html, display_id=True)
        else:
            self._shown.update(html)


def _html(progress: CopyProgress) -> str:
    words = f"{size_text(progress.nbytes)} of {size_text(progress.nbytes_total)}"
    of = f", {escape(progress.path)}" if progress.path else ""
    return f"<progress value={progress.nbytes} max={max(progress.nbytes_total, 1)}></progress> {words} copied{of}"
