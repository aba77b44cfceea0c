"""Drivers: run the steps of ``planning/shard_reader.py`` against a store, and write tasks. All I/O of data is here."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from zarrdock.after_fork import reset_after_fork
from zarrdock.array.execution.decode import Scatter
from zarrdock.array.execution.drivers import drive, drive_async
from zarrdock.array.execution.encode_objects import Edit, Prepared
from zarrdock.array.execution.pool import Jobs
from zarrdock.array.execution.shard_patch import change_in_place
from zarrdock.array.metadata.other_separator import explain
from zarrdock.array.planning.chunk_cache import IndexCache
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.read_types import ReadSettings, Sink
from zarrdock.array.planning.rounds import Rounds, Steps, lockstep
from zarrdock.array.planning.selection import Points, Product, basic
from zarrdock.array.planning.shard_reader import read_task
from zarrdock.array.planning.tasks import Task, tasks
from zarrdock.codecs.codec import AnyArray
from zarrdock.config import config
from zarrdock.errors import ConflictError, KeyExistsError, RangeError, StoreError, UnsupportedError, ZarrdockError
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Buffer, Change, Read, Store, Value, Version, attempts
from zarrdock.stores.group_commit import Combiner, KeyLocks, Ticket
from zarrdock.switch_interval import short_turns

if TYPE_CHECKING:
    from concurrent.futures import Future

    from zarrdock.stores.async_store import AsyncStore

__all__ = [
    "Reading",
    "every_axis",
    "flipped",
    "n_together",
    "read",
    "read_async",
    "read_consistent",
    "read_settings",
    "reads_of",
    "shaped",
    "update_key",
    "write",
    "write_new",
]


# -- Read, change, write back on stores that cannot do it in one step: for callers who vouch for being the only
# writer.

_lock = threading.Lock()


def _after_fork_in_child() -> None:
    # Whoever held it in the parent is not here to let go.
    global _lock
    _lock = threading.Lock()


reset_after_fork(_after_fork_in_child)


def update_key(store: Store, key: str, change: Change, *, single_writer: bool = False) -> None:
    """``store.update``, or with ``single_writer``, where the store has none, a plain read and write: no other process
    may write ``key`` meanwhile. The threads of this process take turns for all keys.
    """
    if store.traits.atomic_update or not single_writer:
        try:
            store.update(key, change)
            return
        except UnsupportedError:  # of a service that was found to ignore conditions at this moment
            if not single_writer:
                raise
    with _lock:
        blob = store.get(key)
        _replace(store, key, change(None if blob is None else blob.data))


def _replace(store: Store, key: str, value: Value | None) -> None:
    if value is None:
        store.delete(key)
    else:
        store.write(key, value)


Seen = dict[str, Version | None]
_Change = tuple[Prepared, Callable[[], None] | None]  # and the check that goes before it


# Bytes that one round may leave in files: they cost no memory. A call of the compiled part can't be interrupted.
_LAZY_NBYTES = 32 * 2**20
# Smaller objects are brought: each that is not is an open file.
_LEAST_LAZY = 2**18
_MANY = 1000  # keys deleted together


def read_settings(
    layout: Layout, store: Store, cache: IndexCache, seen: Seen | None = None, *, may_wait: bool = True
) -> ReadSettings:
    """Settings for reads of ``layout`` from ``store``.

    Args:
        may_wait: the calling thread reads and decodes, and no other one.
    """
    remote = store.traits.remote
    lazy = bool(config.compiled) and may_wait and cache.chunks is None and layout.compiled is not None
    lazy = lazy and not remote and layout.chain.spec.nbytes >= _LEAST_LAZY and store.read_lazily(()) is not None
    # Locally an index costs next to nothing, and spans keep memory bounded: a whole object is read only where there is
    # no index.
    return ReadSettings(
        layout,
        store.traits,
        cache,
        round_bytes=config.remote_round_bytes if remote else max(config.round_bytes, _LAZY_NBYTES * lazy),
        whole_fraction=config.whole_fraction if remote else 2.0,
        chunks=cache.chunks,
        seen=seen,
        lazy=lazy,
    )


def n_together(settings: ReadSettings) -> int:
    """Objects whose reads are planned together: what keeps the store busy without holding a plan of the whole array.

    Where versions stay good only for so many objects at once, half of that, since cached indexes hold some too: a
    version that does not last from the index to the data would be taken for a change.
    """
    n = 4 * max(64, settings.traits.n_concurrent)
    most = settings.traits.max_versions
    return n if most is None else max(1, min(n, most // 2))


def reads_of(selection: Product | Points, layout: Layout, settings: ReadSettings, sink: Sink) -> Rounds:
    """Generator of the rounds that read a selection."""
    steps = (read_task(task, settings, sink) for task in tasks(selection, layout))
    return lockstep(steps, round_bytes=settings.round_bytes, n_together=n_together(settings))


class Reading:
    """A read: its target, its steps, and the work at the end; shared by both drivers."""

    def __init__(
        self,
        store: Store,
        layout: Layout,
        selection: Product | Points,
        cache: IndexCache,
        out: AnyArray | None,
        seen: Seen | None,
        *,
        may_wait: bool = True,
    ) -> None:
        settings = read_settings(layout, store, cache, seen, may_wait=may_wait)
        self.store, self.layout, self.cache, self.settings = store, layout, cache, settings
        self.selection = selection
        shape = (selection.n,) if isinstance(selection, Points) else selection.full_shape
        self.out = out
        direct = None if out is None else every_axis(out, selection)
        self.is_direct = direct is not None
        self.full = (
            direct if direct is not None else (np.zeros if layout.fill_is_zero else np.empty)(shape, layout.dtype)
        )
        # A round that was sent early is held as well.
        max_weight = settings.round_bytes * (1 if store.traits.remote else 2)
        self.scatter = Scatter(
            layout,
            flipped(self.full, selection),
            is_zero=not self.is_direct,
            max_weight=max_weight,
            chunks=cache.chunks,
        )

    @property
    def steps(self) -> Iterator[Steps]:
        """The steps of all objects concerned."""
        return (read_task(task, self.settings, self.scatter) for task in tasks(self.selection, self.layout))

    @property
    def rounds(self) -> Rounds:
        """The rounds of this read alone."""
        return reads_of(self.selection, self.layout, self.settings, self.scatter)

    def look_elsewhere(self) -> None:
        """Warn where no chunk was found, and one lies where the metadata do not lead."""
        if self.cache.other_keys is not None:
            _look_elsewhere(self.store, self.layout, self, self.cache)

    def look_again(self, nothing: Callable[[], None] | None) -> None:
        """Call ``nothing`` where no chunk that was asked for is stored."""
        if nothing is not None and not self.scatter.found_any and 0 not in self.full.shape:
            nothing()

    def result(self) -> AnyArray:
        self.scatter.barrier()
        self.scatter.check_missing(self.store)
        result = shaped(self.full, self.selection)
        if self.out is not None:
            if not self.is_direct:
                self.scatter.deliver(partial(self.out.__setitem__, ..., result))
            return self.out
        return result


def read(
    store: Store,
    layout: Layout,
    selection: Product | Points,
    cache: IndexCache,
    out: AnyArray | None = None,
    seen: Seen | None = None,
    *,
    nothing: Callable[[], None] | None = None,
) -> AnyArray:
    """Read a selection.

    Args:
        out: to read into; then it is the result. seen: filled with the versions read. nothing: called where no chunk
            that was asked for is stored.
    """
    reading = Reading(store, layout, selection, cache, out, seen)
    try:
        drive(reading.rounds, store)
        result = reading.result()
    except BaseException:
        reading.scatter.abandon()
        raise
    reading.look_elsewhere()
    reading.look_again(nothing)
    return result


async def read_async(
    store: AsyncStore,
    layout: Layout,
    selection: Product | Points,
    cache: IndexCache,
    out: AnyArray | None = None,
    *,
    nothing: Callable[[], None] | None = None,
) -> AnyArray:
    """The same from a coroutine, on any event loop: rounds are awaited, decoding happens in threads."""
    import asyncio

    reading = Reading(store.store, layout, selection, cache, out, None, may_wait=False)
    try:
        await drive_async(reading.rounds, store)
        result = await asyncio.to_thread(reading.result)
    except BaseException:
        await asyncio.to_thread(reading.scatter.abandon)
        raise
    if cache.other_keys is not None:
        await asyncio.to_thread(reading.look_elsewhere)
    if not reading.scatter.found_any:
        await asyncio.to_thread(reading.look_again, nothing)
    return result


def _look_elsewhere(store: Store, layout: Layout, reading: Reading, cache: IndexCache) -> None:
    """Warn where no chunk was found, and one lies where the metadata do not lead. One request for an array object,
    and only of those whose metadata leave out how keys are made.
    """
    keys, cache.other_keys = cache.other_keys, None
    first = next(tasks(reading.selection, layout), None)
    if keys is None or first is None or reading.scatter.found_any:
        return
    key = layout.prefix + keys.key(first.coords)
    with suppress(ZarrdockError):  # of a request that was not asked for
        if store.exists(key):
            text = f"no chunk was found in {store}, but {explain(keys, key, 2)}"
            warnings.warn(text, UserWarning, stacklevel=4)


def every_axis(out: AnyArray, selection: Product | Points) -> AnyArray | None:
    """A view of the caller's array with every axis of the selection, where there is one."""
    if isinstance(selection, Points):
        return out.reshape(-1) if out.flags.c_contiguous else None
    if selection.moved or selection.shape != selection.kept_shape:
        return None
    # The ellipsis keeps a 0-d array an array.
    return out[(*(None if i in selection.dropped else slice(None) for i in range(len(selection.full_shape))), ...)]


