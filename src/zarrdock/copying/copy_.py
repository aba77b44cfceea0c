"""The function users call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from zarrdock.array.array import Array, Missing, check_missing
from zarrdock.array.consolidated_copies import Copies, refuse_arrays_above
from zarrdock.array.execution.read_plan import require_all
from zarrdock.array.group import Group, NodeOptions, wrap
from zarrdock.array.node_storage import ZarrFormat, load, new_node_path, node_path, replace_node
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.overlap import Division
from zarrdock.array.removal import Keys, describe_keys
from zarrdock.array.same_place import refuse_aliases
from zarrdock.codecs.chunk_order import permutation
from zarrdock.codecs.write_options import WriteOptions, WriteOptionsLike, write_options
from zarrdock.copying.conversions import contents_of, tiff_folder
from zarrdock.copying.copy_objects import copy_objects
from zarrdock.copying.copy_plan import ArrayPart, Contents, node_documents, of_hierarchy
from zarrdock.copying.foreign import File, copy_files, files_below, unnamed_below
from zarrdock.copying.notebook_bar import notebook_bar
from zarrdock.copying.npy import is_npy
from zarrdock.copying.parallel import Workers
from zarrdock.copying.progress import CopyProgress, IncompleteCopyWarning, Mark, below
from zarrdock.copying.recognise import find_file
from zarrdock.copying.repack_shards import regroup, same_leaves
from zarrdock.copying.sources import Derived, InMemory, Stored, ZarrSource, stored_chunks
from zarrdock.copying.target_metadata import Wishes, new_metadata
from zarrdock.copying.transfer import Outcome, transfer
from zarrdock.errors import MetadataError, NodeExistsError, NodeNotFoundError, UnsupportedError
from zarrdock.stores.base import Blob, Read, Store
from zarrdock.stores.open import open_store
from zarrdock.stores.zip_ import ZipStore

__all__ = ["Copier", "contents_of_any", "copy", "layout_of"]

_READS = 1000


def copy(
    src: Any,
    dst: Any,
    *,
    src_path: str | None = None,
    dst_path: str | None = None,
    chunks: Any = "keep",
    shards: Any = "keep",
    compressors: Any = "keep",
    checksums: bool = False,
    index_location: Literal["keep", "start", "end"] = "keep",
    zarr_format: ZarrFormat | None = None,
    options: WriteOptionsLike = None,
    other_files: bool = True,
    overwrite: bool = False,
    resume: bool = False,
    src_storage_options: Mapping[str, Any] | None = None,
    dst_storage_options: Mapping[str, Any] | None = None,
    memory_bytes: int = 512 * 2**20,
    progress: Callable[[CopyProgress], None] | None = None,
    workers: Workers | None = None,
    missing: Missing = "fill",
) -> Array | Group:
    """Copy an array, or a group with all that is below it.

    Data type, fill value, attributes, dimension names, chunks, shards and codecs are those of the source unless asked
    for otherwise. Where chunks and codecs stay the same nothing is decoded: objects are copied as the bytes they are,
    or, where the shards or the order in them differ, their chunks are. Only objects that the source has are looked at.
    Chunks that are encoded are left out where they hold nothing but the fill value. An array's metadata is written when
    all of its chunks are there: an unfinished copy is never taken for a finished one.

    Args:
        src: an array or group, a numpy array, anything :func:`zarrdock.open_store` takes; or a path or URL of a file
            that is no Zarr: HDF5, netCDF, ``.npy``, ``.npz``, TIFF.
        dst: anything :func:`zarrdock.open_store` takes. A local ``.ozx`` is written as RFC-9 of OME-NGFF says, in one
            pass, and has its name when it is complete: an interrupted copy begins anew.
        src_path, dst_path: of the node within either store.
        chunks, shards: shapes (or lengths along each axis, or a grid's metadata) as for :func:`zarrdock.create_array`,
            "auto", or "keep"; ``shards=None`` for no shards.
            In a group they apply to the arrays of as many dimensions; the others keep theirs. Arrays that are no Zarr
            gets "auto" for both.
        compressors: as for ``create_array``, None for none, or "keep".
        checksums: give every chunk a checksum: codec ``crc32c``, where its codecs have none of their own.
        index_location: of shards.
        zarr_format: 2 or 3, which converts; shards are then left out for 2.
        options: how the copy is written, a :class:`zarrdock.WriteOptions` or a mapping of its fields; chunks are then
            written as it says, where they are copied as they lie otherwise.
        other_files: copy files in the hierarchy that are no Zarr, too, byte by byte, such as OME's
            ``METADATA.ome.xml``; where the source can be listed.
        overwrite: replace a node that is there, with all nodes below it; foreign files are never removed.
        resume: complete an earlier copy of the same source with the same settings, where there is an unfinished one.
        memory_bytes: about what may be held at one time. A single chunk of the source, and an encoded object of the
            destination, are the least there can be.
        progress: called in the caller's thread with a :class:`CopyProgress`; by default a notebook shows a bar.
        workers: who reads, encodes and writes in place of this process, a dask cluster for one
            (:class:`zarrdock.adapters.dask_workers.DaskWorkers`). ``memory_bytes`` is then that of each worker.
        missing: "error": nothing is copied if the source lacks a chunk; all shard indexes are read first, and the sizes
            of other objects asked for. "fill": chunks that it lacks hold the fill value.
    Returns:
        The copy, open for reading and writing. What it lacks of the source is named by an
        :class:`~zarrdock.copying.IncompleteCopyWarning`, and by ``CopyProgress.left_out``.
    Raises:
        NodeNotFoundError: there is no source. NodeExistsError: there is something at the destination.
        ChunkNotFoundError: ``missing="error"``, and the source lacks a chunk.
        MetadataError, CodecError, StoreError: the first thing that is wrong with either; run again with ``resume`` when
            it is mended.

    >>> source = zarrdock.create_array({}, data=np.arange(100), chunks=10)
    >>> copied = zarrdock.copy(source, "copy.zarr", chunks=5, shards=50)
    >>> copied.chunks, copied.shards
    ((5,), (50,))
    """
    check_missing(missing)
    wishes = Wishes(chunks, shards, compressors, index_location, zarr_format, checksums)
    recode, write = options is not None, write_options(options)
    contents = contents_of_any(src, src_path, src_storage_options, wishes, recode)
    layouts = [layout_of(part, write) for part in contents.arrays]
    if is_npy(dst):
        raise UnsupportedError(f"{dst}: a copy is always Zarr; to make a .npy file use numpy.save")
    store = open_store(dst, storage_options=dict(dst_storage_options) if dst_storage_options else None)
    at = new_node_path(dst_path)
    if contents.reading is not None:
        refuse_aliases([contents.reading], store, at, is_cleared=False)
    store._check_writable(at)
    refuse_arrays_above(store, at)
    if missing == "error":
        _require_all(contents)
    if workers is not None:
        workers.check(store, *(one for one in (contents.store,) if one is not None))
    copier = Copier(
        contents, layouts, store, at, memory_bytes, progress, write.write_empty_chunks, other_files, workers
    )
    copier.run(overwrite=overwrite, resume=resume)
    return wrap(store, at, contents.root, NodeOptions(write=write))


def contents_of_any(
    src: Any, src_path: str | None, storage_options: Mapping[str, Any] | None, wishes: Wishes, recode: bool
) -> Contents:
    """The contents of all that :func:`copy` takes as a source.

    Args:
        recode: elements are encoded anew even where chunks and codecs stay the same.
    """
    if isinstance(src, (Array, Group)):
        if src_path:
            raise UnsupportedError(f"src_path= needs a store as source, and {src!r} is a node already: leave it out")
        return of_hierarchy(src.store, src.path, wishes, recode=recode, zarr_format=2 if src.zarr_format == 2 else 3)
    if isinstance(src, np.ndarray):
        part = ArrayPart("", new_metadata(src.shape, src.dtype, wishes), InMemory(src), None)
        return Contents("a numpy array", None, "", [part])
    file = find_file(src, storage_options)
    if file is not None:
        return contents_of(file, node_path(src_path), wishes, recode=recode)
    store = open_store(src, storage_options=dict(storage_options) if storage_options else None, read_only=True)
    try:
        return of_hierarchy(store, node_path(src_path), wishes, recode=recode)
    except NodeNotFoundError:
        folder = tiff_folder(store, node_path(src_path))
        if folder is None:
            raise
        return folder(wishes)


def _require_all(contents: Contents) -> None:
    """Make sure that the arrays of a hierarchy lack no chunk."""
    for part in contents.arrays:
        if contents.store is not None and part.original is not None:
            path = below(contents.path, part.source_path)
            require_all(contents.store, Layout.of(part.original, f"{path}/" if path else ""))


def layout_of(part: ArrayPart, options: WriteOptions) -> Layout | None:
    """The destination's layout, where elements are encoded; an impossible order is refused here."""
    if part.source is None:
        return None
    metadata = part.metadata
    layout = Layout.of(metadata, options=options)
    for level in layout.levels:
        permutation(level.sharding.options.subchunk_write_order, level.sharding.grid)
    return layout


class Copier:
    """One copy, from the first look at the destination to the removal of the mark.

    Args:
        layouts: of the arrays of the copy; None of those whose objects are copied as they are.
        store, path: the destination.
        write_empty: chunks of nothing but the fill value are stored.
        takes_files: files that are no Zarr are copied, too.
    """

    def __init__(
        self,
        contents: Contents,
        layouts: list[Layout | None],
        store: Store,
        path: str,
        memory_bytes: int,
        progress: Callable[[CopyProgress], None] | None,
        write_empty: bool,
        takes_files: bool,
        workers: Workers | None,
    ) -> None:
        self._workers = workers
        self._contents = contents
        self._write_empty = write_empty  # chunks of nothing but the fill value are made by encoding
        self._layouts = layouts
        self._store = store
        self._path = path
        self._memory_bytes = memory_bytes
        self._report = notebook_bar() if progress is None else progress
        self._takes_files = takes_files
        # Its entries have an order, so that it is not added to. Zarr v2 has no documents that could come first.
        is_v3 = contents.root.zarr_format == 3
        self._is_single_file = isinstance(store, ZipStore) and store.is_single_file and not path and is_v3
        self._beside: Stored | None = None  # what was listed of the array at work
        self._progress = CopyProgress(
            nbytes_total=sum(part.nbytes for part in contents.arrays), left_out=contents.left_out
        )

    def run(self, *, overwrite: bool, resume: bool) -> None:
        """Do it all."""
        # All documents are made before anything is written: what a format cannot express shows here.
        arrays = [node_documents(part.metadata) for part in self._contents.arrays]
        groups = list(self._contents.group_documents())
        every = {below(part.path, name): data for part, docs in self._pairs(arrays) for name, data in docs.items()}
        every |= {below(path, name): data for path, docs in groups for name, data in docs.items()}
        reading = self._contents.reading
        mark = Mark.of(self._contents.url, None if reading is None else reading.identity, every)
        if self._is_single_file:
            self._write_single_file(arrays, groups, overwrite=overwrite)
            return
        resumed = self._begin(mark, overwrite=overwrite, resume=resume)
        finished = self._finished(arrays) if resumed else set()
        # Else a copy that was interrupted looks like none.
        documents_first = not self._store.traits.any_key
        if documents_first:
            self._write_groups(groups)
        for i, (part, docs) in enumerate(self._pairs(arrays)):
            if i in finished:
                self._advance(part, Outcome(), part.nbytes)
                continue
            itemsize = max(1, part.metadata.dtype.itemsize)
            done = self._done_keys(part) if resumed else frozenset()
            if documents_first:
                self._write_documents(part.path, docs)
            for outcome in self._copy_array(part, self._layouts[i], done):
                self._advance(part, outcome, outcome.n_elements * itemsize)
            if self._beside is not None:
                self._copy_files(part.path, self._beside.others, Keys.of(part.metadata))
            if not documents_first:
                self._write_documents(part.path, docs)
        self._copy_other_files()
        if not documents_first:
            self._write_groups(groups)
            mark.remove(self._store, self._path)
        nodes = [*(part.path for part in self._contents.arrays), *(path for path, _ in groups)]
        Copies(self._store, [below(self._path, path) for path in nodes], self._contents.root.zarr_format).refresh()
        self._warn()

    def _write_single_file(
        self, arrays: list[dict[str, bytes]], groups: list[tuple[str, dict[str, bytes]]], *, overwrite: bool
    ) -> None:
        """Write single-file OME-Zarr in one pass: all documents, outer nodes first, then the rest. The archive has its
        name when it is complete.
        """
        old = self._store
        assert isinstance(old, ZipStore)
        if not self._is_free(overwrite) and self._contents.reading is not None:
            refuse_aliases([self._contents.reading], old, "", is_cleared=True)
        nodes = [*groups, *((part.path, docs) for part, docs in self._pairs(arrays))]
        with old.replacing() as self._store:
            for path, docs in sorted(nodes, key=lambda node: (bool(node[0]), node[0].count("/"), node[0])):
                self._write_documents(path, docs)
            for part, layout in zip(self._contents.arrays, self._layouts, strict=True):
                for outcome in self._copy_array(part, layout, frozenset()):
                    self._advance(part, outcome, outcome.n_elements * max(1, part.metadata.dtype.itemsize))
                if self._beside is not None:
                    self._copy_files(part.path, self._beside.others, Keys.of(part.metadata))
            self._copy_other_files()
        self._store = old
        self._warn()

    def _copy_other_files(self) -> None:
        contents = self._contents
        if contents.store is not None and self._takes_files:
            self._copy_files("", files_below(contents.store, contents.path, contents.files, contents.folders))
            self._leave_out(unnamed_below(contents.store, contents.path))

    def _warn(self) -> None:
        if self._progress.left_out:
            if self._report is not None:
                self._report(self._progress)  # where there was no array to report
            warnings.warn(f"not copied: {'; '.join(self._progress.left_out)}", IncompleteCopyWarning, stacklevel=4)

    def _copy_files(self, path: str, files: Iterable[File], chunks: Keys | None = None) -> None:
        """Copy files that are no Zarr.

        Args:
            path: of the node that they lie in, relative.
            chunks: names of the chunks of the copy, if it is an array: files of such names would be taken for some.
        """
        store = self._contents.store
        assert store is not None
        if not self._store.traits.any_key:
            self._leave_out(f"{below(path, name)}: {self._store} holds nothing but Zarr" for name, _ in files)
            return
        clashes = [file for file in files if chunks.match(file[0])] if chunks is not None else []
        files = (file for file in files if file not in clashes)
        self._leave_out(f"{below(path, name)}: it would be taken for a chunk of the copy" for name, _ in clashes)
        places = store, below(self._contents.path, path), self._store, below(self._path, path)
        for outcome in copy_files(files, *places, memory_bytes=self._memory_bytes, workers=self._workers):
            self._progress = replace(self._progress, n_files=self._progress.n_files + outcome.n_written)
            if self._report is not None:
                self._report(self._progress)

    def _leave_out(self, what: Iterable[str]) -> None:
        found = tuple(what)
        if found:
            self._progress = replace(self._progress, left_out=self._progress.left_out + found)
            if self._report is not None:
                self._report(self._progress)

    def _pairs(self, documents: list[dict[str, bytes]]) -> Iterator[tuple[ArrayPart, dict[str, bytes]]]:
        return zip(self._contents.arrays, documents, strict=True)

    def _advance(self, part: ArrayPart, outcome: Outcome, nbytes: int) -> None:
        old = self._progress
        self._progress = replace(
            old,
            path=part.path,
            nbytes=old.nbytes + nbytes,
            n_objects=old.n_objects + outcome.n_written,
            nbytes_written=old.nbytes_written + outcome.nbytes,
            n_kept=old.n_kept + outcome.n_kept,
        )
        if self._report is not None:
            self._report(self._progress)

    # -- before -------------------------------------------------------------------------------------------------------

    def _begin(self, mark: Mark, *, overwrite: bool, resume: bool) -> bool:
        """Make the destination ours. Returns whether there is something to build upon."""
        where = f"{self._path or '/'!r} in {self._store}"
        found = Mark.read(self._store, self._path)
        if found is not None and not overwrite:
            if not resume:
                raise NodeExistsError(
                    f"there is an unfinished copy of {found.source!r} at {where}: resume=True completes it, "
                    "overwrite=True begins anew"
                )
            if found != mark:
                is_same = found.source == mark.source
                what = "with other settings, or from another service," if is_same else f"of {found.source!r}"
                raise NodeExistsError(
                    f"there is an unfinished copy {what} at {where}, which this one cannot complete: "
                    "overwrite=True begins anew"
                )
            return True
        self._make_room(found is not None, overwrite=overwrite)
        if self._store.traits.any_key:
            mark.write(self._store, self._path, describe_keys([(p.path, p.metadata) for p in self._contents.arrays]))
        return False

    def _make_room(self, is_begun: bool, *, overwrite: bool) -> None:
        """See to it that nothing is at the destination, or raise.

        Args:
            is_begun: an unfinished copy is there, which may go.
        """
        is_free = not is_begun and self._is_free(overwrite)
        if overwrite and not is_free:
            if self._contents.reading is not None:
                refuse_aliases([self._contents.reading], self._store, self._path, is_cleared=True)
            replace_node(self._store, self._path, self._contents.root)

    def _is_free(self, overwrite: bool) -> bool:
        """False where a node is there that may be overwritten."""
        where = f"{self._path or '/'!r} in {self._store}"
        try:
            load(self._store, self._path, None, None, consolidated=False, lenient=True)
        except NodeNotFoundError:
            listing = self._store.list_dir(self._path) if self._store.traits.listable else None
            if listing is not None and (listing.keys or listing.prefixes):
                first = (*listing.keys, *listing.prefixes)[0]
                raise NodeExistsError(
                    f"there is something at {where} that is no Zarr ({first!r}): choose an empty place"
                ) from None
            return True
        except MetadataError:
            pass  # a node, though a broken one
        if not overwrite:
            raise NodeExistsError(f"there is a node at {where} already: overwrite=True replaces it and all nodes below")
        return False

    def _finished(self, arrays: list[dict[str, bytes]]) -> set[int]:
        """Arrays that are complete: their metadata exists."""
        names = [(i, name, data) for i, docs in enumerate(arrays) for name, data in list(docs.items())[-1:]]
        found: set[int] = set()
        for first in range(0, len(names), _READS):
            some = names[first : first + _READS]
            keys = [below(below(self._path, self._contents.arrays[i].path), name) for i, name, _ in some]
            for key, (i, _, data), result in zip(keys, some, self._store.read([Read(k) for k in keys]), strict=True):
                if isinstance(result, Blob):
                    if bytes(result.data) != data:
                        raise NodeExistsError(f"{key!r} in {self._store} was changed meanwhile: remove it")
                    found.add(i)
        return found

    def _done_keys(self, part: ArrayPart) -> frozenset[str]:
        """Objects of an array that are there. Each was written in one piece: it is complete."""
        path = below(self._path, part.path)
        return frozenset(entry.key for entry in self._store.list(path))

    # -- the work -----------------------------------------------------------------------------------------------------

    def _copy_array(self, part: ArrayPart, layout: Layout | None, done: frozenset[str]) -> Iterator[Outcome]:
        contents, to_path = self._contents, below(self._path, part.path)
        stored = None
        if contents.store is not None and part.original is not None:
            grid = part.original.grid.n_chunks(part.original.shape)
            from_path = below(contents.path, part.source_path)
            stored = stored_chunks(contents.store, from_path, part.original.key_encoding, grid)
            self._beside = stored if self._takes_files else None
            if layout is None or part.source is None:
                yield from copy_objects(
                    contents.store,
                    from_path,
                    part.original,
                    self._store,
                    to_path,
                    part.metadata,
                    stored=stored,
                    done=done,
                    memory_bytes=self._memory_bytes,
                    workers=self._workers,
                )
                return
        assert layout is not None
        assert part.source is not None
        layout = replace(layout, prefix=f"{to_path}/" if to_path else "")
        chunks = part.source.knowing(stored) if isinstance(part.source, ZarrSource) and stored is not None else None
        if (
            isinstance(part.source, ZarrSource)
            and part.original is not None
            and not self._write_empty
            and same_leaves(part.original, part.metadata)
        ):
            yield from regroup(
                part.source.array,
                self._store,
                layout,
                chunks=chunks,
                done=done,
                budget=self._memory_bytes,
                workers=self._workers,
            )
            return
        original = part.metadata if part.original is None else part.original
        objects, memory_bytes = Division.of(original.grid, original.shape), self._memory_bytes
        if isinstance(part.source, Derived):
            memory_bytes //= 2  # the other half is for the array that this one is made of
            known = part.source.stored()
            if known is not None:
                chunks, objects = known
        yield from transfer(
            part.source,
            self._store,
            layout,
            chunks=chunks,
            objects=objects,
            done=done,
            memory_bytes=memory_bytes,
            is_remote=self._store.traits.remote or (contents.store is not None and contents.store.traits.remote),
            workers=self._workers,
        )

    def _write_groups(self, groups: list[tuple[str, dict[str, bytes]]]) -> None:
        for path, documents in groups:
            self._write_documents(path, documents)

    def _write_documents(self, path: str, documents: dict[str, bytes]) -> None:
        for name, data in documents.items():
            self._store.write(below(below(self._path, path), name), data)
