"""The helper stores do what their tests rely on."""

import inspect
from typing import Any

import pytest

import zarrdock
from support.stores import AbleStore, HookedStore, WithTraits, remote
from zarrdock.errors import UnsupportedError
from zarrdock.stores.base import Patch, Read, Store

# Every verb of a store: arguments to call it with.
VERBS: dict[str, tuple[Any, ...]] = {
    "read": ([Read("k")],),
    "aread": ([Read("k")],),
    "submit_read": ([[Read("k")]],),
    "get": ("k",),
    "write": ("k", b"new"),
    "update": ("k", lambda old: old),
    "patch": ("k", lambda old: Patch(2, [])),
    "delete": ("k",),
    "delete_many": (["k", "l"],),
    "delete_prefix": ("k",),
    "list": ("",),
    "list_dir": ("",),
    "list_dirs": (["", "a"],),
    "size": ("k",),
    "sizes": (["k", "l"],),
    "exists": ("k",),
}
# What asks nothing of the store, and lazy reads: a wrapper that overrides ``read`` has none.
NO_VERBS = {"above", "close", "origins", "pipeline_url", "read_lazily", "url_of", "with_costs"}


def test_all_verbs_are_known() -> None:
    names = {name for name, value in vars(Store).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert names - NO_VERBS == set(VERBS), "a new verb of stores: HookedStore must call its hooks for it"
    assert HookedStore(AbleStore()).read_lazily([Read("k")]) is None


@pytest.mark.parametrize("verb", VERBS)
async def test_no_call_passes_the_hooks_by(verb: str) -> None:
    before: list[str] = []
    after: list[str] = []
    inside = AbleStore()
    inside.write("k", b"old")
    store = HookedStore(inside, lambda event: before.append(event.verb), lambda event: after.append(event.verb))
    done = getattr(store, verb)(*VERBS[verb])
    if inspect.isawaitable(done):
        await done
    elif verb == "submit_read":
        done[0].result(10)
    assert before == after != []


def test_a_hook_that_raises_keeps_the_call_away() -> None:
    def refuse(event: object) -> None:
        raise UnsupportedError("no")

    inside = zarrdock.MemoryStore()
    with pytest.raises(UnsupportedError):
        HookedStore(inside, refuse).write("k", b"")
    assert not inside.exists("k")


def test_traits_are_kept_to() -> None:
    inside = zarrdock.MemoryStore()
    inside.write("k", b"value")
    assert remote(inside).traits.remote
    unversioned = WithTraits(inside, conditional_read=False)
    version = inside.get("k").version  # type: ignore[union-attr]
    inside.write("k", b"other")
    found = unversioned.get("k", version=version)
    assert found is not None
    assert (bytes(found.data), found.version) == (b"other", None)
    with pytest.raises(UnsupportedError, match="atomic"):
        WithTraits(inside, atomic_update=False).update("k", lambda old: old)
    with pytest.raises(AssertionError, match="not listable"):
        WithTraits(inside, listable=False).list()
