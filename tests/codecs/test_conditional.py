"""The conditional codec: header, decisions, damage, and the same in arrays."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrdock
from zarrdock.codecs.blosc_ import Blosc
from zarrdock.codecs.builtin import parse_codec
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.codec import ByteSpec
from zarrdock.codecs.conditional import Conditional, Trial, with_decision
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.gzip_ import Gzip
from zarrdock.codecs.numcodecs_ import Shuffle
from zarrdock.codecs.sharding import Sharding
from zarrdock.codecs.transpose import Transpose
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import CodecError, MetadataError, ReadOnlyError, UnsupportedError

N = 4000
NOISE = np.random.default_rng(0).integers(0, 256, N, np.uint8).tobytes()
RAMP = np.arange(N // 4, dtype="<u4").tobytes()
ZEROS = bytes(N)
PLAIN = ByteSpec(N, N, 4)


def shuffle_and_zstd(**arguments: Any) -> Conditional:
    return Conditional((Shuffle(elementsize=4), Zstd(3)), **arguments)


def test_header_and_bits() -> None:
    shuffled, compressed = Shuffle(elementsize=4).bind(PLAIN), Zstd(3).bind(PLAIN)
    bodies = {
        0: RAMP,
        1: bytes(shuffled.encode(RAMP)),
        2: bytes(compressed.encode(RAMP)),
        3: bytes(compressed.encode(shuffled.encode(RAMP))),
    }
    for mask, body in bodies.items():
        for bits in (8, 16, 32):
            bound = shuffle_and_zstd(header_bits=bits, decision=mask).bind(PLAIN)
            # The first codec is the lowest bit of the first byte; what has no codec is 0.
            encoded = bytes((mask,)) + bytes(bits // 8 - 1) + body
            assert bytes(bound.encode(RAMP)) == encoded
            reader = shuffle_and_zstd(header_bits=bits).bind(PLAIN)
            assert bytes(reader.decode(encoded)) == RAMP
            assert reader.mask_of(encoded) == mask
            out = bytearray(N)
            assert not reader.decode_into(encoded, memoryview(out)) or bytes(out) == RAMP


def test_the_ninth_codec_is_in_the_second_byte() -> None:
    codec = Conditional(tuple(Crc32c() for _ in range(9)), decision=1 << 8)
    assert codec.header_bits == 16
    encoded = bytes(codec.bind(PLAIN).encode(RAMP))
    assert encoded[:2] == b"\x00\x01"
    assert len(encoded) == N + 6
    assert bytes(codec.bind(PLAIN).decode(encoded)) == RAMP
    assert Conditional(()).header_bits == 0
    assert bytes(Conditional(()).bind(PLAIN).encode(RAMP)) == RAMP
    assert Conditional((), 8).bind(PLAIN).encoded == ByteSpec(N + 1, N + 1)


@pytest.mark.parametrize("data", [NOISE, RAMP, ZEROS], ids=["noise", "ramp", "zeros"])
def test_smaller_wins(data: bytes) -> None:
    bound = shuffle_and_zstd().bind(PLAIN)
    encoded = bytes(bound.encode(data))
    sizes = {mask: len(shuffle_and_zstd(decision=mask).bind(PLAIN).encode(data)) for mask in range(4)}
    assert len(encoded) == min(sizes.values()) <= N + 1
    # Noise is left as it is; shuffling pays for the ramp, and not for zeros, where fewer codecs do as well.
    assert bound.mask_of(encoded) == {NOISE: 0, RAMP: 3, ZEROS: 2}[data]
    assert bytes(bound.decode(encoded)) == data


def test_more_codecs_than_combinations_can_be_tried() -> None:
    codecs = (Shuffle(elementsize=4), Crc32c(), Zstd(3), Crc32c(), Gzip(1), Crc32c())
    bound = Conditional(codecs).bind(PLAIN)
    encoded = bytes(bound.encode(RAMP))
    assert bound.mask_of(encoded) == 0b000101
    assert bound.mask_of(bytes(bound.encode(NOISE))) == 0
    assert bytes(bound.decode(encoded)) == RAMP


def test_always_never_and_functions() -> None:
    assert bytes(shuffle_and_zstd(decision="never").bind(PLAIN).encode(RAMP)) == b"\0" + RAMP
    always = shuffle_and_zstd(decision="always").bind(PLAIN)
    assert always.mask_of(always.encode(NOISE)) == 3
    seen: list[Any] = []

    def decide(trial: Trial) -> int:
        seen.append((trial.coords, bytes(trial.data), len(trial.codecs), trial.nbytes(2)))
        return np.uint8(2)  # type: ignore[return-value]

    bound = shuffle_and_zstd(decision=decide).bind(PLAIN)
    encoded = bytes(bound.encode_at(RAMP, (4, 5)))
    assert seen == [((4, 5), RAMP, 2, len(encoded) - 1)]
    assert bound.mask_of(encoded) == 2


@pytest.mark.parametrize(
    ("decision", "coords", "what"),
    [
        (lambda trial: 4, None, "mask of 2 bits"),
        (lambda trial: -1, None, "mask of 2 bits"),
        (lambda trial: "both", None, "no mask"),
        (lambda trial: None, None, "no mask"),
        (np.zeros((2, 2), "u1"), None, "not known here"),
        (np.zeros((2, 2), "u1"), (1, 2), "none for chunk"),
        (np.zeros((2, 2), "u1"), (1,), "none for chunk"),
    ],
)
def test_decisions_that_cannot_be_followed(decision: Any, coords: Any, what: str) -> None:
    with pytest.raises(CodecError, match=what) as caught:
        shuffle_and_zstd(decision=decision).bind(PLAIN).encode_at(RAMP, coords)
    assert caught.value.direction == "encode"


@pytest.mark.parametrize("decision", ["perhaps", 4, -1, True, np.array([4]), np.array([0.5]), None, [1]], ids=repr)
def test_no_decision(decision: Any) -> None:
    with pytest.raises(MetadataError, match="decision"):
        shuffle_and_zstd(decision=decision)


def test_metadata() -> None:
    codec = shuffle_and_zstd(header_bits=16, decision="never")
    assert codec.to_json() == {
        "name": "conditional",
        "configuration": {
            "codecs": [
                {"name": "numcodecs.shuffle", "configuration": {"elementsize": 4}},
                {"name": "zstd", "configuration": {"level": 3, "checksum": False}},
            ],
            "header_bits": 16,
        },
    }
    parsed = parse_codec(codec.to_json())
    assert parsed == codec
    assert hash(parsed) == hash(codec)
    assert parsed.decision == "smaller"  # type: ignore[attr-defined]
    assert parse_codec({"name": "conditional", "configuration": {"codecs": ["crc32c"]}}) == Conditional((Crc32c(),))
    assert pickle.loads(pickle.dumps(codec)) == codec
    # A nested codec learns from the array what it left out.
    blosc = Conditional((Blosc(),)).with_defaults(PLAIN).codecs[0]
    assert blosc == Blosc(shuffle="shuffle", typesize=4)


@pytest.mark.parametrize(
    ("configuration", "pointer"),
    [
        ({}, "/codecs"),
        ({"codecs": "zstd"}, "/codecs"),
        ({"codecs": [{"name": "zstd", "configuration": {"level": "x"}}]}, "/codecs/0/configuration/level"),
        ({"codecs": [{"name": "bytes"}]}, "/codecs/0"),
        ({"codecs": ["zstd"], "header_bits": 4}, "/header_bits"),
        ({"codecs": ["zstd"], "header_bits": 0}, "/header_bits"),
        ({"codecs": ["zstd"], "header_bits": True}, "/header_bits"),
        ({"codecs": ["zstd"], "decision": "never"}, "/decision"),
    ],
    ids=str,
)
def test_wrong_metadata(configuration: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_codec({"name": "conditional", "configuration": configuration})
    assert caught.value.pointer == "/configuration" + pointer


def test_damage() -> None:
    bound = shuffle_and_zstd().bind(PLAIN)
    encoded = bytes(bound.encode(RAMP))
    with pytest.raises(CodecError, match="bit 2"):
        bound.decode(b"\x07" + encoded[1:])
    with pytest.raises(CodecError, match="bit 7"):
        bound.decode(b"\x80" + RAMP)
    with pytest.raises(CodecError, match="header"):
        bound.decode(b"")
    with pytest.raises(CodecError, match="expected 4000"):
        bound.decode(b"\x00" + RAMP[1:])
    with pytest.raises(CodecError, match="zstd"):
        bound.decode(b"\x02" + RAMP)
    for mask in range(4):
        with pytest.raises(CodecError):
            bound.decode(bytes((mask,)) + encoded[1:-3])


@given(data=st.binary(max_size=300), masks=st.lists(st.integers(0, 7), max_size=3), bits=st.sampled_from([8, 24]))
@settings(max_examples=60, deadline=None)
def test_any_bytes_any_mask(data: bytes, masks: list[int], bits: int) -> None:
    spec = ByteSpec(len(data), len(data))
    codecs = (Crc32c(), Gzip(1), Zstd(1))
    for decision in ("smaller", "always", "never", *masks):
        bound = Conditional(codecs, bits, decision).bind(spec)  # type: ignore[arg-type]
        encoded = bytes(bound.encode(data))
        assert len(encoded) <= bound.encoded.limit
        if decision == "smaller":
            assert len(encoded) <= len(data) + bits // 8
        # Around unknown lengths, too, and one inside the other.
        for reader in (bound, Conditional(codecs, bits).bind(ByteSpec(None, len(data) + 9))):
            assert bytes(reader.decode(encoded)) == data
    nested = Conditional((Conditional(codecs, bits), Crc32c()), decision="always").bind(spec)
    assert bytes(nested.decode(nested.encode(data))) == data


# -- in arrays --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [None, (8, 12), [(8, 12), (4, 6)]], ids=str)
def test_masks_by_chunk(shards: Any) -> None:
    masks = np.arange(64, dtype=np.uint8).reshape(8, 8) % 2
    codec = Conditional((Zstd(),), decision=masks)
    store: dict[str, Any] = {}
    array = zarrdock.create_array(
        store, shape=(16, 24), chunks=(2, 3), shards=shards, dtype="f4", compressors=[codec, "crc32c"]
    )
    array[...] = np.arange(1, 385).reshape(16, 24)
    # Parts of chunks, and points.
    array[3:9, 5] = -1
    array.vindex[[0, 15], [0, 23]] = -2
    seen: dict[Any, int] = {}

    def look(trial: Trial) -> int:
        seen[trial.coords] = len(trial.data)
        return 0

    expected = array.read()
    again = zarrdock.open_array(store, mode="r+")
    assert np.array_equal(again.read(), expected)
    report = zarrdock.recompress(again, look)
    assert seen == {(i, j): 24 for i in range(8) for j in range(8)}
    assert report.n_chunks == 64
    assert report.n_changed == 32
    assert report.n_objects == (4 if shards else 64)
    assert np.array_equal(zarrdock.open_array(store).read(), expected)


def test_write_fast_compress_later() -> None:
    rng = np.random.default_rng(1)
    values = np.zeros((64, 64), "i4")
    values[:32] = rng.integers(-(2**31), 2**31, (32, 64))
    values[32:] = np.arange(32 * 64).reshape(32, 64)
    store: dict[str, Any] = {}
    fast = zarrdock.create_array(
        store,
        shape=values.shape,
        chunks=(16, 16),
        shards=(32, 32),
        dtype="i4",
        compressors=[shuffle_and_zstd(decision="never")],
    )
    fast[...] = values
    metadata = bytes(store["zarr.json"])
    assert b"never" not in metadata
    assert b"decision" not in metadata
    before = {key: len(value) for key, value in store.items() if key != "zarr.json"}
    report = zarrdock.recompress(zarrdock.open_array(store, mode="r+"))
    after = {key: len(value) for key, value in store.items() if key != "zarr.json"}
    assert bytes(store["zarr.json"]) == metadata
    assert (report.nbytes_before, report.nbytes_after) == (sum(before.values()), sum(after.values()))
    # Noise stays raw; the rest is compressed.
    assert after["c/0/0"] == before["c/0/0"]
    assert after["c/1/0"] < before["c/1/0"] / 2
    assert (report.n_chunks, report.n_changed) == (16, 8)
    assert np.array_equal(zarrdock.open_array(store).read(), values)
    # Once more: nothing to do, nothing written.
    assert zarrdock.recompress(zarrdock.open_array(store, mode="r+")).n_changed == 0
    # And back, for a faster read.
    zarrdock.recompress(zarrdock.open_array(store, mode="r+"), "never")
    assert {key: len(value) for key, value in store.items() if key != "zarr.json"} == before


@pytest.mark.parametrize("chunks", [None, (10, 20)])
def test_recompress_where_objects_differ_in_shape(chunks: tuple[int, int] | None) -> None:
    objects: Any = ([30, 50, 20], [20, 40])
    values = np.arange(6000, dtype="u2").reshape(100, 60)
    array = zarrdock.create_array(
        {},
        data=values,
        chunks=chunks or objects,
        shards=chunks and {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": list(objects)}},
        compressors=[Conditional([Zstd(3)], decision="never")],
    )
    seen: set[tuple[int, ...] | None] = set()

    def always(trial: Trial) -> int:
        seen.add(trial.coords)
        return 1

    report = zarrdock.recompress(array, always)
    assert report.n_objects == 6
    assert report.n_changed == report.n_chunks == (30 if chunks else 6)
    assert seen == (
        {(i, j) for i in range(10) for j in range(3)} if chunks else {(i, j) for i in range(3) for j in (0, 1)}
    )
    assert (array[...] == values).all()


def test_recompress_wants_a_conditional_codec() -> None:
    array = zarrdock.create_array({}, shape=(4,), dtype="i4")
    with pytest.raises(UnsupportedError, match="conditional"):
        zarrdock.recompress(array)
    with pytest.raises(ReadOnlyError):
        zarrdock.recompress(zarrdock.open_array(array.store))


def test_damaged_chunks_are_named_and_left() -> None:
    store: dict[str, Any] = {}
    codec = Conditional((Zstd(),), decision="always")
    array = zarrdock.create_array(store, shape=(8,), chunks=(4,), dtype="i4", compressors=[codec])
    array[...] = np.arange(8)
    broken = store["c/1"] = b"\x02" + bytes(store["c/1"])[1:]
    with pytest.raises(CodecError, match="c/1") as caught:
        zarrdock.recompress(zarrdock.open_array(store, mode="r+"), "never")
    assert caught.value.codec == "conditional"
    assert store["c/1"] == broken


def test_with_decision_reaches_into_shards() -> None:
    codecs: tuple[Any, ...] = (Sharding((2,), (Bytes(None), Conditional((Zstd(),)))),)
    changed = with_decision((Transpose((0,)), *codecs), "never")
    assert changed[1].codecs[1].decision == "never"  # type: ignore[attr-defined]
    assert changed[1:] == codecs


def test_the_page_about_it_runs(repository: Path) -> None:
    text = (repository / "docs" / "reference" / "conditional.md").read_text("utf-8")
    namespace: dict[str, Any] = {"__name__": "page"}
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "docs/reference/conditional.md", "exec"), namespace)
    metadata = re.findall(r"^```json\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert parse_codec(json.loads(metadata[0])) == Conditional((Zstd(3),))
