"""An array driven at random beside a numpy model, on each store, with faults injected and others at work in between."""

import itertools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import zarrdock
from support.storms.base import place
from zarrdock.errors import StoreError, ZarrdockError
from zarrdock.stores.wrappers import PrefixStore
from zarrdock.stores.zip_ import ZipStore
from zarrdock.testing import FaultyStore, StoreFault

_numbers = itertools.count()
_indexes = st.integers(0, 30)
_values = st.integers(1, 10**6)
_faults = st.none() | st.tuples(
    st.sampled_from(["read", "update", "write", "delete", "list"]), st.sampled_from(["before", "lost"])
)


class ArrayMachine(RuleBasedStateMachine):
    """Two array objects on one array: ``mine`` with faults, ``theirs`` without, as in another process."""

    def make_store(self):
        raise AssertionError

    def __init__(self) -> None:
        super().__init__()
        self.store = self.make_store()
        self.faulty = FaultyStore(self.store)
        self.model = np.arange(1, 24)
        zarrdock.create_array(self.store, name="a", data=self.model, chunks=3, shards=9, fill_value=-1)
        self.mine = zarrdock.open_array(self.faulty, path="a", mode="r+")
        self.theirs = zarrdock.open_array(self.store, path="a", mode="r+")

    def teardown(self) -> None:
        self.store.close()

    def attempt(self, fault, after: int, do, allowed) -> None:
        """Do something that may meet a fault: then the array is one of those allowed, else the last of them."""
        if fault is not None:
            self.faulty.add(StoreFault(fault[0], "a/*", StoreError, after=after, when=fault[1]))
        error = None
        try:
            do()
        except ZarrdockError as raised:
            error = raised
        finally:
            self.faulty.clear()
        now = zarrdock.open_array(self.store, path="a")[:]
        if error is None:
            allowed = allowed[-1:]
        notes = " ".join(getattr(error, "__notes__", []))
        if "hold fill value" in notes or "stay part of the array" in notes:  # rows of an append, and it says so
            n = len(allowed[0])
            assert np.array_equal(now[:n], allowed[0])
            assert len(now) in (n, len(allowed[-1]))
            self.model = now
        else:
            assert any(np.array_equal(now, one) for one in allowed), (
                error,
                now.tolist(),
                [a.tolist() for a in allowed],
            )
            self.model = now
        self.mine.refresh()
        self.theirs.refresh()

    @rule(start=_indexes, n=st.integers(0, 12), value=_values, fault=_faults, after=st.integers(0, 2))
    def write(self, start, n, value, fault, after) -> None:
        self.mine.refresh()
        states = [self.model]
        # Object by object: a write of several may have got so far, in any order of the objects.
        shards = sorted({i // 9 for i in range(start, min(start + n, len(self.model)))})
        for some in itertools.chain.from_iterable(itertools.combinations(shards, k + 1) for k in range(len(shards))):
            state = self.model.copy()
            for shard in some:
                state[max(start, shard * 9) : min(start + n, shard * 9 + 9)] = value
            states.append(state)
        self.attempt(fault, after, lambda: self.mine.write(slice(start, start + n), value), states)

    @rule(values=st.lists(_values, min_size=1, max_size=14), fault=_faults, after=st.integers(0, 3))
    def append(self, values, fault, after) -> None:
        self.attempt(fault, after, lambda: self.mine.append(values), [self.model, np.append(self.model, values)])

    @rule(values=st.lists(_values, min_size=1, max_size=5))
    def others_append(self, values) -> None:
        self.theirs.append(values)
        self.model = np.append(self.model, values)

    @rule(start=_indexes, value=_values)
    def others_write(self, start, value) -> None:
        self.theirs.refresh()
        self.theirs[start : start + 4] = value
        self.model = self.model.copy()
        self.model[start : start + 4] = value

    @rule(n=st.integers(0, 40))
    def resize(self, n) -> None:
        self.mine.resize(n)
        self.model = np.append(self.model[:n], np.full(max(0, n - len(self.model)), -1))

    @rule(start=_indexes, n=st.integers(0, 20), step=st.sampled_from([1, 2, -1, -3]))
    def read(self, start, n, step) -> None:
        self.mine.refresh()
        where = slice(start, start + n, step) if step > 0 else slice(start + n, start, step)
        np.testing.assert_array_equal(self.mine[where], self.model[where])
        if self.store.traits.conditional_read:
            np.testing.assert_array_equal(self.mine.read(where, consistent=True), self.model[where])

    @rule()
    def reopen(self) -> None:
        self.mine = zarrdock.open_array(self.faulty, path="a", mode="r+")

    @invariant()
    def is_what_the_model_is(self) -> None:
        self.theirs.refresh()
        np.testing.assert_array_equal(self.theirs[:], self.model)


@pytest.fixture(scope="module")
def folder():
    made = tempfile.mkdtemp(prefix="zarrdock-stateful-")
    yield Path(made)
    shutil.rmtree(made)


def drive(make_store, n_examples: int) -> None:
    machine = type("Machine", (ArrayMachine,), {"make_store": lambda _: make_store()})
    case = machine.TestCase
    # As many as the profile says, in proportion: 50 is its default.
    n_examples = max(2, n_examples * settings.default.max_examples // 50)
    case.settings = settings(max_examples=n_examples, stateful_step_count=20, deadline=None)
    case("runTest").runTest()


def test_memory() -> None:
    drive(zarrdock.MemoryStore, 20)


def test_local(folder) -> None:
    drive(lambda: zarrdock.LocalStore(folder / str(next(_numbers))), 12)


def test_zip(folder) -> None:
    drive(lambda: ZipStore(folder / f"{next(_numbers)}.zip"), 10)


@pytest.mark.server
@pytest.mark.parametrize("name", ["S3", "GCS"])
def test_services(name) -> None:
    with place(name) as store:
        drive(lambda: PrefixStore(store, f"n{next(_numbers)}"), 3)
