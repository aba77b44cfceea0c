"""What a refused write may conclude from the tokens it finds: held against every interleaving of a small model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrdock.stores.conditions import MAX_LINEAGE, Lineage, landed


@given(tokens=st.lists(st.text("0123456789abcdef", min_size=1, max_size=12), max_size=MAX_LINEAGE), whole=st.booleans())
def test_text_and_back(tokens: list[str], whole: bool) -> None:
    lineage = Lineage(tuple(tokens), whole or not tokens)
    assert Lineage.parse(str(lineage)) == lineage


@pytest.mark.parametrize("text", [None, "", ",", ",,,"])
def test_nothing_is_a_whole_lineage_without_tokens(text: str | None) -> None:
    assert Lineage.parse(text) == Lineage()


def test_fits_in_the_metadata_of_s3() -> None:
    lineage = Lineage()
    for i in range(200):
        lineage = lineage.then(f"{i:012x}")
        assert len(lineage.tokens) <= MAX_LINEAGE
    assert not lineage.is_whole
    assert len(str(lineage)) < 1024  # S3 allows 2 KiB for all of it


# An object's history: what happened between our reading of it and our look at it after the refusal.
events = st.lists(st.sampled_from(["ours", "update", "replace"]), max_size=12)


@given(before=st.integers(0, 80), events=events, forgetful=st.booleans())
def test_never_wrong(before: int, events: list[str], forgetful: bool) -> None:
    """``forgetful`` is a service whose lineage knows only the write before: Google Cloud Storage, by generation."""

    def then(lineage: Lineage, token: str) -> Lineage:
        parent = Lineage(lineage.tokens[:1], is_whole=False) if forgetful and lineage.tokens else lineage
        return parent.then(token)

    now = Lineage()
    for i in range(before):
        now = then(now, f"b{i}")
    parent = Lineage(now.tokens[:1], is_whole=False) if forgetful and now.tokens else now
    applied = visible = False
    for i, event in enumerate(events):
        if event == "ours" and not applied and (i == 0 or events[:i] == ["ours"] * i):
            now, applied, visible = then(now, "mine"), True, True  # only while nothing else has happened
        elif event == "update":
            now = then(now, f"u{i}")
        elif event == "replace":
            now, visible = Lineage(), False
    verdict = landed("mine", parent, now)
    if verdict is True:
        assert applied
        assert visible
    elif verdict is False:
        assert not visible  # so making the change now counts it once
    else:
        assert forgetful or len(now.tokens) == MAX_LINEAGE


@given(before=st.integers(0, 80), n_updates=st.integers(0, MAX_LINEAGE - 1), ours=st.booleans())
def test_decides_for_as_many_writes_as_tokens(before: int, n_updates: int, ours: bool) -> None:
    now = Lineage()
    for i in range(before):
        now = now.then(f"b{i}")
    parent = now
    if ours:
        now = now.then("mine")
    for i in range(n_updates):
        now = now.then(f"u{i}")
    if ours or before == 0 or n_updates < MAX_LINEAGE - 1:
        assert landed("mine", parent, now) is ours
