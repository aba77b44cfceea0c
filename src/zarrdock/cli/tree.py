"""``zarrdock tree``: a whole hierarchy."""

from __future__ import annotations

from typing import Any

from rich.text import Text
from rich.tree import Tree

from zarrdock.array.hierarchy import Hierarchy
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node
from zarrdock.array.node_storage import join
from zarrdock.cli.app import click
from zarrdock.cli.open_nodes import brief, find, name_left_out
from zarrdock.cli.options import as_json, node_options
from zarrdock.cli.output import console, print_json
from zarrdock.errors import ZarrdockError

__all__ = ["command"]


@click.command("tree")
@node_options
@click.option("-L", "--depth", type=click.IntRange(min=0), help="Levels to show; all by default.")
@as_json
def command(url: str, path: str, storage_options: dict[str, Any], depth: int | None, as_json: bool) -> None:
    """Show the hierarchy below URL; nodes whose metadata is broken are shown with the error."""
    found = find(url, path, storage_options)
    name_left_out(found)
    limit = 2**31 if depth is None else depth
    if as_json:
        print_json(_facts(Hierarchy(found.store), found.path, found.node, limit))
        return
    name = found.path.rpartition("/")[2] or found.store.url
    top = Tree(_label(name, found.node), guide_style="dim")
    _grow(top, Hierarchy(found.store), found.path, found.node, limit)
    console().print(top)


def _label(name: str, node: Node | ZarrdockError) -> Text:
    if isinstance(node, GroupMetadata):
        return Text(f"{name}/", "bold")
    return Text.assemble((name, "bold"), "  ", (brief(node), "red" if isinstance(node, ZarrdockError) else "dim"))


def _grow(tree: Tree, hierarchy: Hierarchy, path: str, node: Node, depth: int) -> None:
    if isinstance(node, ArrayMetadata) or depth == 0:
        return
    for name, child in list(hierarchy.members(path, node)):
        branch = tree.add(_label(name, child))
        if isinstance(child, GroupMetadata):
            _grow(branch, hierarchy, join(path, name), child, depth - 1)


def _facts(hierarchy: Hierarchy, path: str, node: Node | ZarrdockError, depth: int) -> dict[str, Any]:
    if isinstance(node, ZarrdockError):
        return {"error": str(node)}
    if isinstance(node, ArrayMetadata):
        return {"node_type": "array", "shape": list(node.shape), "data_type": node.data_type.to_json()}
    facts: dict[str, Any] = {"node_type": "group"}
    if depth:
        facts["members"] = {
            name: _facts(hierarchy, join(path, name), child, depth - 1)
            for name, child in list(hierarchy.members(path, node))
        }
    return facts
