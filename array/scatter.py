"""Decoding leaf chunks and putting them where the result wants them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.layout import Layout
from zarrdock.array.pieces import Leaves, Task
from zarrdock.array.pool import Jobs
from zarrdock.codecs.base import AnyArray, Buffer
from zarrdock.config import config
from zarrdock.errors import CodecError

__all__ = ["Scatter"]

IntArray: TypeAlias = npt.NDArray[np.int64]


class Scatter:
    """A sink that decodes into ``out``: small work at once in the calling thread, larger work as jobs.

    Args:
        out: the result, every axis kept, axes that are read backwards already turned round; or one axis for points.
        is_zero: ``out`` holds zeros already, which need not be written where that is the fill value.
    """

    def __init__(self, layout: Layout, out: AnyArray, *, is_zero: bool, max_weight: int) -> None:
        self._layout = layout
        self._out = out
        self._skip_fill = is_zero and layout.fill_is_zero
        self._leaf_nbytes = max(1, layout.leaf.spec.nbytes)
        self._per_job = max(1, config.job_bytes // self._leaf_nbytes)
        self._small = config.inline_bytes
        self._jobs: Jobs | None = None
        self._max_weight = max_weight
        self._pending: tuple[Callable[..., None], tuple[Any, ...], int] | None = None
        # A cancelled coroutine can't stop the thread that hands over what came; closing this gate can.
        self._gate = threading.Lock()
        self._abandoned = False

    def data(
        self, task: Task, leaves: Leaves, numbers: IntArray, buffer: Buffer, offsets: IntArray, lengths: IntArray
    ) -> None:
        """Take encoded leaves; see :class:`zarrdock.array.steps.Sink`."""
        with self._gate:
            if not self._abandoned:
                self._take(task, leaves, numbers, buffer, offsets, lengths)

    def _take(
        self, task: Task, leaves: Leaves, numbers: IntArray, buffer: Buffer, offsets: IntArray, lengths: IntArray
    ) -> None:
        n = len(numbers)
        if n <= self._per_job and self._jobs is None and self._pending is None:
            # Perhaps all there is: kept back until more comes, so that a small read never touches another thread.
            self._pending = (self._decode, (task, leaves, numbers, buffer, offsets, lengths), n * self._leaf_nbytes)
            return
        for first in range(0, n, self._per_job):
            part = slice(first, first + self._per_job)
            self._submit(task, leaves, numbers[part], buffer, offsets[part], lengths[part])

    def fill(self, task: Task, leaves: Leaves, numbers: IntArray | None) -> None:
        """Take leaves that hold only fill value."""
        with self._gate:
            if not self._abandoned and not self._skip_fill:
                self._fill(leaves, numbers)

    def _fill(self, leaves: Leaves, numbers: IntArray | None) -> None:
        value = self._layout.fill_value
        if numbers is None and (region := leaves.region()) is not None:
            self._out[region] = value
            return
        for _, outer in leaves.indices(np.arange(len(leaves.flat)) if numbers is None else numbers):
            self._out[outer] = value

    def barrier(self) -> None:
        """Finish what was taken. What comes after may be the same leaves again, from another version of the object:
        the places of what is fill value now may hold data of the first attempt.
        """
        with self._gate:
            if not self._abandoned:
                self._finish()
                self._skip_fill = False

    def _finish(self) -> None:
        if self._jobs is None:
            if self._pending is not None:
                function, arguments, _ = self._pending
                self._pending = None
                function(*arguments)
            return
        self._jobs.finish()

    def abandon(self) -> None:
        """Stop: nothing is written to ``out`` any more once this returns."""
        self._abandoned = True  # what holds the gate now ends at its next job
        if self._jobs is not None:
            self._jobs.abandon()
        with self._gate:
            self._pending = None
            if self._jobs is not None:
                self._jobs.abandon()

    def _submit(
        self, task: Task, leaves: Leaves, numbers: IntArray, buffer: Buffer, offsets: IntArray, lengths: IntArray
    ) -> None:
        jobs = self._jobs
        if jobs is None:
            if self._pending is not None and self._pending[2] + len(numbers) * self._leaf_nbytes < self._small:
                self._finish()
                self._pending = (
                    self._decode,
                    (task, leaves, numbers, buffer, offsets, lengths),
                    self._leaf_nbytes * len(numbers),
                )
                return
            jobs = self._jobs = Jobs(self._max_weight)
            if self._pending is not None:
                function, arguments, _ = self._pending
                self._pending = None
                jobs.add(lambda: function(*arguments), 0)
        weight = int(lengths.sum())
        jobs.add(lambda: self._decode(task, leaves, numbers, buffer, offsets, lengths), weight)

    def _decode(
        self, task: Task, leaves: Leaves, numbers: IntArray, buffer: Buffer, offsets: IntArray, lengths: IntArray
    ) -> None:
        decode, out = self._layout.leaf.decode, self._out
        view = memoryview(buffer)
        number = 0
        try:
            for number, start, length, (inner, outer) in zip(  # noqa: B007 - the error says it
                numbers.tolist(), offsets.tolist(), lengths.tolist(), leaves.indices(numbers), strict=True
            ):
                out[outer] = decode(view[start : start + length])[inner]
        except CodecError as error:
            raise error.at(key=task.key, chunk=self._chunk(leaves, number)) from error

    def _chunk(self, leaves: Leaves, number: int) -> tuple[int, ...] | None:
        """Coordinates of a leaf within its innermost shard; None for a chunk that is an object of its own, which the
        key already names.
        """
        if not self._layout.levels:
            return None
        return self._layout.levels[-1].sharding.coords(int(leaves.flat[number]))
