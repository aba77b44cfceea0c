"""Members of a group without consolidated metadata: names in one round, all documents in the next."""

import pytest

import zarrdock
from zarrdock.array.group import walk
from zarrdock.errors import AccessError
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
    # Listing is not counted by the recorder. In v2 two documents an array, and a third of what is none.
    n_levels, n_arrays, n_others = (2, N + 1, 2) if what == "walk" else (1, N, 2)
    if zarr_format == 3:
        assert (store.n_rounds, store.n_requests) == (n_levels, n_arrays + n_others)
    else:
        assert (store.n_rounds, store.n_requests) == (n_levels + 1, 2 * n_arrays + 3 * n_others)


def grow(group: zarrdock.Group, width: int, depth: int) -> list[str]:
    """Groups in groups, each with two arrays; the paths of all nodes below, depth first."""
    found: list[str] = []
    for name in ("a0", "a1"):
        group.create_array(name, shape=(3,), dtype="u1")
        found.append(name)
    for i in range(width if depth else 0):
        found += [f"g{i}", *(f"g{i}/{path}" for path in grow(group.create_group(f"g{i}"), width, depth - 1))]
    return found


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("width,depth", [(1, 4), (3, 2), (7, 1)])
def test_a_hierarchy_costs_rounds_by_its_depth_not_its_width(zarr_format: int, width: int, depth: int) -> None:
    inner = zarrdock.MemoryStore()
    paths = grow(zarrdock.create_group(inner, zarr_format=zarr_format), width, depth)
    store = RecordingStore(inner, n_events=10_000)
    group = zarrdock.open_group(store, zarr_format=zarr_format)
    store.reset()
    assert [path for path, _ in walk(store, "", group.metadata)] == paths
    n_groups = sum(width**level for level in range(depth + 1))
    # The lowest level has no groups, which v2 has to ask for.
    assert store.n_rounds == (depth + 1 if zarr_format == 3 else 2 * depth + 1)
    assert len([event for event in store.log if event.verb == "list_dir"]) == n_groups


def test_levels_wider_than_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrdock.array.hierarchy._MANY", 2)
    store = zarrdock.MemoryStore()
    group = zarrdock.create_group(store)
    paths = grow(group, 5, 2)
    assert [path for path, _ in walk(store, "", group.metadata)] == paths


def test_a_group_that_can_not_be_listed_hides_none_before_it() -> None:
    inner = zarrdock.MemoryStore()
    group = zarrdock.create_group(inner)
    paths = grow(group, 3, 1)
    store = FaultyStore(inner, [StoreFault("list_dir", "g1", AccessError, count=None)])
    found = []
    with pytest.raises(AccessError):
        found += [found.append(path) for path, _ in walk(store, "", group.metadata)]
    assert found == paths[: paths.index("g1") + 1]


def test_one_sub_hierarchy_has_consolidated_metadata_and_another_not() -> None:
    store = zarrdock.MemoryStore()
    group = zarrdock.create_group(store)
    paths = grow(group, 2, 2)
    zarrdock.consolidate_metadata(store, path="g0")
    assert [path for path, _ in walk(store, "", group.metadata)] == paths


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
    errors: dict[str, Exception] = {}
    assert len(list(group.members(on_error=errors.__setitem__))) == N
    assert isinstance(errors.pop("a07"), AccessError)
    assert not errors


@pytest.mark.parametrize("consolidated", [False, True])
def test_one_whose_document_is_wrong_is_a_name_and_an_error(consolidated: bool) -> None:
    store = make(3)
    document = bytes(store.get("a07/zarr.json").data)  # type: ignore[union-attr]
    store.write("a07/zarr.json", document.replace(b"int", b"magic"))
    if consolidated:
        zarrdock.consolidate_metadata(store)
    store.write("a08/zarr.json", b"{")
    group = zarrdock.open_group(store, zarr_format=3)
    assert {"a07", "a08"} <= set(group)
    with pytest.warns(RuntimeWarning, match="is left out"):
        names = [name for name, _ in group.members()]
    assert names == [name for name in group if name != "a07" and (consolidated or name != "a08")]
    errors: dict[str, Exception] = {}
    assert [name for name, _ in group.members(on_error=errors.__setitem__)] == names
    assert set(errors) == set(group) - set(names)
    assert "a07" in group.tree()


def test_more_than_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrdock.array.node_storage._MANY", 10)
    store = RecordingStore(make(3))
    group = zarrdock.open_group(store, zarr_format=3)
    store.reset()
    assert [array.shape for _, array in group.arrays()] == [(i,) for i in range(N)]
    assert store.n_rounds == 4
