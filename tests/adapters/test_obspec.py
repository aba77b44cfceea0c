"""Stores as obspec objects: its protocols, its names of errors, and zarrdock's own reader of such objects."""

import inspect
import io
import pickle
from pathlib import Path
from typing import Any

import pytest

obspec = pytest.importorskip("obspec")

from obspec.exceptions import (  # noqa: E402
    AlreadyExistsError,
    InvalidPathError,
    NotFoundError,
    NotModifiedError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    map_exception,
)

import zarrdock  # noqa: E402
from zarrdock.adapters.obspec import ObspecStore, as_obspec  # noqa: E402

pytestmark = pytest.mark.peer

DATA = bytes(range(100))
PROTOCOLS = [getattr(obspec, name) for name in obspec.__all__ if hasattr(getattr(obspec, name), "_is_protocol")]
KINDS = [
    "memory",
    "local",
    "zip",
    pytest.param("s3", marks=pytest.mark.server),
    pytest.param("gcs", marks=pytest.mark.server),
    pytest.param("azure", marks=pytest.mark.server),
]


@pytest.fixture(params=KINDS)
def obs(request: pytest.FixtureRequest, place: Any) -> ObspecStore:
    made = as_obspec(**place(request.param))
    made.put("a/k", DATA)
    return made


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.__name__)
def test_signatures(protocol: Any) -> None:
    """That types agree is checked with the package's own; that every argument is taken, here."""
    verbs = [name for name, value in vars(protocol).items() if inspect.isfunction(value) and name[0] != "_"]
    from zarrdock.adapters.obspec_answers import Got

    ours = Got if protocol.__name__.startswith("GetResult") else ObspecStore
    for verb in verbs:
        theirs = inspect.signature(getattr(protocol, verb)).parameters
        found = inspect.signature(getattr(ours, verb)).parameters
        assert [*found] == [*theirs], verb


def test_reading(obs: ObspecStore) -> None:
    got = obs.get("a/k")
    assert bytes(got.buffer()) == b"".join(map(bytes, got)) == DATA
    assert (got.meta["size"], got.range, got.attributes) == (100, (0, 100), {})
    for range_, expected in (
        ((5, 20), (5, 20)),
        ([90, 200], (90, 100)),
        ({"offset": 60}, (60, 100)),
        ({"suffix": 7}, (93, 100)),
        ({"suffix": 700}, (0, 100)),
    ):
        part = obs.get("a/k", options={"range": range_})
        assert (bytes(part.buffer()), part.range, part.meta["size"]) == (DATA[slice(*expected)], expected, 100)
    assert bytes(obs.get_range("a/k", start=3, length=4)) == bytes(obs.get_range("a/k", start=3, end=7)) == DATA[3:7]
    parts = obs.get_ranges("a/k", starts=[50, 0, 2], ends=[60, 4, 8])
    assert [*map(bytes, parts)] == [DATA[50:60], DATA[:4], DATA[2:8]]
    assert [*obs.get_ranges("a/k", starts=[], lengths=[])] == []
    assert obs.head("a/k")["size"] == 100
    assert obs.get("a/k", options={"head": True}).meta["size"] == 100


def test_versions(obs: ObspecStore) -> None:
    first = obs.get("a/k").meta["e_tag"]
    assert first is not None
    assert first == obs.head("a/k")["e_tag"]
    assert bytes(obs.get("a/k", options={"if_match": first}).buffer()) == DATA
    with pytest.raises(Exception) as caught:
        obs.get("a/k", options={"if_none_match": first})
    assert type(map_exception(caught.value)) is NotModifiedError
    obs.put("a/k", b"second", mode={"e_tag": first, "version": None})
    assert bytes(obs.get("a/k", options={"if_none_match": first}).buffer()) == b"second"
    for late in (
        lambda: obs.get("a/k", options={"if_match": first}),
        lambda: obs.put("a/k", b"third", mode={"e_tag": first}),
    ):
        with pytest.raises(zarrdock.errors.VersionChangedError) as caught:
            late()
        assert type(map_exception(caught.value)) is PreconditionError
    assert bytes(obs.get("a/k").buffer()) == b"second"


