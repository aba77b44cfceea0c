"""``zarrdock check``: whether all that is stored can be read."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from zarrdock.array.node_storage import node_path
from zarrdock.checking import Counts, Problem, check
from zarrdock.cli.app import click
from zarrdock.cli.options import as_json, node_options
from zarrdock.cli.output import print_json, progress_bar, size_text
from zarrdock.errors import UnsupportedError
from zarrdock.facts import count
from zarrdock.repairing import repair
from zarrdock.restoring import restore
from zarrdock.stores.local import LocalStore
from zarrdock.stores.open import open_store

__all__ = ["command"]


@click.command("check")
@node_options
@click.option("--clean", is_flag=True, help="Remove files that killed writers left in a local folder.")
@click.option("--repair", "mend", is_flag=True, help="First mend what can be mended for certain, and nothing else.")
@click.option(
    "--from", "source", metavar="SOURCE", help="With --repair: another copy, to take chunks from that are damaged here."
)
@click.option("--missing", is_flag=True, help="Count the chunks that are not stored, which read as the fill value.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
@as_json
def command(
    url: str,
    path: str,
    storage_options: dict[str, Any],
    clean: bool,
    mend: bool,
    source: str | None,
    missing: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Read and decode everything below URL, and name all damage: metadata, shard indexes, checksums, chunks.

    --repair rebuilds indexes of shards whose chunks are intact, where it can be proved that they were so, and removes
    what no chunk of a shard uses; everything else stays as it is. With --from, chunks that cannot be decoded are taken
    from another copy of the same data.

    Exit status 1 if there is any error; warnings don't count.
    """
    store = open_store(url, storage_options=storage_options or None, read_only=not (clean or mend))
    removed: list[str] = []
    if clean:
        if not isinstance(store, LocalStore):
            raise UnsupportedError(f"--clean works on folders of the local file system only, not on {store}")
        removed = store.clean(node_path(path))
    if source is not None and not mend:
        raise UnsupportedError("--from says where --repair takes chunks from: give both")
    with progress_bar(quiet=quiet or as_json, unit_bytes=False) as bar:
        task = bar.add_task("repairing" if mend else "checking", total=None, counts="")
        mended = repair(store, path=path) if mend else []
        if source is not None:
            mended += restore(store, source, path=path)

        def progress(at: str, counts: Counts) -> None:
            bar.update(task, description=f"checking /{at}", counts=_counts(counts))

        def found(problem: Problem) -> None:
            if not as_json:
                bar.console.file.flush()
                print(problem, file=sys.stdout, flush=True)

        report = check(store, path=path, progress=progress, found=found, missing=missing)
    if as_json:
        print_json(
            {
                "is_good": report.is_good,
                **asdict(report.counts),
                "unverified": list(report.unverified),
                "problems": [asdict(problem) for problem in report.problems],
                "removed": removed,
                "repaired": [asdict(one) for one in mended],
            }
        )
    else:
        for name in removed:
            print(f"removed: {name}")
        for one in mended:
            print(f"repaired: {one.key}: {one.message}")
        n_errors = sum(problem.severity == "error" for problem in report.problems)
        n_warnings = len(report.problems) - n_errors
        for at in report.unverified:
            print(f"not verified: /{at}: its chunks have no checksum, so damage that still decodes is not seen")
        outcome = "good" if report.is_good else count(n_errors, "error")
        warned = f", {count(n_warnings, 'warning')}" if n_warnings else ""
        print(f"{outcome}{warned}: {_counts(report.counts)}")
    return 0 if report.is_good else 1


def _counts(counts: Counts) -> str:
    return (
        f"{count(counts.n_groups, 'group')}, {count(counts.n_arrays, 'array')}, {count(counts.n_objects, 'object')}, "
        f"{count(counts.n_chunks, 'chunk')}, {size_text(counts.nbytes)} read"
    )
