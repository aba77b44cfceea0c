"""What zarr-python's users and its own test suite rely on, with its default pipeline and with zarrdock's."""

import asyncio
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")

from numcodecs.abc import Codec as NumcodecsCodec  # noqa: E402
from numcodecs.registry import codec_registry  # noqa: E402
from numcodecs.registry import register_codec as register_with_numcodecs  # noqa: E402
from zarr.abc.codec import BytesBytesCodec  # noqa: E402
from zarr.codecs import BytesCodec, GzipCodec, ShardingCodec, TransposeCodec  # noqa: E402
from zarr.registry import register_codec  # noqa: E402

import zarrdock  # noqa: E402
from zarrdock.adapters.zarr_python import ZarrStore  # noqa: E402
from zarrdock.stores.base import Read  # noqa: E402

pytestmark = pytest.mark.peer

PIPELINES = {
    "zarr-python's": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarrdock's": "zarrdock.adapters.zarr_python.CodecPipeline",
}


@pytest.fixture(params=PIPELINES.values(), ids=PIPELINES)
def either(request: pytest.FixtureRequest) -> Iterator[str]:
    with zarr.config.set({"codec_pipeline.path": request.param}):
        yield request.param


@pytest.fixture
def ours() -> Iterator[None]:
    with zarr.config.set({"codec_pipeline.path": PIPELINES["zarrdock's"]}):
        yield


def make(**more: Any) -> Any:
    defaults: dict[str, Any] = {"shape": (6, 6), "chunks": (2, 2), "dtype": "i4"}
    return zarr.create_array(ZarrStore(zarrdock.MemoryStore()), **defaults | more)


# -- the order of codecs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "codecs,error",
    [
        ([BytesCodec(), TransposeCodec(order=(1, 0))], TypeError),
        ([GzipCodec(), BytesCodec()], TypeError),
        ([TransposeCodec(order=(1, 0))], ValueError),
        ([BytesCodec(), BytesCodec()], ValueError),
    ],
)
def test_impossible_orders_of_codecs_are_never_stored(either: str, codecs: list[Any], error: type[Exception]) -> None:
    store = zarrdock.MemoryStore()
    with pytest.raises(error):
        zarr.create(store=ZarrStore(store), shape=(4, 4), chunks=(2, 2), dtype="i4", codecs=codecs)
    assert not list(store.list())


@pytest.mark.parametrize("depth", [1, 2])
def test_impossible_orders_inside_shards_are_not_stored_either(ours: None, depth: int) -> None:
    codecs: list[Any] = [BytesCodec(), TransposeCodec(order=(1, 0))]
    for level in range(depth):
        codecs = [ShardingCodec(chunk_shape=(2**level, 2**level), codecs=codecs)]
    store = zarrdock.MemoryStore()
    with pytest.raises(TypeError):
        zarr.create(store=ZarrStore(store), shape=(4, 4), chunks=(4, 4), dtype="i4", codecs=codecs)
    assert not list(store.list())


# -- equality ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("fill_value", [0, 3])
def test_two_arrays_of_one_place_are_equal(either: str, tmp_path: Path, zarr_format: Any, fill_value: int) -> None:
    store = ZarrStore(tmp_path / "a.zarr")
    group = zarr.open_group(store, zarr_format=zarr_format)
    group.create_array("a", shape=(4,), dtype="f4", fill_value=fill_value)
    group.create_array("b", shape=(4,), dtype="f4", fill_value=fill_value + 1)
    first, second = zarr.open_array(store, path="a"), zarr.open_array(ZarrStore(tmp_path / "a.zarr"), path="a")
    assert first == second
    assert first == pickle.loads(pickle.dumps(first))
    assert first != zarr.open_array(store, path="b")


# -- codecs that the user replaced ------------------------------------------------------------------