def test_writing(obs: ObspecStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    sources: list[tuple[Any, bytes]] = [
        (b"bytes", b"bytes"),
        (memoryview(b"view"), b"view"),
        (io.BytesIO(b"stream"), b"stream"),
        (tmp_path / "file", b"from a file"),
        (iter([b"in ", bytearray(b"parts")]), b"in parts"),
        (obs.get("a/k"), DATA),
    ]
    for source, expected in sources:
        obs.put("b/x", source)
        assert bytes(obs.get("b/x").buffer()) == expected
    with pytest.raises(zarrdock.errors.KeyExistsError) as caught:
        obs.put("b/x", b"", mode="create")
    assert type(map_exception(caught.value)) is AlreadyExistsError
    obs.copy("a/k", "b/y")
    with pytest.raises(FileExistsError):
        obs.copy("a/k", "b/x", overwrite=False)
    obs.rename("b/y", "c/y")
    listed = sorted((meta["path"], meta["size"]) for page in obs.list() for meta in page)
    assert listed == [("a/k", 100), ("b/x", 100), ("c/y", 100)]
    assert [meta["path"] for page in obs.list("b") for meta in page] == ["b/x"]
    assert sorted(meta["path"] for page in obs.list(offset="a/k") for meta in page) == ["b/x", "c/y"]
    level = obs.list_with_delimiter("b/")
    assert (level["common_prefixes"], [meta["path"] for meta in level["objects"]]) == ([], ["b/x"])
    assert obs.list_with_delimiter()["common_prefixes"] == ["a", "b", "c"]
    obs.delete(["a/k", "b/x", "no"])
    obs.delete("c/y")
    assert [meta for page in obs.list() for meta in page] == []


def test_errors_have_the_names_that_obspec_looks_for(obs: ObspecStore) -> None:
    locked = as_obspec(obs.store, read_only=True)
    for call, theirs, ours in (
        (lambda: obs.get("no"), NotFoundError, FileNotFoundError),
        (lambda: obs.get_range("no", start=0, end=1), NotFoundError, FileNotFoundError),
        (lambda: obs.get_ranges("no", starts=[0], ends=[1]), NotFoundError, FileNotFoundError),
        (lambda: obs.head("no"), NotFoundError, FileNotFoundError),
        (lambda: obs.get("../x"), InvalidPathError, zarrdock.errors.InvalidKeyError),
        (lambda: locked.put("x", b""), PermissionDeniedError, zarrdock.errors.ReadOnlyError),
        (lambda: obs.put("x", b"", tags={"a": "b"}), NotSupportedError, zarrdock.errors.UnsupportedError),
        (lambda: obs.get("a/k", options={"if_modified_since": 1}), NotSupportedError, zarrdock.ZarrdockError),  # type: ignore[typeddict-item]
    ):
        with pytest.raises(ours) as caught:
            call()
        assert type(map_exception(caught.value)) is theirs
    for empty in (
        lambda: obs.get_range("a/k", start=3, end=3),
        lambda: obs.get_ranges("a/k", starts=[1, 200], ends=[2, 201]),
    ):
        with pytest.raises(zarrdock.errors.RangeError):
            empty()
    with pytest.raises(TypeError, match="not both"):
        obs.get_range("a/k", start=3)


async def test_awaited(obs: ObspecStore) -> None:
    async def parts() -> Any:
        yield b"one "
        yield b"two"

    await obs.put_async("b/x", parts())
    await obs.put_async("b/y", await obs.get_async("b/x"))
    got = await obs.get_async("b/y")
    assert bytes(await got.buffer_async()) == b"".join([bytes(part) async for part in got]) == b"one two"
    part = await obs.get_async("a/k", options={"range": (5, 20)})
    assert (part.range, part.meta["size"]) == ((5, 20), 100)
    assert bytes(await obs.get_range_async("a/k", start=3, end=7)) == DATA[3:7]
    assert [*map(bytes, await obs.get_ranges_async("a/k", starts=[0], lengths=[2]))] == [DATA[:2]]
    assert (await obs.head_async("a/k"))["size"] == 100
    assert sorted([meta["path"] async for page in obs.list_async("b") for meta in page]) == ["b/x", "b/y"]
    assert len((await obs.list_with_delimiter_async("b"))["objects"]) == 2
    await obs.copy_async("b/x", "b/z")
    await obs.rename_async("b/z", "c")
    await obs.delete_async(["b/x", "b/y"])
    assert sorted([meta["path"] async for page in obs.list_async() for meta in page]) == ["a/k", "c"]


def test_near_ranges_are_one_request() -> None:
    record = zarrdock.RecordingStore(zarrdock.MemoryStore().with_costs(merge_gap_bytes=1000))
    obs = as_obspec(record)
    obs.put("k", bytes(100_000))
    before = record.n_requests
    obs.get_ranges("k", starts=[0, 90_000, 20], lengths=[10, 10, 10])
    assert (record.n_requests - before, record.n_rounds) == (2, 1)


def test_copies(tmp_path: Path) -> None:
    obs = pickle.loads(pickle.dumps(as_obspec(tmp_path)))
    obs.put("k", DATA)
    assert bytes(pickle.loads(pickle.dumps(obs)).get("k").buffer()) == DATA


def test_zarrdock_reads_what_it_hands_out() -> None:
    """Arrays through obspec's methods alone: what any other reader of obspec objects does."""
    values = zarrdock.create_array(zarrdock.MemoryStore(), shape=(40, 40), dtype="u2", chunks=(5, 5), shards=(20, 20))
    values[...] = 7
    values[3:30, 8] = 1
    through = zarrdock.open_store(as_obspec(values.store))
    assert type(through).__name__ == "ObstoreStore"
    array = zarrdock.open_array(through)
    assert (array[...] == values[...]).all()
