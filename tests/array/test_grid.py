"""Chunk grids."""

from typing import Any

import pytest

from zarrdock.array.metadata.chunk_grids import RegularGrid, parse_chunk_grid
from zarrdock.errors import MetadataError, UnknownExtensionError


def regular(chunk_shape: Any) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": chunk_shape}}


@pytest.mark.parametrize("chunk_shape", [(), (1,), (3, 4, 5), (0, 2), (2**63 - 1,)])
def test_round_trip(chunk_shape: tuple[int, ...]) -> None:
    grid = parse_chunk_grid(regular(list(chunk_shape)))
    assert grid == RegularGrid(chunk_shape)
    assert grid.to_json() == regular(list(chunk_shape))


@pytest.mark.parametrize(
    ("shape", "chunk_shape", "expected"),
    [
        ((), (), ()),
        ((10,), (3,), (4,)),
        ((9,), (3,), (3,)),
        ((1,), (100,), (1,)),
        ((0, 5), (3, 5), (0, 1)),
        ((0,), (0,), (0,)),
        ((2**62,), (1,), (2**62,)),
    ],
)
def test_number_of_chunks(shape: tuple[int, ...], chunk_shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert RegularGrid(chunk_shape).n_chunks(shape) == expected


def test_an_unknown_grid_is_named() -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        parse_chunk_grid({"name": "hexagonal", "configuration": {"side": 3}}, "/chunk_grid")
    assert (caught.value.kind, caught.value.name, caught.value.pointer) == ("chunk grid", "hexagonal", "/chunk_grid")


@pytest.mark.parametrize(
    ("json", "pointer"),
    [
        (None, ""),
        ([3], ""),
        ({"configuration": {"chunk_shape": [1]}}, ""),
        ({"name": "regular"}, "/configuration"),
        ({"name": "regular", "configuration": [1]}, "/configuration"),
        (regular(3), "/configuration/chunk_shape"),
        (regular([1, -1]), "/configuration/chunk_shape/1"),
        (regular([1, True]), "/configuration/chunk_shape/1"),
        (regular([1.0]), "/configuration/chunk_shape/0"),
        (regular([2**63]), "/configuration/chunk_shape/0"),
        ({"name": "regular", "configuration": {"chunk_shape": [1], "more": 1}}, "/configuration/more"),
    ],
)
def test_what_is_not_a_grid(json: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_chunk_grid(json, "/chunk_grid")
    assert caught.value.pointer == f"/chunk_grid{pointer}"
