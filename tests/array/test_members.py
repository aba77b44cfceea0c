"""Members of a group without consolidated metadata: names in one round, all documents in the next."""

import pytest

import zarrdock
from zarrdock.array.group import walk
from zarrdock.errors import AccessError, MetadataError
from zarrdock.testing import FaultyStore, RecordingStore, StoreFault

N = 30


def make(zarr_format: int) -> zarrdock.MemoryStore:
    store = zarrdock.MemoryStore()
    group = zarrdock.create_group(store, zarr_format=zarr_format)
    for i in range(N):
        group.create_array(f"a{i:02}", shape=(i,), dtype="u1", attributes={"i": i})
    group.create_group("g").create_array("inner", shape=(3,), dtype="u1")
    store.write("folder/of/something", b"else")
    return store


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("what", ["members", "names", "walk"])
def test_rounds(zarr_format: int, what: str) -> None:
    store = RecordingStore(make(zarr_format))
    group = zarrdock.open_group(store, zarr_format=zarr_format)
    names = [f"a{i:02}" for i in range(N)] + ["g"]
    store.reset()
    match what:
        case "members":
            members = dict(group.members())
            assert list(members) == names
            assert [members[f"a{i:02}"].attrs["i"] for i in range(N)] == list(range(N))
        case "names":
            assert list(group.keys()) == names
        case "walk":
            assert [path for path, _ in walk(store, "", group.metadata)] == [*names, "g/inner"]
    n_documents = 1 if zarr_format == 3 else 3
    n_groups = 2 if what == "walk" else 1
    n_folders = N + 2 + (1 if what == "walk" else 0)
    # Listing is not counted by the recorder.
    assert (store.n_rounds, store.n_requests) == (n_groups, n_folders * n_documents)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_one_that_can_not_be_read_hides_no_other(zarr_format: int) -> None:
    document = "zarr.json" if zarr_format == 3 else ".zarray"
    store = FaultyStore(make(zarr_format), [StoreFault("read", f"a07/{document}", AccessError, count=None)])
    group = zarrdock.open_group(store, zarr_format=zarr_format)
    found = dict(walk(store, "", group.metadata))
    assert isinstance(found.pop("a07"), AccessError)
    assert len(found) == N + 1
    members = group.members()
    assert [next(members)[0] for _ in range(7)] == [f"a{i:02}" for i in range(7)]
    with pytest.raises(AccessError):
        next(members)


def test_one_whose_document_is_wrong_is_a_name_and_an_error() -> None:
    store = make(3)
    store.write("a07/zarr.json", b"{")
    group = zarrdock.open_group(store, zarr_format=3)
    assert "a07" in list(group)
    with pytest.raises(MetadataError, match="a07"):
        list(group.members())


def test_more_than_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrdock.array.node_storage._MANY", 10)
    store = RecordingStore(make(3))
    group = zarrdock.open_group(store, zarr_format=3)
    store.reset()
    assert [array.shape for _, array in group.arrays()] == [(i,) for i in range(N)]
    assert store.n_rounds == 4
