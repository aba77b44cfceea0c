"""Links and paths in the documentation lead somewhere. Building the site checks anchors as well."""

import re
from pathlib import Path

import pytest

LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w/.-])docs/[\w/.-]+\.(?:md|ipynb|png|svg|json)\b")
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def texts(repository: Path) -> dict[Path, str]:
    """Every text file of the checkout that may name a page."""
    folders = ("docs", "src", "stores", "array", "codecs", "tools", "tests", "benchmarks")
    paths = [path for folder in folders for path in (repository / folder).rglob("*")] + [*repository.glob("*.*")]
    named = [path for path in paths if path.suffix in {".md", ".py", ".toml", ".ini", ".yml"}]
    return {path: path.read_text("utf-8") for path in named if "node_modules" not in path.parts}


def test_relative_links_lead_somewhere(texts: dict[Path, str]) -> None:
    pages = {path: text for path, text in texts.items() if path.suffix == ".md"}
    assert len(pages) > 30
    broken = [
        f"{path}: {target}"
        for path, text in pages.items()
        for target in LINK.findall(CODE.sub("", text))
        if not re.match(r"[a-z]+:|#", target) and not (path.parent / target.partition("#")[0]).exists()
    ]
    assert broken == []


def test_pages_that_are_named_are_there(repository: Path, texts: dict[Path, str]) -> None:
    named = [(path, page) for path, text in texts.items() for page in PATH.findall(text)]
    assert len(named) > 30
    assert [f"{path}: {page}" for path, page in named if not (repository / page).exists()] == []
