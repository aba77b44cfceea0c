"""The Python of the migration page runs, and the names in its tables exist."""

import re
from pathlib import Path

import zarrdock

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_the_code_of_the_page_runs(repository: Path) -> None:
    text = (repository / "docs" / "how-to" / "coming-from-zarr-python.md").read_text("utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) >= 4
    names: dict[str, object] = {}
    exec(compile("\n".join(blocks), "coming-from-zarr-python.md", "exec"), names)


def test_the_names_in_the_tables_exist(repository: Path) -> None:
    text = (repository / "docs" / "how-to" / "coming-from-zarr-python.md").read_text("utf-8")
    public = set(re.findall(r"`(?:await )?zarrdock\.([A-Za-z_]+)", text)) | set(
        re.findall(r"zarrdock\.([A-Za-z_]+)\(", text)
    )
    assert public
    for name in public:
        assert hasattr(zarrdock, name), name
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `")]
    for theirs, ours in rows:
        shown = theirs if ours.strip().startswith("the same") else ours
        for letter, kind in (("a", zarrdock.Array), ("g", zarrdock.Group)):
            for name in re.findall(rf"`(?:await )?{letter}\.([a-z_]+)", shown):
                assert hasattr(kind, name), f"{kind.__name__}.{name}"