def flipped(full: AnyArray, selection: Product | Points) -> AnyArray:
    if isinstance(selection, Points) or not selection.flips:
        return full
    return full[tuple(slice(None, None, -1) if i in selection.flips else slice(None) for i in range(full.ndim))]


def shaped(full: AnyArray, selection: Product | Points) -> AnyArray:
    """Reshape a result with every axis to the shape numpy gives it."""
    if isinstance(selection, Points):
        return full.reshape(selection.shape)
    if full.shape == selection.shape:
        return full
    kept = full.reshape(selection.kept_shape)
    return (np.moveaxis(kept, selection.moved, 0) if selection.moved else kept).reshape(selection.shape)


def _unshaped(value: AnyArray, selection: Product | Points) -> AnyArray:
    """The inverse of :func:`shaped` and :func:`flipped`, for values that are written."""
    if isinstance(selection, Points):
        return value.reshape(-1)
    kept = selection.kept_shape
    if selection.shape != kept or selection.moved:
        first = (
            (kept[selection.moved], *(n for i, n in enumerate(kept) if i != selection.moved))
            if selection.moved
            else kept
        )
        value = value.reshape(first)
        value = np.moveaxis(value, 0, selection.moved) if selection.moved else value
    value = value[(*(None if i in selection.dropped else slice(None) for i in range(len(selection.full_shape))), ...)]
    return flipped(value, selection)


