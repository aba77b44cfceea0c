"""Lazy selections: parts of arrays that are named now and read later, alone or several together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from zarrdock.array.execution.read_plan import Plan
from zarrdock.array.execution.read_together import Begun, read_together, read_together_async
from zarrdock.array.planning.compose import Composed
from zarrdock.array.planning.selection import (
    Points,
    Product,
    basic,
    keeps_zero_dimensions,
    orthogonal,
    vectorised,
)
from zarrdock.array.properties import Shaped
from zarrdock.codecs.codec import AnyArray
from zarrdock.errors import SelectionError

__all__ = ["LazyIndex", "LazySelection", "read_many", "read_many_async"]


class _Source(Protocol):
    """The methods of an array that a selection of it needs."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def _begin(self, selection: Product | Points, out: AnyArray | None) -> Begun: ...

    def _check_out(self, selection: Product | Points, out: AnyArray | None) -> None: ...

    def _plan(self, selection: Product | Points) -> Plan: ...

    def _value(self, shape: tuple[int, ...], value: Any) -> AnyArray: ...

    def _write(self, selection: Product | Points, value: Any) -> None: ...


_Parse = Callable[[Any, tuple[int, ...]], "Product | Points"]


class _Reader:
    """``selection.oindex`` and ``selection.vindex``: read and write, with that meaning between the brackets."""

    def __init__(self, selection: LazySelection, parse: _Parse) -> None:
        self._selection = selection
        self._parse = parse

    def _inner(self, selection: Any) -> LazySelection:
        return self._selection._then(self._parse(selection, self._selection.shape))

    def __getitem__(self, selection: Any) -> Any:
        found = self._inner(selection).read()
        return found[()] if found.ndim == 0 else found

    def __setitem__(self, selection: Any, value: Any) -> None:
        self._inner(selection).write(value)


class LazyIndex:
    """``array.lazy``: what stands between the brackets makes a :class:`LazySelection`, and reads nothing.

    ``array.lazy.oindex`` and ``array.lazy.vindex`` do so for orthogonal and vectorised selections.
    """

    def __init__(self, selection: LazySelection, parse: _Parse = basic) -> None:
        self._selection = selection
        self._parse = parse

    def __getitem__(self, selection: Any) -> LazySelection:
        return self._selection._then(self._parse(selection, self._selection.shape))

    @property
    def oindex(self) -> LazyIndex:
        """Orthogonal selections: each axis has its own integers, slice, array or mask."""
        return LazyIndex(self._selection, orthogonal)

    @property
    def vindex(self) -> LazyIndex:
        """Vectorised selections: arrays of coordinates, broadcast against each other, or a mask."""
        return LazyIndex(self._selection, vectorised)


