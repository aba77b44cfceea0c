"""Options that several commands share, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from zarrdock.cli.app import click

__all__ = ["as_json", "debug_option", "node_options", "read_storage_options"]

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
    """What says which node is meant: ``URL``, ``--path``, ``--storage-option``."""
    decorators: list[Callable[[F], F]] = [
        click.argument("url"),
        click.option("--path", default="", metavar="PATH", help="Node within the store, for instance in a zip."),
        click.option(
            "--storage-option",
            "storage_options",
            multiple=True,
            metavar="KEY=VALUE",
            callback=read_storage_options,
            help="Option of the file system behind the URL, such as anon=true; again for more.",
        ),
        debug_option,
    ]
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


def as_json(function: F) -> F:
    """``--json``."""
    option: Callable[[F], F] = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
    return option(function)