# -- writing ----------------------------------------------------------------------------------------------------------


def write(
    store: Store,
    layout: Layout,
    selection: Product | Points,
    value: AnyArray,
    cache: IndexCache,
    check: Callable[[], None] | None = None,
    check_whole: Callable[[], None] | None = None,
    create_only: bool = False,
) -> None:
    """Write ``value`` (of the selection's shape) to the chunks concerned.

    Objects wholly covered are written anew; of the others only the leaf chunks concerned are decoded, within the
    store's atomic update. How, say the options of the layout.

    Args:
        check: called before any object is changed in part, by each of the threads that do; what it raises is raised.
        check_whole: the same for objects that are written as a whole or deleted.
        create_only: objects are only made where none are, also those of nothing but fill value.
    Raises:
        UnsupportedError: an object would be changed in part, and the store has no atomic update. Nothing was written.
        KeyExistsError: with ``create_only``, there is an object; others may have been made.
    """
    if not (store.traits.atomic_update or layout.options.single_writer):
        _check_parts(store, tasks(selection, layout))
    edit = Edit(layout, _unshaped(value, selection))
    write_one = partial(_write_task, store, edit, cache, check, check_whole, create_only)
    _write_all(store, layout, (partial(write_one, task) for task in tasks(selection, layout)))


