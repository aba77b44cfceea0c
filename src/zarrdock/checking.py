"""Check the integrity of stored hierarchies: metadata, shard indexes, checksums; every chunk is decoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from zarrdock.array.execution.drivers import result_of
from zarrdock.array.hierarchy import nodes_below
from zarrdock.array.metadata.other_separator import explain, other_keys
from zarrdock.array.metadata.v3 import ArrayMetadata, Node
from zarrdock.array.node_storage import node_path
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.shard_tree import Place, walk_shards
from zarrdock.array.stored_objects import stored_objects
from zarrdock.codecs.checksums import has_checksum
from zarrdock.config import config
from zarrdock.copying.parallel import in_parallel
from zarrdock.copying.progress import MARK, Mark, below
from zarrdock.copying.sources import load_root
from zarrdock.errors import (
    CodecError,
    NodeNotFoundError,
    ShardIndexError,
    StoreError,
    VersionChangedError,
    ZarrdockError,
)
from zarrdock.ranges import Range, Span
from zarrdock.stores.base import Blob, Buffer, Entry, Read, Store
from zarrdock.stores.local import LocalStore
from zarrdock.stores.open import open_store

__all__ = ["Counts", "Problem", "Report", "check"]

_WINDOW_BYTES = 8 * 2**20
_DOCUMENTS = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata", MARK})
_N_REMOTE = 16
_KEPT_CHANGING = "other writers kept changing it, so it was not checked: check again"


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem that was found.

    Attributes:
        severity: "error" where data or metadata cannot be read; "warning" where it can, but should be looked after.
        path: of the node. key: of the object, where it is one. chunk: coordinates of the chunk in the array's grid of
            (inner) chunks, where it is one.
        message: one line.

    >>> array = zarrdock.create_array({}, data=np.arange(8), chunks=4, compressors=zarrdock.Zstd())
    >>> _ = array.store.write("c/0", b"broken")
    >>> [problem] = zarrdock.tools.check(array.store).problems
    >>> problem.severity, problem.key
    ('error', 'c/0')

    As text it is one line, as ``zarrdock check`` prints it:

    >>> str(problem).startswith("error: /: zstd: cannot decode key 'c/0', chunk (0,)")
    True
    """

    severity: Literal["error", "warning"]
    path: str
    message: str
    key: str = ""
    chunk: tuple[int, ...] | None = None

    def __str__(self) -> str:
        # Errors of codecs and metadata name key and chunk themselves.
        text = " ".join(self.message.split())
        key = f" [{self.key}]" if self.key and repr(self.key) not in text else ""
        return f"{self.severity}: /{self.path}: {text}{key}"


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of a check: nodes, objects that hold chunks, chunks decoded, and bytes read for them."""

    n_groups: int = 0
    n_arrays: int = 0
    n_objects: int = 0
    n_chunks: int = 0
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of :func:`check`.

    Attributes:
        unverified: paths of arrays with chunks that no checksum covers: damage of those that still decodes is not seen.

    >>> array = zarrdock.create_array({}, data=np.arange(8), chunks=4)
    >>> report = zarrdock.tools.check(array.store)
    >>> report.counts.n_chunks, report.problems, report.unverified
    (2, (), ())
    """

    counts: Counts
    problems: tuple[Problem, ...]
    unverified: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """True where there are no errors; warnings may be there."""
        return not any(problem.severity == "error" for problem in self.problems)


def check(
    store: Any,
    *,
    path: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: Callable[[str, Counts], None] | None = None,
    found: Callable[[Problem], None] | None = None,
    missing: bool = False,
) -> Report:
    """Read and decode everything below a node, and report every problem.

    Args:
        store: anything :func:`zarrdock.open_store` takes. path: of the node within it.
        storage_options: options of the fsspec filesystem that a URL leads to.
        progress: called now and then with the path of the array at work and the counts so far.
        found: called with each problem when it is found.
        missing: warn of arrays that lack chunks, and say how many; chunks of shards that cannot be read count too.
    Raises:
        NodeNotFoundError: there is no node. AccessError, StoreError: the store as a whole cannot be read.

    >>> array = zarrdock.create_array({}, data=np.arange(8), chunks=4)
    >>> zarrdock.tools.check(array.store).problems
    ()
    """
    opened = open_store(store, storage_options=dict(storage_options) if storage_options else None, read_only=True)
    checker = _Checker(opened, node_path(path), progress, found, missing)
    checker.run()
    return Report(checker.counts, tuple(checker.problems), tuple(checker.unverified))


