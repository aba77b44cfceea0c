from collections.abc import Sequence
from typing import Any, Literal

#: Names of the codecs that were built in, each with the version of its library.
codecs: dict[str, str]

class Chain:
    def __new__(
        cls,
        steps: tuple[tuple[str, int, int] | tuple[str, int, int, tuple[int, ...] | None], ...],
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        itemsize: int,
        unit: int,
        is_boolean: bool,
        limit: int,
        /,
    ) -> Chain: ...

def decode(
    groups: list[tuple[Any, ...]], out: Any, n_threads: int, release: bool, /
) -> Sequence[tuple[int, int]] | None: ...
def encode(
    chain: Chain,
    swapped: bool,
    array: Any,
    numbers: Any,
    inner: tuple[list[slice], ...],
    outer: tuple[list[slice], ...],
    fill: bytes | None,
    n_threads: int,
    release: bool,
    /,
) -> list[bytes | Literal[False] | None]: ...
