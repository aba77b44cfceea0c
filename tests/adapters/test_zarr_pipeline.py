"""zarr-python's arrays, read and written by zarrdock's codec pipeline: the peer's own indexing on both sides."""

import pickle
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")

from zarr.abc.codec import BytesBytesCodec  # noqa: E402
from zarr.core.array_spec import ArraySpec  # noqa: E402
from zarr.core.buffer import Buffer  # noqa: E402
from zarr.registry import register_codec  # noqa: E402

import zarrdock  # noqa: E402
from zarrdock.adapters.zarr_python import CodecPipeline, ZarrStore  # noqa: E402
from zarrdock.stores.base import Read, Results  # noqa: E402

pytestmark = pytest.mark.peer

SHAPE = (50, 47)
KINDS = [(3, (16, 16)), (3, None), (2, None)]


@pytest.fixture
def handed_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """The pipeline in use; filled with whether zarr-python had to do each batch itself."""
    seen: list[bool] = []
    wanted = CodecPipeline._wanted

    def watched(self: CodecPipeline, *arguments: Any) -> Any:
        found = wanted(self, *arguments)
        seen.append(found is None)
        return found

    monkeypatch.setattr(CodecPipeline, "_wanted", watched)
    with zarr.config.set({"codec_pipeline.path": "zarrdock.adapters.zarr_python.CodecPipeline"}):
        yield seen


def make(store: Any, zarr_format: int = 3, shards: Any = None, **more: Any) -> Any:
    sharded = {"shards": shards} if shards else {}
    defaults: dict[str, Any] = {"shape": SHAPE, "dtype": "i4", "chunks": (8, 8), "fill_value": 7}
    return zarr.create_array(store, zarr_format=zarr_format, **sharded, **defaults | more)


def filled(array: Any) -> Any:
    values = np.random.default_rng(0).integers(0, 99, array.shape).astype(array.dtype)
    array[...] = values
    return values


@pytest.mark.parametrize("zarr_format,shards", KINDS)
def test_slices(handed_back: list[bool], zarr_format: int, shards: Any) -> None:
    array = make(ZarrStore(zarrdock.MemoryStore()), zarr_format, shards)
    assert (array[...] == 7).all()
    reference = filled(array)
    selections = (
        np.s_[...],
        np.s_[3:20:3, 5],
        np.s_[7, :],
        np.s_[10:48, 1:47:9],
        np.s_[3, 4],
        np.s_[..., 2:3],
        np.s_[::20, ::9],
        np.s_[49:],
    )
    for selection in selections:
        np.testing.assert_array_equal(array[selection], reference[selection])
        reference[selection] += 1
        array[selection] = reference[selection]
        np.testing.assert_array_equal(array[...], reference)
        array[selection] = reference[selection] = 5
        np.testing.assert_array_equal(array[...], reference)
    np.testing.assert_array_equal(array.blocks[1], reference[16:32] if shards else reference[8:16])
    assert handed_back
    assert not any(handed_back)


@pytest.mark.parametrize("zarr_format,shards", KINDS)
@pytest.mark.parametrize(
    "rows,columns",
    [
        ([1, 30, 2, 2], slice(3, 9)),
        ([5, 9], [40, 1, 2]),
        (3, [5, 1]),
        (np.arange(50) % 3 == 0, slice(None)),
        (slice(4, 44, 7), np.arange(47) % 2 == 1),
        (slice(4, 44), 3),
    ],
)
def test_orthogonal(handed_back: list[bool], zarr_format: int, shards: Any, rows: Any, columns: Any) -> None:
    array = make(ZarrStore(zarrdock.MemoryStore()), zarr_format, shards)
    reference = filled(array)
    mesh = np.ix_(*(np.atleast_1d(np.arange(n)[axis]) for n, axis in zip(SHAPE, (rows, columns), strict=True)))
    expected = reference[mesh].squeeze(tuple(i for i, axis in enumerate((rows, columns)) if isinstance(axis, int)))
    np.testing.assert_array_equal(array.oindex[rows, columns], expected)
    if len(np.unique(mesh[0])) == mesh[0].size:
        array.oindex[rows, columns] = expected + 1
        reference[mesh] += 1
        np.testing.assert_array_equal(array[...], reference)
    assert not any(handed_back)