def write_new(store: Store, layout: Layout, value: AnyArray, cache: IndexCache) -> None:
    """Write all of an array that was made just now, and is its creator's until it is written. So objects at its edge
    are new, too, and no store needs an atomic update for them.

    Where that fails, by an interrupt too, the objects written so far are deleted.

    Args:
        value: of the array's shape.
    """
    selection = basic(..., layout.shape)
    edit = Edit(layout, _unshaped(value, selection))
    n_begun = 0

    def jobs() -> Iterator[Callable[[], None]]:
        nonlocal n_begun
        for task in tasks(selection, layout):
            n_begun += 1
            yield partial(_write_new_task, store, task, edit, cache)

    try:
        _write_all(store, layout, jobs())
    except BaseException as error:
        try:
            for first in range(0, n_begun, _MANY):
                begun = islice(tasks(selection, layout), first, min(n_begun, first + _MANY))
                store.delete_many([task.key for task in begun])
        except Exception as again:
            error.add_note(f"some of the data stays where it was written, since it could not be deleted: {again}")
        raise


def _write_all(store: Store, layout: Layout, jobs: Iterator[Callable[[], None]]) -> None:
    """Run the jobs that write one object each, in as many threads as the store and the memory allow."""
    with short_turns:
        _run_all(store, layout, jobs)


