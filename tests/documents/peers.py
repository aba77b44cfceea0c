"""What zarr-python and TensorStore make of the corpus, each in a process of its own: a refusal may be a crash."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

PEERS = {"zarr-python": "zarr", "TensorStore": "tensorstore"}


def unpack(keys: dict[str, str], folder: Path) -> None:
    """The keys of a file of the corpus, as files."""
    for key, text in keys.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(text))


def as_bytes(text: str) -> bytes:
    """A value of the corpus."""
    prefix = "base64:"
    return base64.b64decode(text[len(prefix) :]) if text.startswith(prefix) else text.encode()


def plain(value: Any) -> Any:
    """Values as the corpus has them: lists, complex numbers as pairs, bytes in base64, NaN as text."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return "NaN" if value != value else value


def read(peer: str, folder: Path, path: str) -> Any:
    """The values of the array at ``path``. Whatever the peer raises."""
    if peer == "zarr-python":
        import zarr

        node: Any = zarr.open(folder, mode="r")
        return (node[path] if path else node)[...].tolist()
    import tensorstore

    driver = "zarr3" if (folder / path / "zarr.json").exists() else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{folder / path}/"}}
    return tensorstore.open(spec, read=True).result().read().result().tolist()


def verdicts(peer: str, files: list[Path]) -> dict[str, str]:
    """Of each file ``reads``, ``reads [...]`` where that is something else, or ``refuses`` and how."""
    command = [sys.executable, __file__, peer, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def verdict(peer: str, file: Path) -> str:
    """What the peer makes of one file; in this process."""
    document = json.loads(file.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        unpack(document["keys"], Path(folder))
        try:
            found = plain(read(peer, Path(folder), document["path"]))
        except Exception as error:  # of another library's, of any kind
            return f"refuses: {type(error).__name__}"
    return "reads" if found == document["values"] else f"reads {json.dumps(found)}"


def record(folder: Path) -> None:
    """Add the versions that are installed to ``peers.json``, and write ``README.md``."""
    files = sorted((folder / "corpus").glob("*.json"))
    path = folder / "peers.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for name, package in PEERS.items():
        found.setdefault(name, {})[version(package)] = verdicts(name, files)
    path.write_text(json.dumps(found, indent=2) + "\n")
    (folder / "README.md").write_text(readme(folder), encoding="utf-8")


def readme(folder: Path) -> str:
    """The page: every file of the corpus, and who reads it."""
    found = json.loads((folder / "peers.json").read_text())
    columns = [(name, number) for name in PEERS for number in sorted(found[name], key=_number, reverse=True)]
    rows = []
    for file in sorted((folder / "corpus").glob("*.json")):
        case = json.loads(file.read_text(encoding="utf-8"))
        told = (found[name][number][file.stem] for name, number in columns)
        rows.append("| " + " | ".join((f"`{file.stem}`", case["what"].replace("|", r"\|"), case["who"], *told)) + " |")
    heads = " | ".join(f"{name} {number}" for name, number in columns)
    return _PAGE.format(heads=heads, rules="|".join(["---"] * (3 + len(columns))), rows="\n".join(rows))


def _number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


_PAGE = """# Documents that others write

One small hierarchy a file, each with a document that breaks the specification, or keeps it in a way that not everybody
expects, as the programs that write it do. `make.py` wrote them (`python tests/documents/make.py --peers`, with
zarr-python and TensorStore installed, also asks these two, and writes this page). zarrdock reads all of them:
`test_documents.py`. The page for users is `docs/reference/documents.md`.

| file | what | who writes it | {heads} |
|{rules}|
{rows}
"""


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    print(json.dumps({Path(name).stem: verdict(sys.argv[1], Path(name)) for name in sys.argv[2:]}))