@pytest.mark.parametrize("zarr_format,shards", KINDS)
def test_points_and_masks(handed_back: list[bool], zarr_format: int, shards: Any) -> None:
    array = make(ZarrStore(zarrdock.MemoryStore()), zarr_format, shards)
    reference = filled(array)
    array.vindex[[1, 30, 2], [4, 9, 40]] = [9, 8, 7]
    reference[[1, 30, 2], [4, 9, 40]] = [9, 8, 7]
    points = [1, 30, 2, 1], [40, 9, 4, 40]
    np.testing.assert_array_equal(array.vindex[points], reference[points])
    mask = reference > 50
    np.testing.assert_array_equal(array.get_mask_selection(mask), reference[mask])
    array.set_mask_selection(mask, 0)
    reference[mask] = 0
    np.testing.assert_array_equal(array[...], reference)
    assert not any(handed_back)


@pytest.mark.parametrize("selection", [[3, 1, 17], np.arange(20) % 3 == 0, slice(1, 19, 4)])
def test_one_dimension(handed_back: list[bool], selection: Any) -> None:
    array = make(ZarrStore(zarrdock.MemoryStore()), shape=(20,), chunks=(4,), shards=(8,))
    reference = filled(array)
    np.testing.assert_array_equal(array.oindex[selection], reference[selection])
    array.oindex[selection] = 1
    reference[selection] = 1
    np.testing.assert_array_equal(array[...], reference)
    assert not any(handed_back)


def test_no_dimensions_at_all(handed_back: list[bool]) -> None:
    array = make(ZarrStore(zarrdock.MemoryStore()), shape=(), chunks=())
    assert array[()] == 7
    array[()] = 3
    assert array[()] == 3
    assert not any(handed_back)


def test_what_is_written_after_a_resize(handed_back: list[bool]) -> None:
    array = make(ZarrStore(zarrdock.MemoryStore()), shards=(16, 16))
    array.resize((90, 47))
    array[60:] = 3
    assert (array[60:] == 3).all()
    assert (array[:60] == 7).all()


@pytest.mark.parametrize("write_empty_chunks", [False, True])
@pytest.mark.parametrize("shards", [None, (16, 16)])
def test_empty_chunks_are_written_where_that_is_asked_for(
    handed_back: list[bool], shards: Any, write_empty_chunks: bool
) -> None:
    store = zarrdock.MemoryStore()
    array = make(ZarrStore(store), shards=shards, config={"write_empty_chunks": write_empty_chunks})
    array[:16, :16] = 7
    assert (len([*store.list("c")]) > 0) == write_empty_chunks


def test_shards_are_read_side_by_side_and_their_indexes_once(handed_back: list[bool]) -> None:
    memory = zarrdock.MemoryStore()
    filled(make(ZarrStore(memory), shards=(16, 16)))
    record = zarrdock.RecordingStore(memory)
    array = zarr.open_array(ZarrStore(record), mode="r", zarr_format=3)
    before = record.n_rounds
    assert array[4:30, 5].shape == (26,)
    assert record.n_rounds - before == 2  # the indexes of two shards, then their chunks
    assert array[4:30, 9].shape == (26,)
    assert record.n_rounds - before == 3


def write_together(open_store: Any, n: int) -> Any:
    array = make(open_store, shape=(64, 8), chunks=(8, 8), shards=(64, 8), fill_value=0)
    errors: list[BaseException] = []

    def work(i: int) -> None:
        try:
            array[i * 8 : (i + 1) * 8] = i + 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    return np.count_nonzero(array[: n * 8, 0])


