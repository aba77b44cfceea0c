"""``zarrdock layout``: what the bytes of shards are used for, and what reads would cost in another layout."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.cli.app import click
from zarrdock.cli.open_nodes import find
from zarrdock.cli.options import as_json, node_options
from zarrdock.cli.output import line_width, print_json, progress_bar, shape_text, size_text, wrapped
from zarrdock.cli.parse import parse_memory, parse_selection, parse_shape
from zarrdock.codecs.chunk_order import ORDERS
from zarrdock.errors import NodeNotFoundError, UnsupportedError
from zarrdock.facts import count
from zarrdock.layouts import access_patterns as accesses
from zarrdock.layouts.access_patterns import Access
from zarrdock.layouts.calibrate import decode_speed
from zarrdock.layouts.plot import bars
from zarrdock.layouts.predict import (
    EGRESS_PER_GB,
    PLACES,
    Candidate,
    Prediction,
    Prices,
    candidates,
    predict,
    recommend,
    work,
)
from zarrdock.layouts.shard_stats import Survey, survey
from zarrdock.stores.base import Traits

__all__ = ["command"]

_BY = {"time": "seconds", "requests": "n_requests", "bytes": "nbytes", "rounds": "n_rounds", "price": "price"}
_EFFORT = ("nothing to do", "shards rewritten in place", "chunks copied, not decoded", "all encoded anew")


def _level_shapes(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> Any:
    """Parse alternatives; in each, levels are separated by a slash, outermost first."""
    if not given:
        return None
    found: list[Any] = []
    for text in given:
        levels = [parse_shape(part) for part in text.split("/")]
        if levels == [None]:
            found.append(None)
        elif all(isinstance(level, tuple) and all(level) for level in levels):
            found.append(levels)
        else:
            raise click.BadParameter(
                f"{text!r}: write shapes, such as 256,256,256, or none; levels as 1024,1024/128,128"
            )
    return found


def _chunk_shapes(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> Any:
    found = [parse_shape(text) for text in given]
    if not all(isinstance(shape, tuple) and all(shape) for shape in found):
        raise click.BadParameter("write shapes of lengths above 0, such as 32,32,32")
    return found or None


@click.command("layout")
@node_options
@click.option(
    "--access",
    "kinds",
    multiple=True,
    metavar="boxes|planes|lines|AXIS|FILE",
    help="What is read: a pattern; planes across one axis, z or lines:z for lines along it; or a log of selections; "
    "again for more.  [default: boxes and planes]",
)
@click.option("--reads", default=100, type=click.IntRange(1), help="Random boxes, and planes or lines of each axis.")
@click.option("--box", metavar="SHAPE", default="64", help="Shape of the boxes.  [default: 64 on every axis]")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of the random places.")
@click.option("--order", "orders", multiple=True, type=click.Choice([str(o) for o in ORDERS]), help="Again for more.")
@click.option("--shards", multiple=True, metavar="SHAPE[/SHAPE...]", callback=_level_shapes, help="Again for more.")
@click.option("--chunks", multiple=True, metavar="SHAPE", callback=_chunk_shapes, help="Again for more.")
@click.option(
    "--gap", "gaps", multiple=True, metavar="SIZE", help="Unwanted bytes read to save a request, such as 64K."
)
@click.option("--on", "place", type=click.Choice([*PLACES]), help="Kind of store that is read.  [default: that of URL]")
@click.option("--rtt-ms", type=float, help="Time to the first byte of a round, in milliseconds.")
@click.option("--request-ms", type=float, help="Work a request, in milliseconds.")
@click.option("--mb-per-s", type=float, help="10^6 bytes a second.")
@click.option("--per-million", type=float, help="Price of a million requests.")
@click.option("--per-gb", type=float, help="Price of 10^9 bytes read.")
@click.option("--egress", is_flag=True, help="The reader is not in the service's region: add the list price of egress.")
@click.option("--egress-per-gb", type=float, help="Price of 10^9 bytes that leave the region.")
@click.option("--currency", help="Name of the currency of the prices given.  [default: USD]")
@click.option(
    "--decode-mb-per-s",
    type=float,
    help="10^6 bytes of elements decoded a second.  [default: measured here, with some chunks of the array]",
)
@click.option("--by", type=click.Choice([*_BY]), default="time", help="What the layout is chosen by.  [default: time]")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.svg", help="Draw requests as bars.")
@click.option("--max-objects", default=4096, type=click.IntRange(1), help="Look at so many objects at most.")
@as_json
def command(
    url: str,
    path: str,
    storage_options: dict[str, Any],
    kinds: tuple[str, ...],
    reads: int,
    box: str,
    seed: int,
    orders: tuple[Any, ...],
    shards: Any,
    chunks: Any,
    gaps: tuple[str, ...],
    place: str | None,
    by: str,
    plot: Path | None,
    max_objects: int,
    as_json: bool,
    egress: bool,
    currency: str | None,
    **given: float | None,
) -> None:
    """Say what the bytes of the array at URL are used for, and predict rounds, requests, bytes, time and price of
    reading it in other layouts: orders of the chunks in a shard, shapes of shards and chunks, gaps. Only shard indexes
    are read. A log has one selection a line, as `zarrdock plan` takes it, or JSON documents with "selection".
    """
    found = find(url, path, storage_options)
    if not isinstance(found.node, ArrayMetadata):
        raise NodeNotFoundError(f"at {found.path or '/'!r} in {found.store} there is a group: name an array")
    with progress_bar(quiet=as_json, unit_bytes=False) as bar:
        task = bar.add_task("reading shard indexes", total=None, counts="")
        seen = survey(found.store, found.path, found.node, max_objects=max_objects)
        bar.remove_task(task)
    patterns = [pattern for kind in kinds or ("boxes", "planes") for pattern in _pattern(kind, seen, reads, box, seed)]
    if not patterns:
        raise UnsupportedError("there is nothing to read: the array has no elements, or the log no selections")
    kind_of_store = place or ("s3" if found.store.traits.remote else "local")
    traits, prices = PLACES[kind_of_store]
    if place is None:
        traits = found.store.traits
    if egress:
        prices = replace(prices, egress_per_gb=EGRESS_PER_GB[kind_of_store])
    if given["decode_mb_per_s"] is None:
        prices = replace(prices, decode_bytes_per_s=decode_speed(seen) or prices.decode_bytes_per_s)
    prices = replace(_prices(prices, given), currency=currency or prices.currency)
    wanted = candidates(
        seen,
        shards=shards,
        chunks=chunks,
        gaps=[parse_memory(gap, least=0) for gap in gaps] or (None,),
        accesses=patterns,
        **({"orders": orders} if orders else {}),
    )
    predictions = _predicted(seen, patterns, wanted, traits, prices, quiet=as_json)
    best = recommend(seen, predictions, _BY[by])
    if plot is not None:
        rows = [_name(one) for one in wanted]
        panels = [(p.name, [q.costs[i].n_requests for q in predictions]) for i, p in enumerate(patterns)]
        plot.write_text(bars("Requests", rows, panels, best=predictions.index(best)), "utf-8")
    if as_json:
        _print_json(seen, patterns, predictions, best, prices)
    else:
        _print(url, seen, patterns, predictions, best, by, prices)


def _predicted(
    seen: Survey, patterns: list[Access], wanted: list[Candidate], traits: Traits, prices: Prices, *, quiet: bool
) -> list[Prediction]:
    """All predictions, with a bar where it takes long."""
    found: list[Prediction] = []
    with progress_bar(quiet=quiet, unit_bytes=False) as bar:
        task = bar.add_task("predicting", total=len(wanted), counts="")
        for one in wanted:
            bar.update(task, counts=f"{len(found)} of {count(len(wanted), 'layout')}: {_name(one)}")
            found.append(predict(seen, patterns, one, traits=traits, prices=prices))
            bar.update(task, completed=len(found))
    return found


def _pattern(kind: str, seen: Survey, reads: int, box: str, seed: int) -> list[Access]:
    shape, names = seen.metadata.shape, seen.metadata.dims
    if kind == "boxes":
        size = parse_shape(box)
        if isinstance(size, int):
            size = (size,) * len(shape)
        if not isinstance(size, tuple) or len(size) != len(shape) or 0 in size:
            raise click.BadParameter(f"--box: {len(shape)} positive lengths are needed")
        return accesses.boxes(shape, size, reads, seed=seed)
    if kind in ("planes", "lines"):
        return getattr(accesses, kind)(shape, reads, names=names, seed=seed)  # type: ignore[no-any-return]
    what, _, axis = kind.rpartition(":")
    if what in ("", "planes", "lines") and (axis in (names or ()) or (axis.isdecimal() and int(axis) < len(shape))):
        number = (names or ()).index(axis) if axis in (names or ()) else int(axis)
        found: list[Access] = getattr(accesses, what or "planes")(shape, reads, names=names, seed=seed)
        wanted = [i for i, length in enumerate(shape) if length > 1]  # an axis of one element has no pattern
        return [found[wanted.index(number)]] if number in wanted else []
    if not Path(kind).is_file():
        said = ", ".join(str(name) for name in names or range(len(shape)))
        raise click.BadParameter(
            f"--access: {kind!r} is no pattern (boxes, planes, lines), no axis ({said}) and no file"
        )
    selections = []
    try:
        lines = [*accesses.read_log(kind)]
    except UnicodeDecodeError:
        raise click.BadParameter(f"--access: {kind} is no text, and so no log of selections") from None
    for number, text in lines:
        try:
            selections.append(parse_selection(text))
        except click.BadParameter as error:
            raise click.BadParameter(f"{kind}, line {number}: {error.message}") from error
    return [Access(Path(kind).name, tuple(selections))] if selections else []


def _prices(prices: Prices, given: dict[str, float | None]) -> Prices:
    names = {"rtt_ms": ("rtt_s", 1e-3), "request_ms": ("request_s", 1e-3), "mb_per_s": ("bytes_per_s", 1e6)}
    names["decode_mb_per_s"] = ("decode_bytes_per_s", 1e6)
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        is_rate = name.endswith("mb_per_s")
        if not 0 <= value < float("inf") or (is_rate and not value):
            wanted = "a number above 0" if is_rate else "0 or more"
            raise click.BadParameter(f"--{name.replace('_', '-')}: expected {wanted}, found {value:g}")
        target, factor = names.get(name, (name, 1.0))
        changes[target] = value * factor
    return replace(prices, **changes)


def _name(one: Candidate) -> str:
    shards = "/".join(shape_text(level).replace(" ", "") for level in one.shards) or "none"
    gap = "" if one.gap_bytes is None else f", gap {size_text(one.gap_bytes)}"
    return f"{one.order_name}, {shards}, {shape_text(one.chunks).replace(' ', '')}{gap}"


def _print(
    url: str,
    seen: Survey,
    patterns: list[Access],
    predictions: list[Prediction],
    best: Prediction,
    by: str,
    prices: Prices,
) -> None:
    used = seen.usage
    part = "" if seen.is_complete else f" ({len(seen.objects):,} looked at)"
    text = (
        f"{count(seen.n_objects, 'object')}{part}: {size_text(used.chunks)} in chunks, {size_text(used.index)} in "
        f"indexes, {size_text(used.garbage)} garbage"
    )
    print("\n".join(wrapped(text, "")))
    header = ["order, shards, chunks", *(p.name for p in patterns), "rounds", "requests", "bytes"]
    header += ["decoded", "time", prices.currency]
    rows = [header, ["", *(f"{len(p.selections)} reads" for p in patterns), *[""] * 6]]
    for prediction in predictions:
        total = prediction.total
        mark = "*" if prediction is best else " "
        rows.append(
            [
                f"{mark} {_name(prediction.candidate)}{'' if prediction.is_exact else ' ~'}",
                *(f"{cost.n_requests:,} / {size_text(cost.nbytes)}" for cost in prediction.costs),
                f"{total.n_rounds:,}",
                f"{total.n_requests:,}",
                size_text(total.nbytes),
                size_text(total.decoded_nbytes),
                f"{total.seconds:.3g} s",
                f"{total.price:.2g}",
            ]
        )
    columns = line_width()
    if columns is not None and sum(max(len(row[i]) for row in rows) + 2 for i in range(len(header))) - 2 > columns:
        _print_stacked(header, rows)
        rows = []
    widths = [max(len(row[i]) for row in rows) if rows else 0 for i in range(len(header))]
    for row in rows:
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print(f"decoding at {prices.decode_bytes_per_s / 1e6:,.0f} MB/s", end="")
    print(f", egress {prices.egress_per_gb:g} {prices.currency} a GB" if prices.egress_per_gb else "")
    if any(not prediction.is_exact for prediction in predictions):
        print("~ lengths of chunks are estimated")
    effort = work(seen, best.candidate)
    text = f"least {by}, within 5 %, for the least work ({_EFFORT[effort]})"
    print("\n".join(wrapped(f"{text}: {_advice(url, seen, best.candidate)}" if effort else text, "* ")))


def _print_stacked(header: list[str], rows: list[list[str]]) -> None:
    """The same where a line is too short for it: one layout after another."""
    for name, *cells in rows[2:]:
        print("\n".join(wrapped(name, "", "    ")))
        facts = [f"{title} {cell}" for title, cell in zip(header[1:], cells, strict=True)]
        print("\n".join(wrapped(", ".join(facts), "    ", "    ")))


def _advice(url: str, seen: Survey, one: Candidate) -> str:
    """The command that makes it so."""
    effort = work(seen, one)
    is_copy = effort > 1
    text = f"zarrdock copy {url} DST" if is_copy else f"zarrdock relayout {url}"
    if seen.path and seen.path not in url:
        text += f" --{'src-' if is_copy else ''}path {seen.path}"
    if is_copy:
        kept = seen.layout.irregular is not None and one.shards == tuple(
            level.sharding.decoded.shape for level in seen.layout.levels
        )
        if not kept:  # one shape would take the place of several
            text += "".join(f" --shards {','.join(map(str, level))}" for level in one.shards) or " --shards none"
    if effort > 2:
        text += f" --chunks {','.join(map(str, one.chunks))}"
    if isinstance(one.order, str):
        text += f" --order {one.order}"
    return text if one.gap_bytes is None else f"{text}, then read with merge_gap_bytes={one.gap_bytes}"


def _print_json(
    seen: Survey, patterns: list[Access], predictions: list[Prediction], best: Prediction, prices: Prices
) -> None:
    print_json(
        {
            "prices": asdict(prices),
            "n_objects": seen.n_objects,
            "n_objects_seen": len(seen.objects),
            "usage": asdict(seen.usage),
            "access": [{"name": p.name, "n_reads": len(p.selections)} for p in patterns],
            "layouts": [
                {
                    "order": prediction.candidate.order_name,
                    "shards": [list(level) for level in prediction.candidate.shards],
                    "chunks": list(prediction.candidate.chunks),
                    "gap_bytes": prediction.candidate.gap_bytes,
                    "is_exact": prediction.is_exact,
                    "is_recommended": prediction is best,
                    "costs": [asdict(cost) for cost in prediction.costs],
                    "total": asdict(prediction.total),
                }
                for prediction in predictions
            ],
        }
    )
