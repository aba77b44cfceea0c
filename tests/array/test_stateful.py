"""The life of an array, against a model: created, written, resized, appended to, reopened, by several hands."""

from __future__ import annotations

import itertools
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import zarrdock

MAX_LENGTH = 14
NAMES = st.sampled_from(["a", "b", "größe"])
JSON = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.lists(st.integers(0, 3), max_size=2)


class ArrayLife(RuleBasedStateMachine):
    """One array in one store, and two faces of it: ``self.array`` does what is asked, ``self.other`` was opened
    before and must see all of it, as far as it need not know a new shape.
    """

    store: zarrdock.Store
    model: np.ndarray
    attributes: dict[str, Any]

    def new_store(self) -> zarrdock.Store:
        return zarrdock.MemoryStore()

    @initialize(data=st.data())
    def create(self, data: st.DataObject) -> None:
        self.store = self.new_store()
        self.create_again(data)

    def create_again(self, data: st.DataObject) -> None:
        ndim = data.draw(st.integers(1, 3))
        shape = tuple(data.draw(st.integers(0, MAX_LENGTH)) for _ in range(ndim))
        chunks = tuple(data.draw(st.integers(1, 4)) for _ in range(ndim))
        zarr_format = data.draw(st.sampled_from([2, 3, 3, 3]))
        self.fill = data.draw(st.sampled_from([0, 7]))
        dtype = data.draw(st.sampled_from(["u1", "i4", "f8"]))
        arguments: dict[str, Any] = {
            "compressors": data.draw(st.sampled_from([None, "auto"])),
            "order": data.draw(st.sampled_from("CF")),
        }
        if zarr_format == 3:
            shards = []
            for _ in range(data.draw(st.integers(0, 3))):
                chunks_of = shards[0] if shards else chunks
                shards.insert(0, tuple(c * data.draw(st.integers(1, 3)) for c in chunks_of))
            location = data.draw(st.sampled_from(["start", "end"]))
            arguments["shards"] = {"shape": shards, "index_location": location} if shards else None
            order = data.draw(st.sampled_from(["morton", "unordered", "lexicographic"]))
            arguments["options"] = {"subchunk_write_order": order}
        self.array = zarrdock.create_array(
            self.store,
            name="x",
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            fill_value=self.fill,
            zarr_format=zarr_format,
            overwrite=True,
            **arguments,
        )
        self.other = zarrdock.open_array(self.store, "r+", path="x")
        self.model = np.full(shape, self.fill, dtype)
        self.attributes = {}

    @precondition(lambda self: self.array.ndim > 0)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        self.create_again(data)

    def box(self, data: st.DataObject) -> tuple[slice, ...]:
        edges = [sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n)))) for n in self.model.shape]
        return tuple(slice(a, b, data.draw(st.integers(1, 3))) for a, b in edges)

    @rule(data=st.data(), seed=st.integers(0, 2**16), by_other=st.booleans())
    def write(self, data: st.DataObject, seed: int, by_other: bool) -> None:
        box = self.box(data)
        value = np.random.default_rng(seed).integers(0, 50, self.model[box].shape)
        (self.other if by_other else self.array)[box] = value
        self.model[box] = value

    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        box = self.box(data)
        self.array[box] = self.fill
        self.model[box] = self.fill

    @rule(data=st.data(), seed=st.integers(0, 2**16))
    def write_points(self, data: st.DataObject, seed: int) -> None:
        if 0 in self.model.shape:
            return
        n = data.draw(st.integers(1, 5))
        points = tuple(np.array([data.draw(st.integers(0, m - 1)) for _ in range(n)]) for m in self.model.shape)
        value = np.random.default_rng(seed).integers(0, 50, n)
        self.array.vindex[points] = value
        self.model[points] = value

    @rule(data=st.data())
    def read_by_other(self, data: st.DataObject) -> None:
        box = self.box(data)
        np.testing.assert_array_equal(self.other[box], self.model[box])

    @rule(data=st.data())
    def resize(self, data: st.DataObject) -> None:
        shape = tuple(data.draw(st.integers(0, MAX_LENGTH)) for _ in range(self.model.ndim))
        self.array.resize(shape)
        self._reshape(shape)

    def _reshape(self, shape: tuple[int, ...]) -> None:
        new = np.full(shape, self.fill, self.model.dtype)
        both = tuple(slice(0, min(a, b)) for a, b in zip(shape, self.model.shape, strict=True))
        new[both] = self.model[both]
        self.model = new
        self.other.refresh()

    @rule(data=st.data(), seed=st.integers(0, 2**16))
    def append(self, data: st.DataObject, seed: int) -> None:
        axis = data.draw(st.integers(0, self.model.ndim - 1))
        n = data.draw(st.integers(0, 4))
        before = self.model.shape
        shape = tuple(n if i == axis else m for i, m in enumerate(before))
        if before[axis] + n > 2 * MAX_LENGTH:
            return
        value = np.random.default_rng(seed).integers(0, 50, shape)
        new_shape = self.array.append(value, axis)
        self._reshape(new_shape)
        where = tuple(slice(before[axis], None) if i == axis else slice(None) for i in range(len(shape)))
        self.model[where] = value

    @rule(name=NAMES, value=JSON, by_other=st.booleans())
    def set_attribute(self, name: str, value: Any, by_other: bool) -> None:
        (self.other if by_other else self.array).attrs[name] = value
        self.attributes[name] = value

    @precondition(lambda self: self.attributes)
    @rule(data=st.data())
    def delete_attribute(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.attributes)))
        self.array.refresh()
        del self.array.attrs[name]
        del self.attributes[name]

    @rule()
    def reopen(self) -> None:
        self.array = zarrdock.open_array(self.store, "r+", path="x")
        assert dict(self.array.attrs) == self.attributes

    @rule()
    def no_chunk_holds_only_fill_value_and_none_lies_outside(self) -> None:
        keys = {entry.key for entry in self.store.list("x")} - {"x/zarr.json", "x/.zarray", "x/.zattrs"}
        unit = self.array.shards or self.array.chunks
        grid = [range(-(-n // c)) for n, c in zip(self.model.shape, unit, strict=True)]
        wanted = set()
        for coords in itertools.product(*grid):
            part = self.model[tuple(slice(c * n, (c + 1) * n) for c, n in zip(coords, unit, strict=True))]
            if (part != self.fill).any():
                wanted.add("x/" + self.array.key_encoding.key(coords))
        assert keys == wanted

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        if hasattr(self, "array"):
            found = self.array[...]
            assert found.shape == self.model.shape
            np.testing.assert_array_equal(found, self.model)


TestArrayLife = ArrayLife.TestCase
TestArrayLife.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