def test_eight_writers_of_one_shard(handed_back: list[bool], tmp_path: Path) -> None:
    for store in (ZarrStore(zarrdock.MemoryStore()), ZarrStore(tmp_path / "a.zarr")):
        assert write_together(store, 8) == 64


class Together(zarrdock.MemoryStore):
    """Answers the first reads of a shard only when all writers have asked: what a slow network does now and then."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.barrier = threading.Barrier(n)
        self.left = n

    def read(self, requests: Sequence[Read], /) -> Results:
        results = super().read(requests)
        if self.left and any(request.key.startswith("c/") for request in requests):
            self.left -= 1
            self.barrier.wait(20)
        return results


def test_zarr_pythons_own_pipeline_loses_updates() -> None:
    """Not what zarrdock does, but why it is there: with the same store, the peer reads, changes and writes back."""
    assert write_together(ZarrStore(Together(4)), 4) < 32


def test_a_read_only_store_is_not_written_to(handed_back: list[bool]) -> None:
    store = ZarrStore(zarrdock.MemoryStore())
    make(store)
    array = zarr.open_array(store, mode="r")
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


class Inverted(BytesBytesCodec):
    """A codec that was registered for zarr-python."""

    is_fixed_size = True

    @classmethod
    def from_dict(cls, data: Any) -> "Inverted":
        return cls()

    def to_dict(self) -> Any:
        return {"name": "inverted"}

    def compute_encoded_size(self, input_byte_length: int, _: ArraySpec) -> int:
        return input_byte_length

    async def _decode_single(self, chunk: Buffer, spec: ArraySpec) -> Buffer:
        return spec.prototype.buffer.from_array_like(~np.asarray(chunk.as_array_like()).view("u1"))

    _encode_single = _decode_single


class Nameless(Inverted):
    """A codec that nobody was told of: an array can be made with it, in one process."""

    def to_dict(self) -> Any:
        return {"name": "nameless"}


@pytest.mark.parametrize("codec", [Inverted, Nameless])
def test_codecs_that_only_zarr_python_knows(handed_back: list[bool], codec: type[Inverted]) -> None:
    register_codec("inverted", Inverted)
    store = zarrdock.MemoryStore()
    array = make(ZarrStore(store), compressors=[codec()])
    reference = filled(array)
    np.testing.assert_array_equal(array[3:20, 5], reference[3:20, 5])
    # zarrdock takes codecs that are registered for zarr-python; others are left to zarr-python's own pipeline.
    assert set(handed_back) == {codec is Nameless}
    blob = store.get("c/0/0")
    assert blob is not None
    assert (~np.frombuffer(blob.data, "u1")).view("<i4")[0] == reference[0, 0]


def test_structs(handed_back: list[bool]) -> None:
    array = zarr.create_array(
        ZarrStore(zarrdock.MemoryStore()), shape=(9,), chunks=(4,), dtype=[("a", "i4"), ("b", "f8")], zarr_format=2
    )
    values = np.array([(i, i / 2) for i in range(9)], array.dtype)
    array[...] = values
    np.testing.assert_array_equal(array[2:7], values[2:7])


def test_arrays_pickle_with_their_pipeline(handed_back: list[bool], tmp_path: Path) -> None:
    array = make(ZarrStore(tmp_path / "a.zarr"), shards=(16, 16))
    reference = filled(array)
    copy = pickle.loads(pickle.dumps(array))
    assert isinstance(copy._async_array.codec_pipeline, CodecPipeline)
    np.testing.assert_array_equal(copy[3:20], reference[3:20])
    assert not any(handed_back)


def test_a_damaged_chunk_says_where(handed_back: list[bool]) -> None:
    store = zarrdock.MemoryStore()
    filled(array := make(ZarrStore(store)))
    store.write("c/1/2", b"nonsense")
    with pytest.raises(zarrdock.ZarrdockError, match="c/1/2"):
        array[8:16, 16:24]
