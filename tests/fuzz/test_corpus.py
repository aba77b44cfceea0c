"""Inputs that once did what no input may, and random ones by hypothesis.

A file of the corpus is named after its target and its number (see ``support.storms.targets``), and is given to
it by every number: that chooses the way it is read.
"""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.storms import fuzz
from support.storms.targets import TARGETS, Target

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@cache
def target(name: str) -> Target:
    return TARGETS[name][0]()


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_inputs_that_once_did_harm(path: Path) -> None:
    name = path.name.partition("-")[0]
    for number in range(24):
        assert fuzz.feed(target(name), path.read_bytes(), number) is None
    fuzz.replay(name, path.read_bytes())


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "replies"])
def test_any_bytes(name: str) -> None:
    @given(st.binary(max_size=200), st.integers(0, 47))
    def try_it(data: bytes, number: int) -> None:
        assert fuzz.feed(target(name), data, number) is None

    try_it()