class _Checker:
    def __init__(
        self,
        store: Store,
        path: str,
        progress: Callable[[str, Counts], None] | None,
        found: Callable[[Problem], None] | None,
        missing: bool,
    ) -> None:
        self.store = store
        self.path = path
        self.problems: list[Problem] = []
        self.counts = Counts()
        self.unverified: list[str] = []
        self._progress = progress
        self._found = found
        self._missing = missing

    def run(self) -> None:
        """Check all nodes."""
        try:
            root = load_root(self.store, self.path)
        except (NodeNotFoundError, StoreError):
            raise
        except ZarrdockError as error:
            self._note(Problem("error", self.path, str(error)))
            return
        if Mark.read(self.store, self.path) is not None:
            self._note(Problem("warning", self.path, "the mark of an unfinished copy is here", key=MARK))
        seen: dict[str, Node] = {}
        skip = len(self.path) + 1 if self.path else 0
        for at, node in nodes_below(self.store, self.path, root):
            if isinstance(node, ZarrdockError):
                self._note(Problem("error", at, str(node)))
                continue
            if at != self.path:
                seen[at[skip:]] = node
            self._leniencies(at, node)
            if isinstance(node, ArrayMetadata):
                self._array(at, node)
            else:
                self._count(n_groups=1)
        self._lengths(seen)
        if self.store.traits.listable and not isinstance(root, ArrayMetadata) and root.consolidated is not None:
            self._consolidated(root.consolidated, seen)
        if isinstance(self.store, LocalStore):
            stale = sum(1 for _ in self.store.stale_files(self.path))
            if stale:
                text = f"{stale} file{'s' if stale > 1 else ''} left over by writers that were killed"
                self._note(Problem("warning", self.path, text))

    def _note(self, problem: Problem) -> None:
        self.problems.append(problem)
        if self._found is not None:
            self._found(problem)

    def _count(self, at: str = "", **more: int) -> None:
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + n for name, n in more.items()})
        if self._progress is not None:
            self._progress(at, self.counts)

    def _leniencies(self, path: str, node: Node) -> None:
        for one in node.leniencies:
            self._note(Problem("warning", path, f"read leniently: {one}", key=below(path, one.document)))

    def _lengths(self, nodes: Mapping[str, Node]) -> None:
        """Arrays of one group that share a coordinate are of one length along it; no other dimensions need to be."""
        lengths: dict[tuple[str, str], dict[str, int]] = {}
        for path, node in nodes.items():
            if isinstance(node, ArrayMetadata):
                folder, _, name = path.rpartition("/")
                for dim, n in zip(node.dims or (), node.shape, strict=False):
                    if dim is not None:
                        lengths.setdefault((folder, dim), {})[name] = n
        for (folder, dim), found in lengths.items():
            if dim in found and len(set(found.values())) > 1:
                text = f"arrays are of different lengths along {dim!r}: an append was not finished, or two interleaved"
                what = ", ".join(f"{name!r} {n}" for name, n in sorted(found.items()))
                self._note(Problem("warning", below(self.path, folder), f"{text} ({what})"))

    def _consolidated(self, nodes: Mapping[str, Node], seen: Mapping[str, Node]) -> None:
        for relative in sorted({*nodes, *seen}):
            at = below(self.path, relative)
            try:
                told = nodes.get(relative)
            except ZarrdockError as error:
                self._note(Problem("error", at, str(error)))
                continue
            real = seen.get(relative)
            if told is None or real is None:
                which = "does not know this node" if told is None else "knows a node that is not there"
                self._note(Problem("warning", at, f"consolidated metadata is out of date: it {which}"))
            elif _bare(told) != _bare(real):
                self._note(
                    Problem("warning", at, "consolidated metadata is out of date: it differs from the node's own")
                )

    # -- arrays -------------------------------------------------------------------------------------------------------

    def _array(self, path: str, metadata: ArrayMetadata) -> None:
        self._count(path, n_arrays=1)
        for unknown in metadata.unknown:
            self._note(Problem("error", path, f"{unknown}; its chunks cannot be checked"))
            return
        prefix = f"{path}/" if path else ""
        try:
            layout = Layout.of(metadata, prefix)
        except ZarrdockError as error:
            self._note(Problem("error", path, str(error)))
            return
        weight = min(layout.chain.spec.nbytes, 4 * _WINDOW_BYTES) if layout.levels else layout.chain.spec.nbytes
        jobs = (
            (weight, partial(_Object(self.store, path, layout, key, coords, size).check))
            for key, coords, size in self._objects(path, metadata)
        )
        n_threads = _N_REMOTE if self.store.traits.remote else config.n_threads
        n_chunks, n_inside = self.counts.n_chunks, 0
        for counts, problems, n in in_parallel(jobs, n=n_threads, budget=16 * _WINDOW_BYTES):
            for problem in problems:
                self._note(problem)
            self._count(path, n_objects=counts.n_objects, n_chunks=counts.n_chunks, nbytes=counts.nbytes)
            n_inside += n
        n_all = layout.n_leaves()
        if self._missing and n_inside < n_all:
            text = f"{n_all - n_inside} of {n_all} chunks are not stored, and are read as the fill value"
            self._note(Problem("warning", path, text))
        if self.counts.n_chunks > n_chunks and not has_checksum(metadata.codecs):
            self.unverified.append(path)

    def _objects(self, path: str, metadata: ArrayMetadata) -> Iterator[tuple[str, tuple[int, ...], int | None]]:
        """Keys, coordinates and sizes of an array's objects; where the store does not list, of all there may be."""
        grid = metadata.grid.n_chunks(metadata.shape)
        encoding = metadata.key_encoding
        outside: list[str] = []
        strange: list[str] = []
        misplaced: list[str] = []
        other = other_keys(encoding, metadata.ndim)
        skip = len(path) + 1 if path else 0

        def aside(entry: Entry, error: StoreError | None) -> None:
            name = entry.key[skip:]
            if error is not None:  # a link in the place of a folder that leads nowhere
                self._note(Problem("error", path, str(error), key=entry.key))
            elif other is not None and other.parse(name, metadata.ndim) is not None:
                misplaced.append(entry.key)
            elif name not in _DOCUMENTS and len(strange) < 2:
                strange.append(entry.key)

        for coords, entry in stored_objects(self.store, path, encoding, grid, beyond=True, guess=True, aside=aside):
            if all(c < n for c, n in zip(coords, grid, strict=True)):
                yield entry.key, coords, entry.size
            else:
                outside.append(entry.key)
        if misplaced and other is not None:
            text = explain(other, misplaced[0], metadata.zarr_format, len(misplaced))
            self._note(Problem("error", path, text, key=misplaced[0]))
        if strange:
            more = " (and others)" if len(strange) > 1 else ""
            self._note(Problem("warning", path, f"this is no part of the array{more}", key=strange[0]))
        if outside:
            text = f"{len(outside)} object{'s' if len(outside) > 1 else ''} outside of the array, never read"
            self._note(Problem("warning", path, text, key=outside[0]))