class LazySelection(Shaped):
    """A part of an array, of which nothing was read yet: what ``array.lazy[...]`` gives.

    It is indexed as an array is: ``selection[...]`` reads, ``selection.lazy[...]`` selects further and reads nothing.

    >>> array = zarrdock.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
    >>> part = array.lazy[1:].lazy[::-1, ::2]
    >>> part.shape
    (3, 3)
    >>> part[0].tolist()
    [18, 20, 22]
    >>> part.plan().n_requests
    4
    """

    def __init__(self, array: _Source, composed: Composed) -> None:
        self._array = array
        self._composed = composed

    def _then(self, selection: Product | Points) -> LazySelection:
        return LazySelection(self._array, self._composed.then(selection))

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements along each dimension."""
        return self._composed.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the elements."""
        return self._array.dtype

    def __repr__(self) -> str:
        return f"<zarrdock.LazySelection {self.shape} {self.dtype} of {self._array!r}>"

    # -- selecting further ---------------------------------------------------------------------------------------------

    @property
    def lazy(self) -> LazyIndex:
        """Selections of this one; nothing is read."""
        return LazyIndex(self)

    def __getitem__(self, selection: Any) -> Any:
        found = self._then(basic(selection, self.shape)).read()
        return found[()] if found.ndim == 0 and not keeps_zero_dimensions(selection) else found

    def __setitem__(self, selection: Any, value: Any) -> None:
        self._then(basic(selection, self.shape)).write(value)

    @property
    def oindex(self) -> _Reader:
        """Read orthogonal selections of this one."""
        return _Reader(self, orthogonal)

    @property
    def vindex(self) -> _Reader:
        """Read vectorised selections of this one."""
        return _Reader(self, vectorised)

    # -- reading and writing -------------------------------------------------------------------------------------------

    def _begin(self, out: AnyArray | None) -> Begun:
        selection, order = self._composed.selection(self._array.shape)
        if out is not None and isinstance(out, np.ndarray) and out.shape == self.shape:
            out = out.transpose(_inverse(order))
        elif out is not None:
            raise SelectionError(
                f"out: an array of shape {self.shape} is needed, not {getattr(out, 'shape', type(out).__name__)}"
            )
        self._array._check_out(selection, out)
        readings, finish = self._array._begin(selection, out)
        return readings, lambda: finish().transpose(order)

    def plan(self) -> Plan:
        """Predict the cost of reading it now; see :meth:`zarrdock.Array.plan`."""
        return self._array._plan(self._composed.selection(self._array.shape)[0])

    def read(self, out: AnyArray | None = None) -> AnyArray:
        """Read it, always into an array.

        Args:
            out: a writable array of its shape to read into; any dtype that numpy would cast the array's to without
                losing its kind.
        Returns:
            ``out``, or a new array.
        Raises:
            SelectionError: ``out`` does not fit, or the array was made smaller. CodecError, StoreError.
        """
        found = read_together([self._begin(out)])[0]
        return found if out is None else out

    async def read_async(self, out: AnyArray | None = None) -> AnyArray:
        """:meth:`read` as a coroutine, on any event loop."""
        found = (await read_together_async([self._begin(out)]))[0]
        return found if out is None else out

    def write(self, value: Any) -> None:
        """Write to it; ``value`` is broadcast. As for arrays, of elements that were selected twice one value counts.

        Raises:
            SelectionError: the value does not fit. ReadOnlyError.

        >>> array = zarrdock.create_array({}, shape=(2, 4), dtype="int16")
        >>> array.lazy[1].lazy[::-2].write([1, 2])
        >>> array[...].tolist()
        [[0, 0, 0, 0], [0, 2, 0, 1]]
        """
        selection, order = self._composed.selection(self._array.shape)
        value = np.broadcast_to(self._array._value(self.shape, value), self.shape)
        if not self._array.shape and self.size:  # one element, maybe selected several times
            self._array._write(basic((), ()), value.reshape(-1)[-1])
            return
        self._array._write(selection, value.transpose(_inverse(order)))

    async def write_async(self, value: Any) -> None:
        """:meth:`write` as a coroutine: the work is done in a thread."""
        import asyncio

        await asyncio.to_thread(self.write, value)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        if copy is False:
            raise ValueError("what is in a store cannot become a numpy array without a copy: leave copy=False out")
        array = self.read()
        return array if dtype is None else array.astype(dtype, copy=False)


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(i) for i in range(len(order)))


def _begun(selections: Sequence[Any], out: Sequence[AnyArray | None] | None) -> list[Begun]:
    outs = [None] * len(selections) if out is None else list(out)
    if len(outs) != len(selections):
        raise SelectionError(f"out: {len(outs)} arrays for {len(selections)} selections")
    found: list[Begun] = []
    for i, (one, target) in enumerate(zip(selections, outs, strict=True)):
        selection = one if isinstance(one, LazySelection) else one.lazy[...] if hasattr(one, "lazy") else None
        if not isinstance(selection, LazySelection):
            raise SelectionError(f"item {i}: a lazy selection or an array is needed, not {type(one).__name__}")
        found.append(selection._begin(target))
    return found


def read_many(selections: Sequence[Any], *, out: Sequence[AnyArray | None] | None = None) -> list[AnyArray]:
    """Read several selections, of one or several arrays and stores, as one.

    Those of one store object share their rounds of requests: all shard indexes are one, all data the next, and bytes
    that several ask for are read once. Different stores are read at the same time.

    Args:
        selections: lazy selections (``array.lazy[...]``), and arrays, which are read whole.
        out: arrays to read into, one each; None in it for a new one.
    Returns:
        Arrays in the order of ``selections``.
    Raises:
        SelectionError: an item is no selection, or its ``out`` does not fit. CodecError, StoreError.

    >>> group = zarrdock.create_group({})
    >>> a = group.create_array("a", data=np.arange(10))
    >>> b = group.create_array("b", data=np.eye(3))
    >>> [part.tolist() for part in zarrdock.read_many([a.lazy[2:4], b.lazy[0], a.lazy[::-5]])]
    [[2, 3], [1.0, 0.0, 0.0], [9, 4]]
    """
    found = read_together(_begun(selections, out))
    return found if out is None else [a if b is None else b for a, b in zip(found, out, strict=True)]


async def read_many_async(selections: Sequence[Any], *, out: Sequence[AnyArray | None] | None = None) -> list[AnyArray]:
    """:func:`read_many` as a coroutine, on any event loop.

    >>> import asyncio
    >>> array = zarrdock.create_array({}, data=np.arange(10))
    >>> [part.tolist() for part in asyncio.run(zarrdock.read_many_async([array.lazy[:2], array.lazy[8:]]))]
    [[0, 1], [8, 9]]
    """
    found = await read_together_async(_begun(selections, out))
    return found if out is None else [a if b is None else b for a, b in zip(found, out, strict=True)]
