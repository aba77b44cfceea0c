"""The README's quick start, and every verb, on every store; and the table of it in the documentation."""

from pathlib import Path

import pytest

from support.store_verbs import STORES, VERBS, is_here, places
from tools.store_table import HEAD, main, row

PAGE = "docs/reference/stores.md"
SERVERS = ("S3", "Google", "Azure", "SFTP", "WebDAV")


@pytest.mark.parametrize(
    "store", [pytest.param(s, marks=[pytest.mark.server] if s.startswith(SERVERS) else []) for s in STORES]
)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_table_says_what_each_store_does(store: str, repository: Path, tmp_path: Path) -> None:
    if not is_here(store):
        pytest.skip("its server is not installed")
    with places(store, tmp_path) as outcomes:
        line = row(store, outcomes)
    assert line in (repository / PAGE).read_text("utf-8"), line


def test_the_table_has_all_verbs_and_no_other_store(repository: Path) -> None:
    text = (repository / PAGE).read_text("utf-8")
    lines = text[text.index(HEAD) :].partition("\n\n")[0].splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == list(STORES)
    assert "quick start" in VERBS


def test_the_tool_writes_the_table_where_it_was(repository: Path, tmp_path: Path, monkeypatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{HEAD}\n|---|\n| `memory://` | old |\n\nafter\n")
    monkeypatch.setattr("tools.store_table.STORES", {"`memory://`": STORES["`memory://`"]})
    assert main([str(page)]) == 0
    written = page.read_text()
    assert written.startswith(f"before\n\n{HEAD}\n|---")
    assert "old" not in written
    assert written.endswith("| ● |\n\nafter\n")
