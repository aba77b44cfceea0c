"""``zarrdock check-store``: the abilities of a store, found by trying them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from zarrdock.cli.app import click
from zarrdock.cli.complete import complete_urls
from zarrdock.cli.options import as_json, debug_option, patience_options, storage_option
from zarrdock.cli.output import print_json, table
from zarrdock.stores.abilities import check_store
from zarrdock.stores.open import open_store

__all__ = ["command"]


@click.command("check-store")
@click.argument("url", shell_complete=complete_urls)
@storage_option("Option of the file system behind the URL, such as anon=true; again for more.")
@click.option("--read-only", is_flag=True, help="Write nothing.")
@click.option("--key", metavar="KEY", help="Object to read where nothing is written; default: a document of Zarr.")
@patience_options
@debug_option
@as_json
def command(url: str, storage_options: dict[str, Any], read_only: bool, key: str | None, as_json: bool) -> int:
    """Try what the store at URL can do: writes, ranges, versions, conditions on writes, listing, deletion.

    Marks of a few bytes are written below URL and taken away again.

    Exit status 1 if the store does something wrong; what it can't do, and refuses, does not count.
    """
    with open_store(url, storage_options=storage_options or None, read_only=read_only) as store:
        report = check_store(store, key=key)
    if as_json:
        document = {"url": report.url, "place": report.place, "is_good": report.is_good}
        print_json({**document, "abilities": [asdict(ability) for ability in report.abilities]})
    else:
        print(f"{report.url} ({report.place})")
        table([(one.name, f"{one.outcome}: {one.text}" if one.text else one.outcome) for one in report.abilities])
    return 0 if report.is_good else 1