class LoudGzip(GzipCodec):
    """zarr-python's gzip in the user's hands: another class, which has to do the work."""

    heard: list[str] = []

    async def _encode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        self.heard.append("encode")
        return await super()._encode_single(chunk_bytes, chunk_spec)

    def _encode_sync(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        self.heard.append("encode")
        return super()._encode_sync(chunk_bytes, chunk_spec)


@pytest.fixture
def replaced() -> Iterator[list[str]]:
    register_codec("gzip", LoudGzip)
    LoudGzip.heard.clear()
    with zarr.config.set({"codecs.gzip": f"{LoudGzip.__module__}.{LoudGzip.__qualname__}"}):
        yield LoudGzip.heard


@pytest.mark.parametrize("layout", [{"chunks": (4,)}, {"chunks": (2,), "shards": (4,)}])
def test_a_codec_that_was_replaced_does_the_work(either: str, replaced: list[str], layout: dict[str, Any]) -> None:
    store = ZarrStore(zarrdock.MemoryStore())
    gzip = {"name": "gzip", "configuration": {"level": 1}}
    zarr.create_array(store, shape=(4,), dtype="i4", compressors=gzip, **layout)
    zarr.open_array(store)[:] = [1, 2, 3, 4]
    assert replaced
    assert zarr.open_array(store)[:].tolist() == [1, 2, 3, 4]


class LoudBz2(NumcodecsCodec):  # type: ignore[misc]
    """The user's class for a name that numcodecs has: it stores bytes as they are."""

    codec_id = "bz2"

    def __init__(self, level: int = 1) -> None:
        self.level = level

    def encode(self, buf: Any) -> bytes:
        return b"loud" + np.asarray(buf).tobytes()

    def decode(self, buf: Any, out: Any = None) -> Any:
        return np.frombuffer(bytes(buf)[4:], np.uint8)


def test_a_codec_of_numcodecs_that_was_replaced_does_the_work(either: str) -> None:
    own = codec_registry["bz2"]
    register_with_numcodecs(LoudBz2)
    try:
        store = zarrdock.MemoryStore()
        array = zarr.create_array(
            ZarrStore(store), shape=(4,), chunks=(4,), dtype="u1", zarr_format=2, compressors=LoudBz2()
        )
        array[:] = [1, 2, 3, 4]
        blob = store.get("0")
        assert blob is not None
        assert bytes(blob.data) == b"loud\1\2\3\4"
        assert zarr.open_array(ZarrStore(store))[:].tolist() == [1, 2, 3, 4]
    finally:
        register_with_numcodecs(own, "bz2")


class Doubled(BytesBytesCodec):
    """A name that only the user's package knows."""

    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        return cls()

    def to_dict(self) -> dict[str, Any]:
        return {"name": "test-doubled", "configuration": {}}

    async def _encode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return chunk_bytes + chunk_bytes

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return chunk_bytes[: len(chunk_bytes) // 2]

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        return 2 * input_byte_length


class DoubledLater(Doubled):
    """Takes the name over when zarrdock has met the first one already."""

    async def _encode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return chunk_bytes + chunk_bytes.from_bytes(bytes(len(chunk_bytes)))


def test_a_name_that_changes_hands_changes_hands_here_too(ours: None) -> None:
    register_codec("test-doubled", Doubled)
    store = zarrdock.MemoryStore()
    make_one: dict[str, Any] = {"shape": (2,), "chunks": (2,), "dtype": "u1"}
    zarr.create_array(ZarrStore(store), name="a", compressors=Doubled(), **make_one)[:] = [1, 2]
    zarr.create_array(ZarrStore(store), name="b", compressors=DoubledLater(), **make_one)[:] = [1, 2]
    blobs = store.read([Read("a/c/0"), Read("b/c/0")])
    assert [bytes(blob.data) for blob in blobs] == [b"\1\2\1\2", b"\1\2\0\0"]  # type: ignore[union-attr]


# -- shapes that do not fit -------------------------------------------------------------------------


def _basic(array: Any, values: Any) -> None:
    array[0:4, 0:4] = values


def _orthogonal(array: Any, values: Any) -> None:
    array.oindex[[0, 1, 3, 4], [1, 2, 3, 5]] = values


def _block(array: Any, values: Any) -> None:
    array.blocks[0:2, 1:3] = values


@pytest.mark.parametrize("write", [_basic, _orthogonal, _block])
@pytest.mark.parametrize("shape", [(3, 4), (5, 4), (4, 5), (8, 8), (3,), (2, 4), (4, 2), (0, 4)])
def test_values_of_another_shape_are_a_value_error(ours: None, write: Any, shape: tuple[int, ...]) -> None:
    array = make()
    with pytest.raises(ValueError, match="broadcast"):
        write(array, np.ones(shape, "i4"))
    assert not array[:].any()


@pytest.mark.parametrize("n", [1, 5, 7])
def test_too_few_values_for_a_mask_are_a_value_error(ours: None, n: int) -> None:
    array, mask = make(), np.zeros((6, 6), bool)
    mask[0] = True
    if n == 1:
        array.set_mask_selection(mask, np.ones(1, "i4"))
        assert array[:].sum() == 6
        return
    with pytest.raises(ValueError, match=r"broadcast|Attempting to set"):
        array.set_mask_selection(mask, np.ones(n, "i4"))
    assert not array[:].any()


@pytest.mark.parametrize("shape", [(), (4,), (1,), (1, 4), (4, 1), (4, 4)])
@pytest.mark.parametrize("write", [_basic, _orthogonal, _block])
def test_values_are_broadcast_as_numpy_does(ours: None, write: Any, shape: tuple[int, ...]) -> None:
    array, expected = make(), np.zeros((6, 6), "i4")
    values = np.arange(1, 1 + np.prod(shape, dtype=int), dtype="i4").reshape(shape)
    write(array, values)
    places = {_basic: np.s_[0:4, 0:4], _orthogonal: np.ix_([0, 1, 3, 4], [1, 2, 3, 5]), _block: np.s_[0:4, 2:6]}
    expected[places[write]] = values
    np.testing.assert_array_equal(array[:], expected)


# -- settings ---------------------------------------------------------------------------------------


@pytest.mark.skipif(
    zarr.config.get("array.rectilinear_chunks", None) is None, reason="this zarr-python has only regular grids"
)
def test_an_open_rectilinear_array_outlives_the_option(either: str) -> None:
    with zarr.config.set({"array.rectilinear_chunks": True}):
        array = make(chunks=[[2, 4], [3, 3]])
    values = np.arange(36, dtype="i4").reshape(6, 6)
    array[:] = values
    np.testing.assert_array_equal(array[1:3, 2:5], values[1:3, 2:5])


@pytest.mark.skipif(
    not hasattr(ShardingCodec(chunk_shape=(1,)), "subchunk_write_order"), reason="this zarr-python has one order only"
)
@pytest.mark.parametrize("order", ["morton", "lexicographic", "colexicographic"])
@pytest.mark.parametrize("inner", ["morton", "colexicographic"])
@pytest.mark.parametrize("shape", [(4, 4), (6, 4)])
def test_chunks_lie_in_a_shard_as_its_codec_asks(order: Any, inner: Any, shape: tuple[int, int]) -> None:
    def stored(pipeline: str, codecs: list[Any]) -> bytes:
        with zarr.config.set({"codec_pipeline.path": pipeline}):
            store = zarrdock.MemoryStore()
            array = zarr.create(store=ZarrStore(store), shape=shape, chunks=shape, dtype="u1", codecs=codecs)
            array[:] = np.arange(1, 1 + array.size, dtype="u1").reshape(shape)
            blob = store.get("c/0/0")
            assert blob is not None
            return bytes(blob.data)

    one = [ShardingCodec(chunk_shape=(1, 1), codecs=[BytesCodec()], subchunk_write_order=order)]
    two = [
        ShardingCodec(
            chunk_shape=(2, 2),
            codecs=[ShardingCodec(chunk_shape=(1, 1), codecs=[BytesCodec()], subchunk_write_order=inner)],
            subchunk_write_order=order,
        )
    ]
    for codecs in (one, two):
        assert stored(PIPELINES["zarrdock's"], codecs) == stored(PIPELINES["zarr-python's"], codecs)


# -- the store --------------------------------------------------------------------------------------


async def test_a_prototype_need_not_be_given() -> None:
    store = ZarrStore(zarrdock.MemoryStore())
    await store.set("a", zarr.core.buffer.cpu.Buffer.from_bytes(b"abc"))
    found = await store.get("a")
    assert found is not None
    assert found.to_bytes() == b"abc"


@pytest.mark.parametrize("layout", [{"zarr_format": 3}, {"zarr_format": 2, "chunk_key_encoding": "/"}])
def test_the_chunks_below_a_prefix_within_an_array_are_removed(layout: dict[str, Any]) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_group(store, zarr_format=layout.pop("zarr_format")).create_array(
        "a", data=np.ones((4, 4)), chunks=(2, 2), **layout
    )
    start = "a/c" if array.metadata.zarr_format == 3 else "a"
    peer = ZarrStore(store)
    asyncio.run(peer.delete_dir(f"{start}/1"))
    assert array[:].tolist() == [[1] * 4] * 2 + [[0] * 4] * 2
    store.write(f"{start}/0/notes.txt", b"of a user")
    with pytest.warns(UserWarning, match=r"stay there: .*notes\.txt"):
        asyncio.run(peer.delete_dir(f"{start}/0/"))
    assert not array[:].any()
    assert store.exists(f"{start}/0/notes.txt")


def test_a_folder_that_is_no_zarr_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "1").write_bytes(b"jpeg")
    with pytest.warns(UserWarning, match="stay there"):
        asyncio.run(ZarrStore(tmp_path).delete_dir("photographs"))
    assert (tmp_path / "photographs" / "1").exists()


def test_empty_folders_are_no_keys(tmp_path: Path) -> None:
    for name in ("a/b", "a/c/d", "e"):
        (tmp_path / name).mkdir(parents=True)
    store = ZarrStore(tmp_path)
    assert asyncio.run(store.is_empty(""))
    zarr.open_group(store, mode="w-", path="e")
    assert not asyncio.run(store.is_empty(""))
    assert not asyncio.run(store.is_empty("e/"))
    assert asyncio.run(store.is_empty("a"))
    (tmp_path / "a/c/d/key").write_bytes(b"")
    assert not asyncio.run(store.is_empty("a"))


@pytest.mark.server
def test_members_are_listed_over_http() -> None:
    pytest.importorskip("aiohttp")
    from zarrdock.serve.server import Server

    store = zarrdock.MemoryStore()
    root = zarrdock.create_group(store)
    for name in ("img", "a-b", "x.y_z"):
        root.create_array(name, data=np.arange(3))
    root.create_group("sub").create_array("inner", data=np.arange(4))
    with Server(store) as server:
        group = zarr.open_group(server.url, mode="r")
        assert sorted(group) == ["a-b", "img", "sub", "x.y_z"]
        assert sorted(name for name, _ in group["sub"].members()) == ["inner"]
        assert list(zarr.open_group(f"{server.url}/sub", mode="r")) == ["inner"]
        assert group["sub/inner"][:].tolist() == [0, 1, 2, 3]


def test_a_wide_prefix_is_empty_at_the_cost_of_its_depth() -> None:
    inner = zarrdock.MemoryStore()
    for i in range(50):
        inner.write(f"a/{i}/b/c", b"")
    recording = zarrdock.RecordingStore(inner, n_events=100)
    assert not asyncio.run(ZarrStore(recording).is_empty("a"))
    assert len(recording.log) == 3
