"""Completion in the shell. It asks no server: what is on the disk, and names."""

from __future__ import annotations

import re
from pathlib import Path

from click import Context, Parameter
from click.shell_completion import CompletionItem

__all__ = ["complete_codecs", "complete_nodes", "complete_urls"]

_SCHEMES = ("s3://", "gs://", "az://", "https://", "http://", "memory://", "zip://", "file:")
_ADAPTERS = ("zip:", "zarr3:", "zarr2:", "icechunk:")


def complete_urls(_: Context, __: Parameter, incomplete: str) -> list[CompletionItem]:
    """Files and folders, which the shell knows best; beginnings of URLs; parts of pipelines."""
    before, bar, last = incomplete.rpartition("|")
    if bar:
        return [CompletionItem(f"{before}|{name}") for name in _ADAPTERS if name.startswith(last)]
    if "://" in incomplete:
        return []
    schemes = [CompletionItem(name) for name in _SCHEMES if incomplete and name.startswith(incomplete)]
    return [CompletionItem(incomplete, type="file"), *schemes]


def complete_nodes(context: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Nodes in a local store; the groups among them with a slash, so that one can go on."""
    place = {"src_path": 0, "dst_path": 1}.get(parameter.name or "", 0)
    url = context.params.get(("src", "dst")[place] if parameter.name != "path" else "url")
    if url is None and len(context.args) > place:  # as where the option's value is what is still to come
        url = context.args[place]
    if not isinstance(url, str) or re.match("[A-Za-z][A-Za-z0-9+.-]+:", url) or not Path(url.split("|")[0]).exists():
        return []
    from zarrdock.array.group import Group
    from zarrdock.errors import ZarrdockError

    parent = incomplete.rpartition("/")[0]
    before = f"{parent}/" if parent else ""
    try:
        import zarrdock

        members = dict(zarrdock.open_group(url, path=parent).members(on_error=lambda *_: None))
    except ZarrdockError:
        return []
    names = (f"{before}{name}{'/' if isinstance(node, Group) else ''}" for name, node in members.items())
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def complete_codecs(_: Context, __: Parameter, incomplete: str) -> list[CompletionItem]:
    """Codecs that can compress chunks, and the words that stand for some."""
    from zarrdock.cli.parse import compressor_names

    return [
        CompletionItem(name) for name in ("auto", "keep", "none", *compressor_names()) if name.startswith(incomplete)
    ]
