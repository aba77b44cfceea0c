"""Parts of ``copy`` and ``pyramid`` that are the same: workers, a bar, counts at the end, and what is left out."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from zarrdock.cli.output import progress_bar, size_text
from zarrdock.copying import CopyProgress, IncompleteCopyWarning
from zarrdock.copying.parallel import Workers
from zarrdock.facts import count

__all__ = ["CopyJob", "copy_job", "options_of"]


class CopyJob:
    """A copy on its way.

    Attributes:
        workers: of the dask cluster, where one was named.
    """

    def __init__(self, bar: Any, title: str, words: str, workers: Workers | None) -> None:
        self.workers = workers
        self._bar, self._words = bar, words
        self._task = bar.add_task(title, total=None)
        self._last = CopyProgress()
        self._started = time.perf_counter()

    def progress(self, now: CopyProgress) -> None:
        """Take note, and move the bar."""
        self._last = now
        words = self._words.format(now.path)
        self._bar.update(self._task, description=words, completed=now.nbytes, total=now.nbytes_total)

    def facts(self) -> dict[str, Any]:
        """Counts, as JSON has them."""
        last = self._last
        return {
            "nbytes": last.nbytes_total,
            "n_objects": last.n_objects,
            "nbytes_written": last.nbytes_written,
            "n_kept": last.n_kept,
            "n_files": last.n_files,
            "left_out": list(last.left_out),
            "seconds": round(time.perf_counter() - self._started, 3),
        }

    def summary(self) -> str:
        """Counts in words."""
        last = self._last
        kept = f", {count(last.n_kept, 'object')} kept from an earlier attempt" if last.n_kept else ""
        files = f", {count(last.n_files, 'other file')}" if last.n_files else ""
        return (
            f"{size_text(last.nbytes_total)} into {count(last.n_objects, 'object')} of "
            f"{size_text(last.nbytes_written)} altogether{files}{kept}, {time.perf_counter() - self._started:.1f} s"
        )

    def status(self) -> int:
        """Name what the copy lacks of its source. The exit status."""
        for line in self._last.left_out:
            print(f"not copied: {line}", file=sys.stderr)
        return 3 if self._last.left_out else 0


@contextmanager
def copy_job(title: str, words: str, *, dask: str | None, quiet: bool) -> Iterator[CopyJob]:
    """A job with its workers and its bar.

    Args:
        title: of the bar at first. words: later, with the path in place of ``{}``.
        dask: address of a scheduler.
    """
    with _workers(dask) as workers, progress_bar(quiet=quiet, unit_bytes=True) as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore", IncompleteCopyWarning)  # status() names each part
        yield CopyJob(bar, title, words, workers)


def _workers(address: str | None) -> AbstractContextManager[Workers | None]:
    if address is None:
        return nullcontext()
    from zarrdock.adapters.dask_workers import DaskWorkers

    return DaskWorkers(address)


def options_of(url: str, both: dict[str, Any], own: dict[str, Any]) -> dict[str, Any] | None:
    """Options of the file system behind one of two URLs."""
    is_local = ("://" not in url and "::" not in url) or url.lower().startswith(("file:", "local://"))
    return {**({} if is_local else both), **own} or None
