"""Docstrings say the thing first."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

# A sentence that begins so names no thing: a reader has to translate it first.
FORBIDDEN = frozenset({"What", "Of", "That", "Those", "Whether", "Where", "Whoever"})


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring in a file."""
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text


def first_word(text: str) -> str:
    found = re.search(r"\w+", text)
    return found[0] if found else ""


def test_a_docstring_says_the_thing_first(repository: Path) -> None:
    folders = ("src", "stores", "array", "codecs", "tools", "tests/support")
    paths = [path for folder in folders for path in sorted((repository / folder).rglob("*.py"))]
    found = [(path, line, text) for path in paths for line, text in docstrings(path)]
    assert len(found) > 1000
    wrong = [
        f"{path.relative_to(repository)}:{line}: {text.splitlines()[0]}"
        for path, line, text in found
        if first_word(text) in FORBIDDEN
    ]
    assert wrong == []


def test_the_first_word_is_found_behind_marks() -> None:
    assert first_word("``Whether`` it is so") in FORBIDDEN
    assert first_word("whether is another word") not in FORBIDDEN
    assert first_word("") == ""


# Files of other projects.
ELSEWHERE = {"backends/zarr.py"}


def test_files_named_in_docstrings_are_there(repository: Path) -> None:
    paths = [path for folder in ("src", "stores", "array", "codecs") for path in (repository / folder).rglob("*.py")]
    named = [
        (path, name)
        for path in paths
        for _, text in docstrings(path)
        for name in re.findall(r"`([\w/]+\.py)`", text)
        if name not in ELSEWHERE
    ]
    assert len(named) > 10
    places = (repository, repository / "array", repository / "src/zarrdock")
    wrong = [
        f"{path.relative_to(repository)}: {name}"
        for path, name in named
        if not any((place / name).exists() for place in (path.parent, *places))
    ]
    assert wrong == []
