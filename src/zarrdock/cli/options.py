"""Options that several commands share, and how they are read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from zarrdock.cli.app import click
from zarrdock.cli.complete import complete_codecs, complete_nodes, complete_urls
from zarrdock.cli.parse import parse_chunks, parse_compressor, parse_memory

__all__ = [
    "address_options",
    "as_json",
    "debug_option",
    "layout_options",
    "memory_option",
    "node_options",
    "patience_options",
    "read_storage_options",
    "storage_option",
]

F = TypeVar("F", bound=Callable[..., Any])


def read_storage_options(
    _: click.Context | None, parameter: click.Parameter | None, given: Sequence[str]
) -> dict[str, Any]:
    """``key=value`` pairs; a value that is JSON is taken as such, anything else as text."""
    options: dict[str, Any] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{item!r}: write key=value", param=parameter)
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options


def debug_option(function: F) -> F:
    """``--debug`` behind the command too. ``main`` looks for it in the arguments."""
    option: Callable[[F], F] = click.option("--debug", is_flag=True, expose_value=False, hidden=True)
    return option(function)


def node_options(function: F) -> F:
    """Parameters that name a node: ``URL``, ``--path``, ``--storage-option``."""
    decorators: list[Callable[[F], F]] = [
        click.argument("url", shell_complete=complete_urls),
        click.option(
            "--path",
            default="",
            metavar="PATH",
            shell_complete=complete_nodes,
            help="Node within the store, for instance in a zip.",
        ),
        storage_option("Option of the file system behind the URL, such as anon=true; again for more."),
        patience_options,
        debug_option,
    ]
    return _all_of(decorators)(function)


def patience_options(function: F) -> F:
    """``--retry-seconds`` and ``--missing-statuses``, for every store that the command opens."""
    return _all_of(
        [
            click.option(
                "--retry-seconds",
                type=click.FloatRange(0, min_open=True),
                expose_value=False,
                callback=_set_patience,
                help="Give up on a server that does not answer, or answers with errors, after so many.  [default: 120]",
            ),
            click.option(
                "--missing-statuses",
                metavar="STATUS,...",
                expose_value=False,
                callback=_set_missing,
                help="HTTP statuses that mean a missing key beside 404 and 410: 403 where listing is not allowed.",
            ),
        ]
    )(function)


def _set_patience(context: click.Context, _: click.Parameter, seconds: float | None) -> None:
    if seconds is not None and not context.resilient_parsing:
        from zarrdock.stores.open import opening_with
        from zarrdock.stores.retry import RetryPolicy

        retry = RetryPolicy(deadline_seconds=seconds, attempt_seconds=min(seconds, RetryPolicy().attempt_seconds))
        context.with_resource(opening_with(retry=retry))


def _set_missing(context: click.Context, parameter: click.Parameter, given: str | None) -> None:
    if given is None or context.resilient_parsing:
        return
    from zarrdock.stores.open import opening_with

    statuses = [part.strip() for part in given.split(",")]
    if not all(re.fullmatch("[2-5][0-9][0-9]", status, re.ASCII) for status in statuses):
        raise click.BadParameter(f"{given!r}: write HTTP statuses with commas, such as 403", param=parameter)
    context.with_resource(opening_with(missing_statuses=tuple(map(int, statuses))))


def storage_option(text: str, name: str = "--storage-option", target: str = "storage_options") -> Callable[[F], F]:
    """``key=value`` pairs for a filesystem, see :func:`read_storage_options`."""
    return click.option(name, target, multiple=True, metavar="KEY=VALUE", callback=read_storage_options, help=text)


def layout_options(*, chunks: str, shards: str, compressors: str, index_location: str) -> Callable[[F], F]:
    """Options for the layout of a new array: ``--chunks``, ``--shards``, ``--compressor`` and ``--index-location``; all
    are "keep" unless given.

    Args:
        chunks, shards, compressors, index_location: help of each.
    """
    return _all_of(
        [
            click.option(
                "--chunks",
                default="keep",
                metavar="SHAPE",
                callback=lambda _c, _p, value: parse_chunks(value),
                help=chunks,
            ),
            click.option("--shards", multiple=True, metavar="SHAPE", callback=_read_shards, help=shards),
            click.option(
                "--compressor",
                "compressors",
                multiple=True,
                metavar="CODEC",
                callback=_read_compressors,
                shell_complete=complete_codecs,
                help=compressors,
            ),
            click.option(
                "--index-location", type=click.Choice(["start", "end", "keep"]), default="keep", help=index_location
            ),
        ]
    )


def memory_option(where: str = "") -> Callable[[F], F]:
    """``--memory``."""
    return click.option(
        "--memory",
        default="512M",
        metavar="SIZE",
        callback=lambda _c, _p, value: parse_memory(value),
        help=f"About what may be held in memory at one time{where}.  [default: 512M]",
    )


def address_options(port: str) -> Callable[[F], F]:
    """``--host`` and ``--port``; ``port`` is the latter's help."""
    return _all_of(
        [
            click.option(
                "--host",
                default="127.0.0.1",
                show_default=True,
                help="Address to listen on. There is no password.",
            ),
            click.option("--port", default=0, type=click.IntRange(0, 65535), help=port),
        ]
    )


def _all_of(decorators: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for one in reversed(decorators):
            function = one(function)
        return function

    return decorate


def _read_shards(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> Any:
    if not given:
        return "keep"
    found = [parse_chunks(text) for text in given]
    if len(found) == 1:
        return found[0]
    if not all(isinstance(shape, tuple) for shape in found):
        raise click.BadParameter("several levels of shards are given by their shapes, outermost first")
    return found


def _read_compressors(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> Any:
    found = [parse_compressor(text) for text in given]
    if len(found) > 1 and any(one in (None, "auto", "keep") for one in found):
        raise click.BadParameter("none, auto and keep cannot be combined with other compressors")
    return "keep" if not found else found[0] if len(found) == 1 else found


def as_json(function: F) -> F:
    """``--json``."""
    option: Callable[[F], F] = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
    return option(function)
