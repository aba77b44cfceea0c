"""The compiled part and the codecs in Python: the same values, and the same errors."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrdock
from zarrdock.codecs import compiled
from zarrdock.codecs.chain import bind_chain
from zarrdock.codecs.checksums import has_checksum
from zarrdock.codecs.codec import ChunkSpec
from zarrdock.config import config
from zarrdock.errors import CodecError

BUILT = compiled.compiled_codecs()
if BUILT is None and "CI" not in os.environ:
    pytest.skip("the compiled part was not built: a compiler is missing", allow_module_level=True)

#: By what has to be built in.
CHAINS: list[tuple[str, list[Any]]] = [
    ("crc32c", []),
    ("crc32c", [zarrdock.Crc32c()]),
    ("zstd", [zarrdock.Zstd(1)]),
    ("zstd", [zarrdock.Zstd(3, checksum=True), zarrdock.Crc32c()]),
    ("zstd", [zarrdock.Crc32c(), zarrdock.Zstd(1)]),
    ("gzip", [zarrdock.Gzip(1)]),
    ("zlib", [{"name": "numcodecs.zlib", "configuration": {"level": 1}}]),
    ("lz4", [{"name": "numcodecs.lz4", "configuration": {"acceleration": 1}}]),
    *(
        ("blosc", [zarrdock.Blosc(cname, clevel, shuffle)])
        for cname in ("lz4", "zstd", "zlib", "blosclz", "lz4hc")
        for clevel, shuffle in ((5, "shuffle"), (1, "bitshuffle"), (0, "noshuffle"))
    ),
]
NAMES = [str(chain) for _, chain in CHAINS]
DTYPES = ["u1", "i1", "?", "<u2", ">i2", "<f4", ">f8", "<c8", ">c16", "<M8[s]", "S3", "V5"]


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Turns the compiled part on. One number a call of the compiled part: chunks that it left to Python."""
    monkeypatch.setattr(config, "compiled", 1)
    left: list[int] = []
    decode = compiled.decode

    def noted(*args: Any) -> Any:
        answer = decode(*args)
        left.append(len(answer or ()))
        return answer

    monkeypatch.setattr(compiled, "decode", noted)
    return left


