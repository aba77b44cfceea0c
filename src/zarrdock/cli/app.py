"""The commands, each loaded when it is asked for: ``zarrdock info`` must not wait for what only ``demo`` needs."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click
elif "_ZARRDOCK_COMPLETE" not in os.environ and (len(sys.argv) < 2 or {"--help", "-h"} & set(sys.argv)):
    # The same library with help that reads better. It costs a tenth of a second, so only help pays for it.
    import rich_click as click
else:
    import click

__all__ = ["app", "click", "did_you_mean"]

_COMMANDS = {
    "info": "zarrdock.cli.info",
    "ls": "zarrdock.cli.ls",
    "tree": "zarrdock.cli.tree",
    "copy": "zarrdock.cli.copy_",
    "pyramid": "zarrdock.cli.pyramid",
    "plan": "zarrdock.cli.plan",
    "check": "zarrdock.cli.check",
    "check-store": "zarrdock.cli.check_store",
    "layout": "zarrdock.cli.layout",
    "relayout": "zarrdock.cli.relayout",
    "cost": "zarrdock.cli.cost",
    "serve": "zarrdock.cli.serve",
    "view": "zarrdock.cli.view",
    "thumbnail": "zarrdock.cli.thumbnail",
    "demo": "zarrdock.cli.demo",
}


class _Lazy(getattr(click, "RichGroup", click.Group)):  # type: ignore[misc]
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        module = _COMMANDS.get(name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).command
        if command.short_help is None and command.help:  # in the list of commands: the first sentence
            command.short_help = " ".join(re.split(r"\n\s*\n|(?<=\.)\s+(?=[A-Z])", command.help, maxsplit=1)[0].split())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = str(args[0])
        if name not in _COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            is_there = Path(name).exists()
            hint = f": to look at it, say zarrdock info {name}" if is_there else did_you_mean(name, _COMMANDS)
            raise click.UsageError(f"no command {name!r}{hint or ': one of ' + ', '.join(_COMMANDS)}", ctx)
        found: tuple[str | None, click.Command | None, list[str]] = super().resolve_command(ctx, args)
        return found


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is none of those known."""
    found = difflib.get_close_matches(word, list(known), n=2, cutoff=0.6)
    return f": did you mean {' or '.join(found)}?" if found else ""


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from zarrdock import __version__

        click.echo(f"zarrdock {__version__}")
        ctx.exit()


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Say the version.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show where in the program an error came from.")
def app(**_: Any) -> None:
    """Zarr arrays in files, zip archives and object storage: look, copy, plan, check.

    A URL is a path, file:, memory:, s3://, gs://, az://, http(s)://, zip://, any other that fsspec knows, or a
    pipeline such as s3://bucket/a.zip|zip:inner|zarr3:
    """
