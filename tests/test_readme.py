"""The README's Python blocks run, in order, in one namespace, in an empty folder."""

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

import zarrdock

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
        installed = distribution("zarrdock")
    except PackageNotFoundError:
        pytest.skip("not installed: a checkout")
    if Path(str(installed.locate_file("zarrdock"))) != Path(zarrdock.__file__).parent:
        pytest.skip("another zarrdock is installed than the one under test")
    text = installed.metadata.get_payload()
    assert isinstance(text, str)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 20
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
