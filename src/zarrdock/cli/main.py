"""Entry point of the ``zarrdock`` command: turns every outcome into an exit status, and every mistake into one line.

Exit status: 0 success; 1 the request failed, or ``check`` found errors; 2 the command line itself is wrong; 3 a copy is
there that lacks something of the source; 130 interrupted; 141 the reader of the output closed it.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence

from zarrdock.config import config

__all__ = ["main", "run"]

_LIBRARIES = {"click", "rich", "rich_click", "PIL"}


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line.

    Returns:
        The exit status.
    """
    debug = "--debug" in arguments or os.environ.get("ZARRDOCK_DEBUG", "0") not in ("", "0")
    # Names from a file may hold characters that the terminal has no way to show.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:
            # Buffered output has nowhere to go, and the interpreter would complain about it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except Exception as error:
            if debug:
                traceback.print_exc()
            print(f"error: {_describe(error, arguments)}", file=sys.stderr)
            return 1


def _run(arguments: Sequence[str]) -> int:
    try:
        _ = config.threads
    except ValueError as error:  # in the environment
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        from zarrdock.cli.app import app, click
    except ModuleNotFoundError as error:
        if error.name in _LIBRARIES:
            print('error: the command line needs some more packages: pip install "zarrdock[cli]"', file=sys.stderr)
            return 2
        raise
    try:
        # Not app.main(): it has its own way with interruptions and closed pipes.
        with app.make_context("zarrdock", list(arguments)) as context:
            status = app.invoke(context)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return 2
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context is not None else ""
        print(f"error: {_one_line(error.format_message())}{hint}", file=sys.stderr)
        return error.exit_code


def _describe(error: Exception, arguments: Sequence[str]) -> str:
    from zarrdock.errors import ZarrdockError

    if isinstance(error, ZarrdockError):
        notes = "; ".join(getattr(error, "__notes__", ()))
        return _with_options(_one_line(f"{error} ({notes})" if notes else str(error)), arguments)
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, ModuleNotFoundError) and error.name in _LIBRARIES:
        return f'{error.name} is missing: pip install "zarrdock[cli]"'
    if isinstance(error, OSError) and error.strerror:
        return _one_line(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
    return _one_line(f"{type(error).__name__}: {error} (this should not happen; --debug shows where it did)")


def _with_options(text: str, arguments: Sequence[str]) -> str:
    """Name the command's options where a message of the library names parameters: ``--shards`` for ``shards=``,
    ``--overwrite`` for ``overwrite=True``, ``--zarr-format 3`` for ``zarr_format=3``.
    """
    from zarrdock.cli.app import app, click

    commands = (app.get_command(click.Context(app), argument) for argument in arguments)
    command = next((command for command in commands if command is not None), None)
    if command is None:
        return text
    options = {str(one.name): one.opts[0] for one in command.params if isinstance(one, click.Option)}

    def option(found: re.Match[str]) -> str:
        name, value = options.get(found[1]), found[2] or ""
        if name is None:
            return found[0]
        return name if value in ("", "True", "...") else f"{name} {value.lower()}"

    return re.sub(r"(?<![^\s(])(\w+)=(True|None|\.\.\.|\d+|)(?=[\s,;:)]|$)", option, text)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {_one_line(str(message))}", file=sys.stderr)