def _bare(node: Node) -> Node:
    return node if isinstance(node, ArrayMetadata) else node.replace(consolidated=None)


class _Object:
    """One object of an array: read and decoded in windows, however large it is."""

    def __init__(
        self, store: Store, path: str, layout: Layout, key: str, coords: tuple[int, ...], size: int | None
    ) -> None:
        self.first = layout.first_inner(coords) if layout.levels else ()
        self.store = store
        self.path = path
        self.layout = layout.at(coords)
        self.ends = layout.shape
        self.key = key
        self.coords = coords
        self.size = size
        self.problems: list[Problem] = []
        self.n_chunks = self.n_inside = 0
        self.nbytes = 0

    def check(self) -> tuple[Counts, list[Problem], int]:
        """Counts and problems of the object, and how many of its chunks lie in the array. One that is replaced
        meanwhile is looked at again.

        >>> array = zarrdock.create_array({}, data=np.arange(8), chunks=4)
        >>> zarrdock.tools.check(array.store).problems
        ()
        """
        for _ in range(3):
            self.problems, self.n_chunks, self.n_inside = [], 0, 0
            try:
                there = self._check()
            except VersionChangedError:
                self.size = None
                continue
            except (CodecError, StoreError) as error:
                self._note(error)
                there = True
            return Counts(0, 0, int(there), self.n_chunks, self.nbytes), self.problems, self.n_inside
        self.problems = [Problem("warning", self.path, _KEPT_CHANGING, key=self.key)]
        return Counts(nbytes=self.nbytes), self.problems, self.n_inside

    def _note(self, error: ZarrdockError, chunk: tuple[int, ...] | None = None) -> None:
        text = str(error.at(key=self.key, chunk=chunk)) if isinstance(error, CodecError) else str(error)
        self.problems.append(Problem("error", self.path, " ".join(text.split()), self.key, chunk))

    def _get(self, range_: Range, version: Any = None) -> Blob | None:
        result = self.store.read([Read(self.key, range_, version)])[0]
        if isinstance(result, Exception) or (result is None and version is not None):
            raise VersionChangedError("the object has changed", key=self.key, store=self.store)
        if result is not None:
            self.nbytes += len(result.data)
        return result

    def _check(self) -> bool:
        if not self.layout.levels:
            blob = self._get(None)
            if blob is not None:
                # A chunk's coordinates and its object's are the same here.
                self._decode(self.layout.chain.decode, blob.data, self.coords)
            return blob is not None
        levels = self.layout.shardings
        steps = walk_shards(levels, self.key, self.first, nbytes=self.size, broken=self._broken)
        tree = result_of(steps, self.store)
        if tree is None:
            return False
        self.nbytes += sum(levels[shard.depth].layout.nbytes for shard in tree.shards)
        leaves = [
            (*shard.span(flat), tuple(a + b for a, b in zip(shard.at, levels[-1].coords(flat), strict=True)))
            for shard in tree.innermost(len(levels))
            for flat in shard.present()
        ]
        self._check_leaves(sorted(leaves), tree.version)
        return True

    def _broken(self, place: Place, error: ShardIndexError) -> None:
        if not place.depth:
            raise error
        sharding = self.layout.levels[place.depth].sharding
        at = tuple(a // n for a, n in zip(place.at, sharding.grid, strict=True))
        self._note(ShardIndexError(f"inner shard {at}: {error.reason}", codec=error.codec))

    def _check_leaves(self, leaves: list[tuple[int, int, tuple[int, ...]]], version: Any) -> None:
        first = 0
        while first < len(leaves):
            start, length, _ = leaves[first]
            stop, last = start + length, first + 1
            while last < len(leaves) and max(stop, sum(leaves[last][:2])) - start <= _WINDOW_BYTES:
                stop = max(stop, leaves[last][0] + leaves[last][1])
                last += 1
            blob = self._get(Span(start, stop), version) if stop > start else Blob(b"")
            if blob is None:
                raise VersionChangedError("the object was deleted", key=self.key, store=self.store)
            data = memoryview(blob.data)
            for offset, nbytes, coords in leaves[first:last]:
                part = data[offset - start : offset - start + nbytes]
                if len(part) < nbytes:
                    message = f"{len(part)} bytes are there, {nbytes} should be: the shard is truncated"
                    self._note(ShardIndexError(message, codec="sharding_indexed"), coords)
                else:
                    self._decode(self.layout.leaf.decode, part, coords)
            first = last

    def _decode(self, decode: Callable[[Buffer], Any], data: Buffer, coords: tuple[int, ...]) -> None:
        self.n_chunks += 1
        leaf = self.layout.leaf_shape
        # An object without shards was looked for within the grid.
        inside = (c * n < end for c, n, end in zip(coords, leaf, self.ends, strict=True))
        self.n_inside += not self.layout.levels or all(inside)
        try:
            decode(data)
        except CodecError as error:
            self._note(error, coords)
