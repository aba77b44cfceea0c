"""``zarrdock ls``: the members of a group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zarrdock.array.hierarchy import Hierarchy
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata
from zarrdock.cli.app import click
from zarrdock.cli.open_nodes import brief, find, name_left_out
from zarrdock.cli.options import as_json, node_options
from zarrdock.cli.output import print_json, table
from zarrdock.errors import ZarrdockError

__all__ = ["command"]


@click.command("ls")
@node_options
@click.option("-l", "--long", "is_long", is_flag=True, help="Show data type, shape, chunks and shards.")
@as_json
def command(url: str, path: str, storage_options: dict[str, Any], is_long: bool, as_json: bool) -> None:
    """List the members of the group at URL; a name that ends in / is a group."""
    found = find(url, path, storage_options)
    name_left_out(found)
    if isinstance(found.node, ArrayMetadata):
        members: list[tuple[str, Any]] = [(found.path.rpartition("/")[2] or Path(url.rstrip("/")).name, found.node)]
    else:
        members = list(Hierarchy(found.store).members(found.path, found.node))
    if as_json:
        print_json([_facts(name, node) for name, node in members])
        return
    names = [f"{name}/" if isinstance(node, GroupMetadata) else name for name, node in members]
    if is_long:
        table([(name, brief(node)) for name, (_, node) in zip(names, members, strict=True)], indent="")
    else:
        for name in names:
            print(name)


def _facts(name: str, node: Any) -> dict[str, Any]:
    if isinstance(node, ZarrdockError):
        return {"name": name, "error": str(node)}
    if isinstance(node, GroupMetadata):
        return {"name": name, "node_type": "group"}
    return {
        "name": name,
        "node_type": "array",
        "shape": list(node.shape),
        "data_type": node.data_type.to_json(),
    }
