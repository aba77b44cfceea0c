"""Streams: frames that come one after another, written as whole shards (or chunks) in the background.

An object is written before the shape says that it is there, so that a kill leaves an array of whole frames. That is
safe beside other writers, who claim rows by the shape: objects beyond the shape are only made where none are, and the
shape only changes if it is still the one that was seen. Where one of these fails (another stream or an append came
first; a stream was killed and left an object), or the frames begin in the middle of an object, they go the way of
``append``: rows are claimed, then written. Objects of nothing but fill value are stored, too: where none is, another
stream, which has not seen the claim yet, could make its own.
"""

from __future__ import annotations

import os
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from zarrdock.array.coerce import shape_of
from zarrdock.array.execution import read_write
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.node_storage import load
from zarrdock.array.planning.selection import basic
from zarrdock.array.resize import with_length
from zarrdock.codecs.codec import AnyArray
from zarrdock.config import config
from zarrdock.errors import ConflictError, KeyExistsError, SelectionError, UnsupportedError

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from types import TracebackType

    from zarrdock.array.array import Array

__all__ = ["Stream"]

# Rows of objects that are collected where nobody knows how large an element is (text).
_N_UNKNOWN = 4


class _MovedError(ConflictError):
    """The array has another shape than it had."""


class Stream:
    """Frames on their way to the end of an array: the result of :meth:`zarrdock.Array.stream`.

    A context manager. At its end everything is written, also where it ends by an exception, as a file's buffer is. A
    kill loses the frames that were not flushed; the array has those that were, and nothing else.

    Where writing in the background fails, the next ``write``, ``flush`` or ``close`` raises the error, and so does
    every later one: ``flushed`` says how many frames are in the array, :meth:`unflushed` gives the others.

    Several streams, and ``append``, may grow one array at once: each flush has rows of its own, see :attr:`rows`.
    Threads may share a stream; the frames of one call stay together.

    Attributes:
        written: frames that were taken. flushed: those of them that are stored, with the shape that says so.

    >>> array = zarrdock.create_array({}, shape=(0, 2), dtype="int16", chunks=(4, 2))
    >>> with array.stream() as out:
    ...     out.write([1, 2])  # one frame
    ...     out.write([[3, 4]] * 6)  # several
    ...     out.flush()
    ...     print(out.written, out.flushed, array.shape)
    7 7 (7, 2)
    """

    def __init__(self, array: Array, axis: int, memory_bytes: int | None) -> None:
        array._check_writable()
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) or not -array.ndim <= axis < array.ndim:
            raise SelectionError(f"axis={axis!r}: the array has {array.ndim} dimensions")
        store, layout = array.store, array._layout
        if not (store.traits.atomic_update or layout.options.single_writer):
            raise UnsupportedError(
                f"{store} has no atomic update, which the shape needs: options=WriteOptions(single_writer=True) says "
                "that no other process writes to the array"
            )
        array.refresh()
        self._array, self._axis, self._pid = array, int(axis) % array.ndim, os.getpid()
        self._unit = max(1, array.metadata.grid.largest[self._axis])
        slab_nbytes = max(1, array.dtype.itemsize * int(np.prod(with_length(array.shape, self._axis, self._unit))))
        if memory_bytes is not None and memory_bytes < 2 * slab_nbytes:
            raise UnsupportedError(
                f"memory_bytes={memory_bytes}: {2 * slab_nbytes} at least are needed, for twice {self._unit} frames: "
                "some are collected while others are written"
            )
        n_slabs = max(2, (config.write_bytes if memory_bytes is None else memory_bytes) // slab_nbytes)
        self._capacity = self._unit * (min(n_slabs, _N_UNKNOWN) if array.dtype.hasobject else n_slabs)
        self._buffer = np.empty(with_length(array.shape, self._axis, self._capacity), array.dtype)
        self.written = self.flushed = 0
        self._first = self._begin()  # where in the buffer the first frame is that was not flushed
        self._goal = 0  # frames that a flush waits for
        self._rows: list[tuple[int, int]] = []
        self._error: BaseException | None = None
        self._is_closed = self._is_busy = False
        self._pool: Executor | None = None
        self._changed = threading.Condition()
        self._whole_call = threading.Lock()

    def __reduce__(self) -> Any:
        raise UnsupportedError("a stream belongs to its process: send the array, and open a stream there")

    def __repr__(self) -> str:
        return f"<zarrdock.Stream to {self._array.name!r}: {self.written} frames written, {self.flushed} flushed>"

    @property
    def rows(self) -> tuple[range, ...]:
        """The rows of the array, along the axis, that the flushed frames are, in their order: several ranges where
        others appended in between.
        """
        return tuple(range(start, stop) for start, stop in self._rows)

    # -- the side of the caller ---------------------------------------------------------------------------------------

    def write(self, frames: Any) -> None:
        """Take one frame (of the array's shape without the axis) or several along the axis; waits where memory is full.
        The values are copied.

        Raises:
            SelectionError: they do not fit, and none was taken. UnsupportedError: the stream is closed, or another
                process's. StoreError, CodecError: frames before these could not be written, and ``written`` says
                whether some of these were taken.
        """
        array, axis = self._array, self._axis
        given = shape_of(frames, array.metadata.data_type)
        shape = (*given[:axis], 1, *given[axis:]) if len(given) == array.ndim - 1 else given
        if len(shape) != array.ndim or shape != with_length(self._buffer.shape, axis, shape[axis]):
            frame = array.shape[:axis] + array.shape[axis + 1 :]
            raise SelectionError(
                f"frames have the shape {frame}, several of them {array.ndim} dimensions; given was {given}"
            )
        value = array._value(given, frames).reshape(shape)
        with self._whole_call:
            start = 0
            while start < shape[axis]:
                with self._changed:
                    self._check(is_write=True)
                    self._changed.wait_for(self._has_room)
                    self._check(is_write=True)
                    n_kept = self.written - self.flushed
                    place = (self._first + n_kept) % self._capacity
                    n = min(shape[axis] - start, self._capacity - max(n_kept, place))
                    self._buffer[self._along(place, place + n)] = value[self._along(start, start + n)]
                    self.written += n
                    start += n
                    self._work()

    async def write_async(self, frames: Any) -> None:
        """:meth:`write` as a coroutine: it waits in a thread.

        >>> import asyncio
        >>> async def acquire(array):
        ...     async with array.stream() as out:
        ...         await out.write_async([1, 2, 3])
        >>> array = zarrdock.create_array({}, shape=(0, 3), dtype="int16")
        >>> asyncio.run(acquire(array))
        >>> array[...].tolist()
        [[1, 2, 3]]
        """
        import asyncio

        await asyncio.to_thread(self.write, frames)

    def flush(self) -> None:
        """Write everything that was taken, and wait for it. A shard that is not full yet is written all the same, and
        again when it is: flush where frames must not wait.

        Raises:
            StoreError, CodecError: something could not be written, now or before.
        """
        with self._changed:
            self._check(is_write=False)
            goal = self._goal = max(self._goal, self.written)
            self._work()
            self._changed.wait_for(lambda: self.flushed >= goal or self._error is not None)
            if self.flushed < goal:
                self._check(is_write=False)

    def close(self) -> None:
        """Flush, and take no more frames.

        Raises:
            StoreError, CodecError: as :meth:`flush`.
        """
        with self._changed:
            self._is_closed = True
        try:
            self.flush()
        finally:
            if self._pool is not None and self._pid == os.getpid():
                self._pool.shutdown(wait=False)

    def unflushed(self) -> AnyArray:
        """The frames that were taken and are not in the array: after an error, those to write elsewhere."""
        with self._changed:
            return self._collected(self.written - self.flushed).copy()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as again:
            if error is None:
                raise
            if again is not error:
                error.add_note(f"and the stream of {self._array.name!r} was not written to its end: {again}")

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *raised: Any) -> None:
        import asyncio

        await asyncio.to_thread(self.__exit__, *raised)

    def __del__(self) -> None:
        left = getattr(self, "written", 0) - getattr(self, "flushed", 0)
        if left and not self._is_closed and self._pid == os.getpid():
            warnings.warn(f"{self!r} was not closed: {left} frames are lost", ResourceWarning, stacklevel=2)

    def _check(self, *, is_write: bool) -> None:
        if self._pid != os.getpid():
            raise UnsupportedError("the stream is another process's: open one of your own")
        if self._error is not None:
            raise self._error
        if is_write and self._is_closed:
            raise UnsupportedError("the stream is closed")

    def _has_room(self) -> bool:
        return self.written - self.flushed < self._capacity or self._error is not None or self._is_closed

    def _along(self, start: int, stop: int) -> tuple[slice, ...]:
        return (*(slice(None),) * self._axis, slice(start, stop))

    # -- in the background --------------------------------------------------------------------------------------------

    def _begin(self) -> int:
        # Objects of a regular grid lie in the buffer in one piece.
        is_regular = self._array._layout.irregular is None
        return self._array.shape[self._axis] % self._unit if is_regular else 0

    def _work(self) -> None:
        """Have something done in the background, if there is something to do. Called under the lock."""
        if self._is_busy or self._error is not None or not self._n_ready():
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1, "zarrdock-stream")
        self._is_busy = True
        self._pool.submit(self._drain)

    def _drain(self) -> None:
        while True:
            with self._changed:
                n = self._n_ready()
                if not n:
                    self._is_busy = False
                    return
                frames = self._collected(n)
            try:
                start = self._store(frames)
            except BaseException as error:
                with self._changed:
                    error.add_note(
                        f"{self.written - self.flushed} frames of a stream, from frame {self.flushed} on, are not in "
                        f"the array {self._array.name!r}: Stream.unflushed() gives them"
                    )
                    self._error, self._is_busy = error, False
                    self._changed.notify_all()
                return
            with self._changed:
                stop = start + n
                if self._rows and self._rows[-1][1] == start:
                    start = self._rows.pop()[0]
                self._rows.append((start, stop))
                self.flushed += n
                self._first = (self._first + n) % self._capacity
                if self.flushed == self.written:
                    self._first = self._begin()
                self._changed.notify_all()

    def _n_ready(self) -> int:
        """Frames that can be written now: whole objects, and not so many that no others can be collected meanwhile; the
        rest only where a flush waits for them.
        """
        begin = self._begin()
        # What fills up an object that is there already goes by itself.
        most = self._unit - begin if begin else self._capacity // self._unit // 2 * self._unit
        n = min(self.written - self.flushed, most)
        whole = (begin + n) // self._unit * self._unit - begin
        return whole if whole > 0 else n if self.flushed < self._goal else 0

    def _collected(self, n: int) -> AnyArray:
        """The first frames that were not flushed."""
        end = self._first + n
        if end <= self._capacity:
            return self._buffer[self._along(self._first, end)]
        parts = self._along(self._first, self._capacity), self._along(0, end - self._capacity)
        return np.concatenate([self._buffer[part] for part in parts], axis=self._axis)

    def _store(self, frames: AnyArray) -> int:
        """Write frames to the end of the array, and return the row of the first."""
        array, axis = self._array, self._axis
        n: int = frames.shape[axis]
        before = array.metadata
        start = before.shape[axis]

        def grown(stored: ArrayMetadata) -> ArrayMetadata:
            if stored.shape != before.shape:
                raise _MovedError("another writer has changed the shape", key=array.path, store=array.store)
            return stored.resized(with_length(stored.shape, axis, start + n))

        layout = array._adopt(grown(before), 0)  # the layout to come: the number keeps it from being taken over
        if start and layout.end_of(axis, start - 1) != start:
            return array._append(frames, axis, store_empty=True)[axis] - n
        rows = basic(self._along(start, start + n), layout.shape)
        try:
            stored = load(array.store, array.path, "array", 2 if array.zarr_format == 2 else 3)
            array._check_same(stored)
            assert isinstance(stored, ArrayMetadata)
            grown(stored)
            read_write.write(array.store, layout, rows, frames, array._cache, create_only=True)
            array._update(grown, attributes=False)
        except (KeyExistsError, _MovedError):
            return array._append(frames, axis, store_empty=True)[axis] - n
        return start
