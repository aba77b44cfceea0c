"""Size of the package, and the way of a few calls through it: ``python -m tools.house [--against REV] [PAGE]``.

Lines and imports are counted in the source. The walks are made in an interpreter of their own, of the working tree and,
with ``--against``, of an earlier revision too: the same calls of the public interface, counted by a profile function.
With a page (``docs/design/house.md``) the table is written between its two marks.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import logging
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeAlias

__all__ = ["Source", "circles", "code_lines", "main", "table"]

ROOT: Final = Path(__file__).resolve().parent.parent
ROOT_FOLDERS: Final = ("array", "stores", "codecs")
BEGIN: Final = "<!-- house: begin -->"
END: Final = "<!-- house: end -->"

# -- the source --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """The modules of the package in a checkout.

    Attributes:
        texts: dotted name without ``zarrdock.`` (``stores.base``) to source text.
    """

    texts: Mapping[str, str]

    @classmethod
    def of(cls, root: Path) -> Source:
        """Read the checkout at ``root``."""
        texts = {}
        for folder in ("src/zarrdock", *ROOT_FOLDERS):
            for path in sorted((root / folder).rglob("*.py")):
                inside = path.relative_to(root / "src/zarrdock" if folder.startswith("src") else root)
                texts[".".join(inside.with_suffix("").parts)] = path.read_text("utf-8")
        return cls(texts)

    def measures(self) -> dict[str, str]:
        """The rows of the table that are counted here."""
        n_lines = {name: len(text.splitlines()) for name, text in self.texts.items()}
        largest = max(n_lines, key=n_lines.__getitem__)
        rooms = [text for name, text in self.texts.items() if name.startswith(tuple(f"{f}." for f in ROOT_FOLDERS))]
        return {
            "files": f"{len(self.texts)}",
            "lines in the wheel": f"{sum(n_lines.values()):,}",
            "code lines of array + stores + codecs": f"{sum(map(code_lines, rooms)):,}",
            "import circles": f"{len(circles(self.texts))}",
            "largest file": f"{largest.replace('.', '/')}.py, {n_lines[largest]:,} lines",
        }


def code_lines(text: str) -> int:
    """Lines that hold code: no blank ones, comments or docstrings."""
    prose: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            found.update(range(token.start[0], token.end[0] + 1))
    return len(found - prose)


def circles(texts: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Groups of modules that import one another in a circle, wherever the import stands; not those for types alone."""
    arrows = {name: set(_imported(ast.parse(text).body, texts)) - {name} for name, text in texts.items()}
    # Tarjan's strongly connected components.
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: list[tuple[str, ...]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        path.append(name)
        for other in sorted(arrows[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in path:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = path.index(name)
            if len(path) - at > 1:
                found.append(tuple(sorted(path[at:])))
            del path[at:]

    for name in texts:
        if name not in index:
            visit(name)
    return found


def _imported(body: Sequence[ast.AST], texts: Mapping[str, str]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = []
            yield from _imported(list(ast.iter_child_nodes(node)), texts)
        for name in names:
            head, _, rest = name.partition(".")
            # A module, or a name in one.
            inside = rest.rpartition(".")[0]
            candidates = (rest, f"{rest}.__init__", inside, f"{inside}.__init__")
            if head == "zarrdock":
                yield from (c for c in candidates[:1] if c in texts)
                if rest not in texts:
                    yield from (c for c in candidates[1:] if c in texts)


# -- the walks ---------------------------------------------------------------------------------------------------------

BUCKET: Final = "house"
SHAPE, SHARD, CHUNK = (64, 64, 64), (32, 32, 32), (8, 8, 8)
BOX: Final = (slice(4, 12),) * 3  # 8 chunks of one shard
PART: Final = (slice(2, 6),) * 3  # within a chunk
REPEATS: Final = 8


# File in the package -> calls of its functions.
Way: TypeAlias = dict[str, int]


def length(way: Way) -> tuple[int, int]:
    """Calls and files of a walk."""
    return sum(way.values()), len(way)


class Walked:
    """Calls of functions of the package, in all threads, and the files they stand in, while it is ``on``."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.on = False
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()
        # Before any thread is started: a profile function reaches none that runs already.
        threading.setprofile(self._seen)
        sys.setprofile(self._seen)

    def _seen(self, frame: FrameType, event: str, _: object) -> None:
        if self.on and event == "call" and frame.f_code.co_filename.startswith(self.folder):
            with self._lock:
                self.calls[frame.f_code.co_filename] += 1

    def count(self, call: Callable[[], object]) -> Way:
        """The calls in each file, while ``call`` runs."""
        self.calls.clear()
        self.on = True
        try:
            call()
        finally:
            self.on = False
        return {name.removeprefix(self.folder): n for name, n in self.calls.items()}


def walk() -> dict[str, Way]:
    """Every walk: the calls in each file. To be called in a fresh interpreter."""
    import zarrdock

    walked = Walked(f"{Path(zarrdock.__file__).parent}{os.sep}")
    import numpy as np
    from moto.server import ThreadedMotoServer

    data = np.random.default_rng(0).integers(0, 2000, SHAPE).astype(np.uint16)
    new = np.ones(tuple(s.stop - s.start for s in PART), np.uint16)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line a request otherwise
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    found: dict[str, Way] = {}
    try:
        host, port = server.get_host_and_port()
        options = {"key": "k", "secret": "s", "endpoint_url": f"http://{host}:{port}"}
        import s3fs

        s3fs.S3FileSystem(**options).mkdir(BUCKET)
        with tempfile.TemporaryDirectory(prefix="zarrdock-house-") as folder:
            stores: dict[str, Callable[[], Any]] = {
                "local": lambda: zarrdock.open_store(f"{folder}/a"),
                "S3": lambda: zarrdock.open_store(f"s3://{BUCKET}/a", storage_options=options),
            }
            for place, store in stores.items():
                zarrdock.create_array(store(), data=data, chunks=CHUNK, shards=SHARD)
                # The shortest way counts: without what is imported and started when first used, and work met by chance.
                for _ in range(REPEATS):
                    target = store()
                    array = zarrdock.open_array(store(), mode="r+")
                    walks = {
                        f"open, unknown format, {place}": walked.count(partial(zarrdock.open_array, target)),
                        f"box in a shard, {place}, cold": walked.count(partial(array.__getitem__, BOX)),
                        f"box in a shard, {place}, hot": walked.count(partial(array.__getitem__, BOX)),
                        f"one element, {place}, hot": walked.count(partial(array.__getitem__, (5, 6, 7))),
                        f"part of a shard written, {place}": walked.count(partial(array.__setitem__, PART, new)),
                    }
                    found |= {name: min(way, found.get(name, way), key=length) for name, way in walks.items()}
    finally:
        server.stop()
    return found


# -- the table ---------------------------------------------------------------------------------------------------------


def walks_of(root: Path) -> dict[str, Way]:
    """The walks through the package of a checkout."""
    with tempfile.TemporaryDirectory(prefix="zarrdock-house-") as folder:
        package = Path(folder) / "zarrdock"
        package.mkdir()
        for path in [*(root / "src/zarrdock").iterdir(), *(root / name for name in ROOT_FOLDERS)]:
            (package / path.name).symlink_to(path)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(ROOT)]), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "tools.house", "--walk"]
        done = subprocess.run(command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Way] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(root: Path) -> dict[str, str]:
    """The column of a checkout."""
    column = Source.of(root).measures()
    for name, way in walks_of(root).items():
        n_calls, n_files = length(way)
        column[f"{name}: calls / files"] = f"{n_calls} / {n_files}"
    return column


def table(columns: Mapping[str, Mapping[str, str]]) -> str:
    """The columns in Markdown."""
    names = list(columns)
    rows = dict.fromkeys(row for column in columns.values() for row in column)
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(columns[name].get(row, "–") for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Measure, and print the table, or write it into a page."""
    parser = argparse.ArgumentParser(prog="python -m tools.house", description=__doc__)
    parser.add_argument("page", nargs="?", type=Path, help="a page with the two marks")
    parser.add_argument("--against", metavar="REV", help="an earlier revision, beside the working tree")
    parser.add_argument("--files", action="store_true", help="the calls in each file passed, walk by walk")
    parser.add_argument("--walk", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.walk:
        sys.stdout.write(json.dumps(walk()) + "\n")
        return 0
    if given.files:
        for name, way in walks_of(ROOT).items():
            sys.stdout.write(f"{name}: {' / '.join(map(str, length(way)))}\n")
            sys.stdout.writelines(f"  {n:4} {file}\n" for file, n in sorted(way.items(), key=lambda item: -item[1]))
        return 0
    columns = {}
    if given.against:
        with tempfile.TemporaryDirectory(prefix="zarrdock-house-") as folder:
            archive = subprocess.run(["git", "archive", given.against], cwd=ROOT, stdout=subprocess.PIPE, check=True)
            with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
                tar.extractall(folder, filter="data")
            columns[f"before ({given.against[:7]})"] = measure(Path(folder))
    columns["now"] = measure(ROOT)
    if given.page is None:
        sys.stdout.write(table(columns))
        for circle in circles(Source.of(ROOT).texts):
            sys.stdout.write(f"imports in a circle: {', '.join(circle)}\n")
        return 0
    before, begin, rest = given.page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        parser.error(f"{given.page} has no lines {BEGIN!r} and {END!r} to write the table between")
    given.page.write_text(f"{before}{begin}\n\n{table(columns)}\n{end}{after}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