def values_of(dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    raw = np.random.default_rng(1).integers(0, 60, (*shape, np.dtype(dtype).itemsize)).astype("u1")
    if dtype == "?":
        raw %= 2
    return raw.view(dtype).reshape(shape)


def make(chain: list[Any], dtype: str = "<u2", **more: Any) -> zarrdock.Array:
    values = values_of(dtype, (20, 9, 17))
    more = {"chunks": (5, 3, 4), "shards": (10, 9, 8)} | more
    return zarrdock.create_array({}, data=values, compressors=chain, **more)


SELECTIONS: list[Any] = [
    np.s_[...],
    np.s_[3:4, 2:8, 5:16],
    np.s_[::3, ::-1, 1::5],
    np.s_[7, :, 3],
    np.s_[:, 4:5, -1:],
    np.s_[0:0],
]


def same(read: Callable[[], Any]) -> Any:
    """The same bytes by both ways."""
    with config.set(compiled=0):
        expected = read()
    found = read()
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()
    return found


@pytest.mark.parametrize(("needs", "chain"), CHAINS, ids=NAMES)
def test_every_chain(needs: str, chain: list[Any], counted: list[int]) -> None:
    if needs not in BUILT:  # type: ignore[operator]
        pytest.skip(f"built without {needs}")
    array = make(chain)
    for selection in SELECTIONS:
        same(lambda selection=selection: array[selection])
    assert sum(counted) == 0
    assert len(counted) == len(SELECTIONS) - 1


# -- Encoding


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One number a call: chunks that were left to Python."""
    left: list[int] = []
    encode = compiled.encode

    def noted(*args: Any) -> Any:
        answer = encode(*args)
        left.append(sum(data is False for data in answer))
        return answer

    monkeypatch.setattr(compiled, "encode", noted)
    return left


def stored(array: zarrdock.Array) -> dict[str, int]:
    return {entry.key: entry.size or 0 for entry in array.store.list("c")}


def written(array: zarrdock.Array, values: Any, selection: Any = ...) -> None:
    """Values written by the compiled part are read by the codecs in Python, and the same objects are there."""
    before = {key: bytes(array.store.get(key).data) for key in stored(array)}  # type: ignore[union-attr]
    with config.set(compiled=0):
        array.write(selection, values)
        keys = stored(array).keys()
        expected = array[...]
    array.store.delete_many([*keys])
    for key, data in before.items():
        array.store.write(key, data)
    array.write(selection, values)
    with config.set(compiled=0):
        assert array[...].tobytes() == expected.tobytes()
        assert stored(array).keys() == keys
    assert array[...].tobytes() == expected.tobytes()


@pytest.mark.parametrize(("needs", "chain"), CHAINS, ids=NAMES)
def test_every_chain_encodes(needs: str, chain: list[Any], packed: list[int]) -> None:
    if needs not in BUILT:  # type: ignore[operator]
        pytest.skip(f"built without {needs}")
    values = values_of("<u2", (20, 9, 16))
    array = zarrdock.create_array(
        {}, shape=values.shape, dtype="u2", chunks=(5, 3, 4), shards=(10, 9, 8), compressors=chain
    )
    written(array, values)
    assert len(packed) == (4 if chain else 0)
    assert sum(packed) == 0


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_encodes(dtype: str, endian: Any, packed: list[int]) -> None:
    values = values_of(dtype, (20, 9, 17))
    for more in ({}, {"filters": [zarrdock.Transpose((2, 0, 1))]}, {"shards": None, "chunks": (20, 9, 17)}):
        array = make([zarrdock.Crc32c()], dtype, serializer=zarrdock.Bytes(endian), **more)
        packed.clear()
        written(array, values)
        assert packed
        swapped = values.astype(values.dtype.newbyteorder()) if values.dtype.kind in "iufc" else values
        for other in (
            swapped,
            np.asfortranarray(values),
            values[::-1, ::-1, ::-1],
            np.broadcast_to(values[0], (20, 9, 17)),
        ):
            written(array, other)


def test_chunks_of_fill_value_are_not_stored(packed: list[int]) -> None:
    for dtype, fill, other in (
        ("<f4", -0.0, 0.0),
        (">f4", np.nan, 1.0),
        ("u1", 7, 0),
        (">i8", -2, 2),
        ("?", True, False),
    ):
        for endian in ("little", "big"):
            for keep in (False, True):
                values = np.full((8, 8), fill, dtype)
                values[:3, :2] = other
                array = zarrdock.create_array(
                    {}, shape=(8, 8), dtype=dtype, chunks=(4, 4), fill_value=fill, compressors=[zarrdock.Crc32c()],
                    serializer=zarrdock.Bytes(endian), options={"write_empty_chunks": keep},
                )  # fmt: skip
                packed.clear()
                written(array, values)
                assert packed
                assert len(stored(array)) == (4 if keep else 1)
                assert array[...].tobytes() == values.astype(array.dtype).tobytes()


def test_other_values_are_left_to_python(packed: list[int]) -> None:
    array = make([zarrdock.Zstd(1)])
    packed.clear()
    values = values_of("<u2", (20, 9, 17))
    written(array, values.astype("f8"))  # to be converted
    written(array, 3)
    written(array, values[3:7], np.s_[3:7])  # parts of chunks
    level_0 = make([zarrdock.Gzip(0)])
    written(level_0, values)


@settings(max_examples=60)
@given(st.data())
def test_any_geometry_encodes(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 4))
    shape = tuple(data.draw(st.integers(1, 12)) for _ in range(ndim))
    chunks = tuple(data.draw(st.integers(1, 5)) for _ in range(ndim))
    shards = tuple(c * data.draw(st.integers(1, 3)) for c in chunks)
    order = data.draw(st.permutations(range(ndim)))
    dtype = data.draw(st.sampled_from(DTYPES))
    values = values_of(dtype, shape)
    array = zarrdock.create_array(
        {}, shape=shape, dtype=dtype, chunks=chunks, shards=data.draw(st.sampled_from([shards, None])),
        compressors=[zarrdock.Zstd(1)], filters=[zarrdock.Transpose(tuple(order))],
    )  # fmt: skip
    index = tuple(slice(*sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))) for n in shape)
    given_values = values[index][tuple(slice(None, None, data.draw(st.sampled_from([1, -1]))) for _ in shape)]
    with config.set(threads=data.draw(st.integers(1, 4)), inline_bytes=0):
        written(array, given_values, index)


def test_many_calls_at_once() -> None:
    """Threads of one call are not waited for once its work is done, and never take part in a call that is over."""
    values = np.random.default_rng(0).integers(0, 99, (32, 64, 64)).astype("u2")
    array = zarrdock.create_array(
        {}, data=values, chunks=(8, 16, 16), shards=(16, 64, 64), compressors=[zarrdock.Zstd(1)]
    )

    def use(number: int) -> None:
        for _ in range(40):
            np.testing.assert_array_equal(array[number % 8 :: 3], values[number % 8 :: 3])
            array.write(np.s_[:16], values[:16])

    with config.set(threads=6, inline_bytes=0), ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(4)))


def test_arguments_of_encoding_are_checked() -> None:
    from zarrdock.codecs import _compiled

    chain = _compiled.Chain((("crc32c", 8, 8, ()),), (4,), (2,), 2, 2, False, 99)
    array = np.arange(8, dtype="u2").view("V2")

    def call(**at: Any) -> Any:
        inner, outer = at.get("inner", slice(0, 4)), at.get("outer", slice(2, 6))
        number, of = at.get("number", np.zeros(1, np.int64)), at.get("array", array)
        return _compiled.encode(
            at.get("chain", chain), False, of, number, ([inner],), ([outer],), at.get("fill"), 1, True
        )

    assert call()[0][:8] == array[2:6].tobytes()
    decodes = _compiled.Chain((("crc32c", 8, 8),), (4,), (2,), 2, 2, False, 99)
    for left in (
        {"number": np.ones(1, np.int64)}, {"number": -np.ones(1, np.int64)}, {"chain": decodes},
        {"inner": slice(0, 3), "outer": slice(2, 5)},
    ):  # fmt: skip
        assert call(**left) == [False], left
    for wrong in ({"outer": slice(5, 9)}, {"outer": slice(-4, 0)}, {"inner": slice(1, 5)}, {"inner": slice(0, 8, 2)}):
        with pytest.raises(IndexError):
            call(**wrong)
    for wrong in ({"fill": b"123"}, {"array": np.zeros(8, "V3")}, {"array": np.zeros((8, 1), "V2")}):
        with pytest.raises(ValueError):
            call(**wrong)
    for options in ((1,), (1, 2, 3), (6, 5, 1, 0, 2), (-1, 5, 1, 0, 2), (2**40, 0)):
        for name in ("crc32c", "zstd", "blosc"):
            if name in BUILT and len(options) != {"crc32c": 0, "zstd": 2}.get(name, -1):  # type: ignore[operator]
                with pytest.raises((ValueError, OverflowError)):
                    _compiled.Chain(((name, 8, 8, options),), (4,), (2,), 2, 2, False, 99)


# -- Decoding again


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: str, endian: Any, counted: list[int]) -> None:
    for more in ({}, {"filters": [zarrdock.Transpose((2, 0, 1))]}, {"shards": None, "chunks": (20, 9, 17)}):
        array = make([zarrdock.Crc32c()], dtype, serializer=zarrdock.Bytes(endian), **more)
        for selection in SELECTIONS:
            same(lambda selection=selection, array=array: array[selection])
    assert len(counted) == 3 * (len(SELECTIONS) - 1)


def test_outputs_of_any_strides(counted: list[int]) -> None:
    array = make([zarrdock.Crc32c()], ">u2", filters=[zarrdock.Transpose((1, 2, 0))])
    values = array[...]
    for out in (
        np.zeros((40, 9, 34), "<u2")[::2, ::-1, ::2],
        np.zeros((20, 9, 17), ">u2", order="F"),
        np.zeros((17, 20, 9), "<u2").transpose(1, 2, 0),
    ):
        array.read(..., out=out)
        np.testing.assert_array_equal(out, values)
    n = len(counted)
    other = np.zeros((20, 9, 17), "f8")  # not by the compiled part
    array.read(..., out=other)
    np.testing.assert_array_equal(other, values)
    assert len(counted) == n


@settings(max_examples=60)
@given(st.data())
def test_any_geometry(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(0, 4))
    shape = tuple(data.draw(st.integers(1, 12)) for _ in range(ndim))
    chunks = tuple(data.draw(st.integers(1, 5)) for _ in range(ndim))
    shards = tuple(c * data.draw(st.integers(1, 3)) for c in chunks) if ndim else None
    order = data.draw(st.permutations(range(ndim)))
    dtype = data.draw(st.sampled_from(DTYPES))
    array = zarrdock.create_array(
        {}, data=values_of(dtype, shape), chunks=chunks if ndim else "auto", shards=shards,
        compressors=[zarrdock.Zstd(1)], filters=[zarrdock.Transpose(tuple(order))] if ndim else None,
    )  # fmt: skip
    index = tuple(
        slice(*sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))), data.draw(st.integers(1, 3)))
        for n in shape
    )
    with config.set(threads=data.draw(st.integers(1, 4)), inline_bytes=0):
        same(lambda: array[index])


@pytest.mark.parametrize("more", [{}, {"shards": None, "chunks": (64, 64, 64)}, {"chunks": (64, 64, 64)}])
def test_bytes_that_stay_in_their_files(tmp_path: Path, counted: list[int], more: dict[str, Any]) -> None:
    values = np.random.default_rng(0).integers(0, 9, (70, 130, 140)).astype("u2")
    wishes = {"chunks": (16, 32, 32), "shards": (64, 64, 64)} | more
    store = zarrdock.RecordingStore(zarrdock.LocalStore(tmp_path))
    zarrdock.create_array(store, data=values, compressors=[zarrdock.Zstd(1), zarrdock.Crc32c()], **wishes)
    for threads in (1, 3):
        with config.set(threads=threads):
            for selection in (..., np.s_[3:66:2, 100:, ::-1], np.s_[64, 5], np.s_[60:66, 60:66, 60:66]):
                array = zarrdock.open_array(store)
                plan = array.plan(selection)
                store.reset()
                np.testing.assert_array_equal(array[selection], values[selection])
                counts = store.n_rounds, store.n_requests, store.nbytes
                assert counts == (plan.n_rounds, plan.n_requests, plan.nbytes)
    assert len(counted) == 8
    assert sum(counted) == 0
    # What is left to Python, and what only Python knows, is read then.
    points = tuple(np.random.default_rng(0).integers(0, 70, (3, 100)))
    np.testing.assert_array_equal(zarrdock.open_array(store).vindex[points], values[points])
    out = np.zeros(values.shape, "i8")
    zarrdock.open_array(store).read(out=out)
    np.testing.assert_array_equal(out, values)
    array = zarrdock.open_array(store)
    path = tmp_path / "c/0/0/0"
    path.write_bytes(path.read_bytes().replace(b"\x28\xb5\x2f\xfd", bytes(4)))
    with pytest.raises(CodecError) as caught:
        array[...]
    assert caught.value.key == "c/0/0/0"


def test_a_file_that_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 9000, (256, 256, 8)).astype("u2")
    array = zarrdock.create_array(
        zarrdock.LocalStore(tmp_path), data=values, chunks=(16, 16, 8), shards=values.shape, compressors=None
    )
    decode = compiled.decode

    def truncated(*args: Any) -> Any:
        os.truncate(tmp_path / "c/0/0/0", 100_000)
        return decode(*args)

    monkeypatch.setattr(compiled, "decode", truncated)
    with pytest.raises(zarrdock.errors.StoreError, match="truncated"):
        array[...]


def test_what_an_honest_writer_may_do_otherwise(counted: list[int]) -> None:
    import zstandard

    values = np.arange(4000, dtype="<u2")
    array = zarrdock.create_array({}, data=values, chunks=(1000,), compressors=[zarrdock.Zstd(1)])
    raw = values.tobytes()
    half = zstandard.ZstdCompressor().compress(raw[:1000])
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(raw[2000:4000])
    array.store.write("c/0", half + zstandard.ZstdCompressor().compress(raw[1000:2000]))
    array.store.write("c/1", unsized)
    np.testing.assert_array_equal(array[...], values)
    assert sum(counted) == 2


@pytest.mark.parametrize(("needs", "chain"), CHAINS, ids=NAMES)
def test_damage_is_the_same_error(needs: str, chain: list[Any]) -> None:
    """Whatever is changed in a chunk's bytes: both ways give the same values, or the same error; without a checksum any
    values may come of it.
    """
    if needs not in BUILT:  # type: ignore[operator]
        pytest.skip(f"built without {needs}")
    array = make(chain, chunks=(20, 9, 17), shards=None)
    sound = bytes(array.store.get("c/0/0/0").data)  # type: ignore[union-attr]
    rng = np.random.default_rng(0)
    n_errors = 0
    for n in range(60):
        data = bytearray(sound)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(0, min(len(data), 24) if n % 2 else len(data))] = rng.integers(0, 256)
        if n % 5 == 4:
            data = data[: rng.integers(0, len(data))]
        array.store.write("c/0/0/0", data)
        found: list[Any] = []
        for way in (0, 1):
            with config.set(compiled=way):
                try:
                    found.append(array[...].tobytes())
                except CodecError as error:
                    found.append((type(error), str(error), error.key, error.chunk))
        if has_checksum(array.metadata.codecs):
            assert found[0] == found[1]
        else:  # releases of a library differ in what they make of it
            for one, other in (found, found[::-1]):
                assert one == other or isinstance(one, bytes)
        n_errors += not isinstance(found[0], bytes)
    assert n_errors or not chain


def test_a_damaged_chunk_in_a_shard_is_named() -> None:
    array = make([zarrdock.Crc32c()])
    data = bytearray(array.store.get("c/1/0/0").data)  # type: ignore[union-attr]
    data[130] ^= 1
    array.store.write("c/1/0/0", data)
    found = []
    for way in (0, 1):
        with config.set(compiled=way), pytest.raises(CodecError) as caught:
            array[...]
        found.append((str(caught.value), caught.value.key, caught.value.chunk))
    assert found[0] == found[1]
    assert found[0][1] == "c/1/0/0"


def test_what_it_does_not_know() -> None:
    spec = ChunkSpec((4, 4), np.dtype("u2"))
    known = compiled.Compiled.of(bind_chain((zarrdock.Bytes(), zarrdock.Crc32c()), spec))
    assert known is not None
    for dtype, codecs in (
        ("u2", (zarrdock.Bytes(), zarrdock.Crc32c(), zarrdock.Zstd(), zarrdock.Gzip())),
        ("f4", (zarrdock.BitRound(3), zarrdock.Bytes())),
        ("<U3", (zarrdock.Bytes(),)),
    ):
        assert compiled.Compiled.of(bind_chain(codecs, ChunkSpec((4, 4), np.dtype(dtype)))) is None


def test_its_arguments_are_checked() -> None:
    """Wrong ones are errors: it never reads or writes outside of what it was given."""
    from zarrdock.codecs import _compiled

    chain = _compiled.Chain((), (4,), (2,), 2, 2, False, 99)
    out = np.zeros(8, "V2")
    one, zero, length = np.ones(1, np.int64), np.zeros(1, np.int64), np.array([8])

    def call(offset: Any = zero, nbytes: Any = length, number: Any = zero, which: Any = zero, **at: Any) -> Any:
        inner, outer = at.get("inner", slice(0, 4)), at.get("outer", slice(2, 6))
        group = (chain, False, (bytes(8),), which, offset, nbytes, number, ([inner],), ([outer],))
        return _compiled.decode([group], at.get("out", out), 1, True)

    assert call() is None
    for wrong in (
        {"offset": one}, {"offset": -one}, {"nbytes": length - 1}, {"nbytes": -length}, {"number": one},
        {"number": -one}, {"which": one}, {"which": -one}, {"offset": np.array([2**63 - 1])},
    ):  # fmt: skip
        assert call(**wrong) == [(0, 0)], wrong
    for wrong in (
        {"inner": slice(0, 5), "outer": slice(2, 7)}, {"inner": slice(1, 5)}, {"inner": slice(0, 4, 2)},
        {"inner": slice(0, 4, 2**62)}, {"inner": slice(3, 0, -1)}, {"outer": slice(5, 9)}, {"outer": slice(-4, 0)},
        {"inner": slice(2**62, 2**62 + 4)}, {"outer": slice(2, 6, 2)},
    ):  # fmt: skip
        with pytest.raises(IndexError):
            call(**wrong)
    for wrong in ({"offset": np.zeros(2, np.int64)}, {"out": np.zeros(8, "V3")}, {"out": np.zeros((8, 1), "V2")}):
        with pytest.raises(ValueError):
            call(**wrong)
    with pytest.raises((BufferError, ValueError)):
        call(out=np.frombuffer(bytes(16), "V2"))
    for steps, shape, strides, itemsize, unit in (
        ((), (4,), (3,), 2, 2), ((), (4,), (1,), 2, 2), ((), (2**62, 4), (8, 2), 2, 2), ((), (0,), (2,), 2, 2),
        ((("zst", 8, 8),), (4,), (2,), 2, 2), ((), (4,), (2, 2), 2, 2), ((), (4,), (2,), 3, 2), ((), (4,), (2,), 0, 1),
        ((("zstd", -1, 8),), (4,), (2,), 2, 2), ((), (4, 2), (2, 2**62), 2, 2), ((), (1,) * 33, (2,) * 33, 2, 2),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            _compiled.Chain(steps, shape, strides, itemsize, unit, False, 99)