def _run_all(store: Store, layout: Layout, jobs: Iterator[Callable[[], None]]) -> None:
    few = list(islice(jobs, 2))
    if len(few) < 2:  # no helper to share it with; its chunks are shared out all the same
        for job in few:
            job()
        return
    all_jobs = chain(few, jobs)
    nbytes = max(1, layout.chain.spec.nbytes)
    n_at_once = max(1, min(store.traits.n_concurrent, config.write_bytes // nbytes))
    if store.traits.remote:
        _in_threads(all_jobs, n_at_once)
        return
    queue = Jobs(max(nbytes, min(config.n_threads * nbytes, config.write_bytes)))
    try:
        for job in all_jobs:
            queue.add(job, nbytes)
        queue.finish()
    except BaseException:
        queue.abandon()
        raise


def _write_task(
    store: Store,
    edit: Edit,
    cache: IndexCache,
    check: Callable[[], None] | None,
    check_whole: Callable[[], None] | None,
    create_only: bool,
    task: Task,
) -> None:
    try:
        if create_only:
            parts = edit.build(task) if task.is_whole() else edit.apply([edit.prepare(task)], None, task)
            store.write(task.key, edit.nothing(task) if parts is None else parts, create_only=True)
            return
        if task.is_whole():
            parts = edit.build(task)
            if check_whole is not None:
                check_whole()
            # Where parts are changed by a read and a write, this must not come between the two.
            alone = edit.layout.options.single_writer and not store.traits.atomic_update
            with _lock if alone else nullcontext():
                _replace(store, task.key, parts)
            return
        # Changes of one layout go together: those of arrays opened apart queue at the store instead.
        queue = f"{id(store)}/{id(edit.layout.chain)}/{task.key}"
        change = (edit.prepare(task), check)
        _combiner.update(queue, change, _locks(queue), partial(_update_together, store, task, edit))
    finally:
        cache.drop(task.key)


def _write_new_task(store: Store, task: Task, edit: Edit, cache: IndexCache) -> None:
    if task.is_whole():
        _write_task(store, edit, cache, None, None, False, task)
        return
    try:
        parts = edit.apply([edit.prepare(task)], None, task)
        if not store.traits.atomic_update:
            _replace(store, task.key, parts)
            return
        if parts is not None:
            try:
                store.write(task.key, parts, create_only=True)
                return
            except KeyExistsError:  # left from an array that was here, or by a writer who did not wait
                pass
        _write_task(store, edit, cache, None, None, False, task)
    finally:
        cache.drop(task.key)


def _check_parts(store: Store, all_tasks: Iterator[Task]) -> None:
    """Ask a store that says that it has no atomic update for one, before anything is written: it may have been promised
    a single writer.
    """
    for task in all_tasks:
        if not task.is_whole():
            store.update(task.key, lambda old: old)
            return


# A shard is rewritten as a whole, so N threads that each write one of its chunks would rewrite it N times. Here they
# share rewrites, and decode and encode what they change once. The keys name the store and the codecs by their ids, both
# of which are in use for as long as a change waits.
_combiner = Combiner()
_locks = KeyLocks()


def _update_together(store: Store, task: Task, edit: Edit, tickets: Sequence[Ticket[_Change]]) -> None:
    for ticket in tickets:
        ticket.error = None  # of an attempt that was interrupted
    try:
        _update(store, task, edit, [ticket.change for ticket in tickets])
    except StoreError:  # the store refused, not one of the changes: asking again for each would multiply the waiting
        raise
    except Exception:
        if len(tickets) == 1:
            raise
        for ticket in tickets:  # one bad change must not fail its neighbours: each alone, to find out whose it is
            try:
                _update(store, task, edit, [ticket.change])
            except Exception as error:
                ticket.error = error


def _update(store: Store, task: Task, edit: Edit, changes: Sequence[_Change]) -> None:
    prepared = [change for change, _ in changes]

    def change(old: Buffer | None) -> Value | None:
        for _, check in changes:
            if check is not None:
                check()
        return edit.apply(prepared, old, task)

    options = edit.layout.options
    if options.in_place and task.layout.levels and store.traits.partial_update:
        store.patch(task.key, lambda old: change_in_place(edit, prepared, old, task))
    else:
        update_key(store, task.key, change, single_writer=options.single_writer)


def _in_threads(jobs: Iterator[Callable[[], None]], n: int) -> None:
    """Run jobs that wait for a network, ``n`` at a time; the first error stops what was not begun."""
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    with ThreadPoolExecutor(n, "zarrdock-write") as pool:
        running: set[Future[None]] = {pool.submit(job) for job in islice(jobs, n)}
        while running:
            done, running = wait(running, return_when=FIRST_EXCEPTION if len(running) < n else "FIRST_COMPLETED")
            for future in done:
                future.result()
            running |= {pool.submit(job) for job in islice(jobs, n - len(running))}


# -- Reads of many objects that are of one moment.
#
# A read is always of one version of each object. That the versions of *several* objects belong together takes a
# second look: when all has been read, every object is asked whether it is still the version that was read. If so, all
# of them were what was read at the moment the last read ended.

ATTEMPTS = 10


def read_consistent(
    store: Store,
    layout: Layout,
    selection: Product | Points,
    cache: IndexCache,
    out: AnyArray | None,
    *,
    nothing: Callable[[], None],
) -> AnyArray:
    """Read a selection as it was at one moment.

    Raises:
        UnsupportedError: the store can't tell versions apart.
        ConflictError: the objects changed during each of several attempts.
    """
    if not store.traits.conditional_read:
        raise UnsupportedError(f"consistent=True needs a store with versions, and {store} has none")
    message = f"chunks were replaced during each of {ATTEMPTS} attempts to read them all"
    for _ in attempts(ATTEMPTS, lambda: ConflictError(message, store=store)):
        seen: Seen = {}
        array = read(store, layout, selection, cache, out, seen, nothing=nothing)
        most = store.traits.max_versions
        if most is not None and len(seen) > most:
            raise UnsupportedError(
                f"consistent=True over {len(seen)} objects: {store} can tell the versions of {most} apart at once; read"
                " less at once, or allow the process more open files (ulimit -n)"
            )
        if not _moved(store, seen):
            break
    return array


def _moved(store: Store, seen: Seen) -> bool:
    """True if any object has changed since it was read, or was made or deleted."""
    try:
        answers = store.read([Read(key, Span(0, 1), version) for key, version in seen.items()])
    except RangeError:  # empty now, and no chunk is
        return True
    return any(
        answer is not None if version is None else not isinstance(answer, Blob)
        for answer, version in zip(answers, seen.values(), strict=True)
    )
