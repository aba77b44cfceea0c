"""Arrays opened again: nothing of one shows in the other."""

from __future__ import annotations

from typing import Any

import numpy as np

import zarrdock
from zarrdock.array.planning import layout
from zarrdock.codecs.builtin import CODECS
from zarrdock.codecs.zstd_ import Zstd


def test_attributes_are_nobody_elses() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=np.ones(4), attributes={"a": {"b": [1]}})
    first, second = zarrdock.open_array(store), zarrdock.open_array(store)
    first.metadata.attributes["a"]["b"].append(2)
    assert second.attrs["a"] == {"b": [1]}
    assert zarrdock.open_array(store).attrs["a"] == {"b": [1]}


def test_two_places_of_one_document() -> None:
    store = zarrdock.MemoryStore()
    for i, name in enumerate(("a", "b/c")):
        zarrdock.create_array(store, name=name, data=np.full((4, 4), i), chunks=(2, 2), shards=(4, 4))
    for _ in range(2):
        assert [zarrdock.open_array(store, path=p)[1, 1] for p in ("a", "b/c")] == [0, 1]
    assert zarrdock.open_array(store, path="a")._layout is zarrdock.open_array(store, path="a")._layout


def test_a_document_that_was_replaced() -> None:
    store = zarrdock.MemoryStore()
    for shape in ((4, 4), (6, 6), (4, 4)):
        zarrdock.create_array(store, shape=shape, dtype="u2", chunks=(2, 2), overwrite=True)
        assert zarrdock.open_array(store).shape == shape
    writer = zarrdock.open_array(store, "r+")
    writer.resize((3, 3))
    assert zarrdock.open_array(store).shape == (3, 3)


def test_a_name_that_stands_for_another_codec(monkeypatch: Any) -> None:
    class Mine(Zstd):
        """The same under another class."""

    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=np.ones(4), compressors=[{"name": "zstd"}])
    zarrdock.open_array(store)
    before = CODECS.get("zstd")
    monkeypatch.setitem(CODECS._loaded, "zstd", before)  # restored at the end
    CODECS.add("zstd", Mine)
    try:
        assert isinstance(zarrdock.open_array(store).metadata.codecs[-1], Mine)
    finally:
        CODECS.add("zstd", before)  # type: ignore[arg-type]


def test_bounded() -> None:
    store = zarrdock.MemoryStore()
    for i in range(2 * layout._MOST + 3):
        zarrdock.create_array(store, name=f"a{i}", shape=(i + 1,), dtype="u1")
        assert zarrdock.open_array(store, path=f"a{i}").shape == (i + 1,)
    assert len(layout._nodes) <= layout._MOST
    assert len(layout._layouts) <= layout._MOST
