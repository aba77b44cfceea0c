"""The store of docs/how-to/write-a-store.md passes the contract, as the page says."""

import re
from pathlib import Path
from typing import Any

import pytest

from zarrdock.testing import AsyncStoreContract, StoreContract

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "write-a-store.md"


def example() -> Any:
    """The class of the page's first block."""
    names: dict[str, Any] = {"__name__": __name__}
    block = re.search(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert block is not None
    exec(compile(block[1], str(PAGE), "exec"), names)
    return names["SQLiteStore"]


# `pickle` looks for the class in this module.
SQLiteStore = example()


class InFolder:
    n_threads = 4
    n_updates = 10
    n_keys = 30

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path
        self.n = 0

    def make_store(self) -> Any:
        self.n += 1
        return SQLiteStore(self.path / f"{self.n}.db")


class TestExample(InFolder, StoreContract):
    pass


@pytest.mark.slow
class TestExampleAsync(InFolder, AsyncStoreContract):
    pass
