from collections.abc import Sequence
from typing import Any

#: Names of the codecs that were built in, each with the version of its library.
codecs: dict[str, str]

class Chain:
    def __new__(
        cls,
        steps: tuple[tuple[str, int, int], ...],
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
