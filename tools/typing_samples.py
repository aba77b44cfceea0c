"""Put code that users write where type checkers read it: ``python -m tools.typing_samples REPOSITORY FOLDER``.

The code is the README's Python blocks, as one file, and ``tests/typing/typical_uses.py``; beside them stands a
configuration for pyright in strict mode.
"""

import json
import re
import shutil
import sys
from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def main(repository: Path, folder: Path) -> None:
    """Write the files into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (repository / "README.md").read_text("utf-8")
    blocks = [block[1] for block in BLOCK.finditer(text)]
    assert blocks, "the README has no Python block"
    (folder / "readme.py").write_text("\n".join(blocks), "utf-8")
    shutil.copy(repository / "tests" / "typing" / "typical_uses.py", folder)
    # An expression on a line of its own is how the README shows a read.
    settings = {"typeCheckingMode": "strict", "reportUnusedExpression": False}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
