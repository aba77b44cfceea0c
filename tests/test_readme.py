"""The README's Python blocks run, in order, in one namespace, in an empty folder."""

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_python_blocks_run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (repository / "README.md").read_text("utf-8")
    blocks = list(BLOCK.finditer(text))
    assert blocks, "the README has no Python block"
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        # Blank lines in front make a traceback point at the README's own line.
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], "README.md", "exec"), namespace)


def test_links_of_the_package_are_absolute() -> None:
    try:
        shown = metadata("zarrdock")
    except PackageNotFoundError:
        pytest.skip("not installed: a checkout")
    text = shown.get_payload()
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 20
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
