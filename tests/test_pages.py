"""Code on the pages of the documentation runs.

Blocks marked ``python`` and lines of ``sh`` blocks that begin with ``zarrdock`` run, in order, in one namespace and one
empty folder per page. Blocks marked ``py`` need something that tests have not, such as a bucket: they are compiled.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from zarrdock.cli.main import run

BLOCK = re.compile(r"^```(python|py|sh)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if BLOCK.search(path.read_text("utf-8")))


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each block, with blank lines in front: a traceback names the page's own line."""
    text = path.read_text("utf-8")
    for block in BLOCK.finditer(text):
        yield block[1], "\n" * text.count("\n", 0, block.start(2)) + block[2]


def commands(text: str) -> list[list[str]]:
    """Commands of a shell block that are zarrdock's; a backslash at the end of a line continues it."""
    lines = [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines()]
    return [words[1:] for words in lines if words[:1] == ["zarrdock"]]


def test_pages_are_found() -> None:
    assert len(PAGES) >= 10


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
@pytest.mark.filterwarnings("default")
def test_code_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for language, text in blocks(path):
        if language == "sh":
            for words in commands(text):
                assert run(words) == 0, f"zarrdock {shlex.join(words)}"
        else:
            code = compile(text, str(path), "exec")
            if language == "python":
                exec(code, names)


def test_commands_are_found_among_others() -> None:
    text = "pip install x\nzarrdock copy a b \\\n    --chunks 2,2  # both\nls\n"
    assert commands(text) == [["copy", "a", "b", "--chunks", "2,2"]]
