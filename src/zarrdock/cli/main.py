"""Entry point of the ``zarrdock`` command: turns every outcome into an exit status, and every mistake into one line.

Exit status: 0 success; 1 the request failed, or ``check`` found errors; 2 the command line itself is wrong; 3 a copy is
there that lacks something of the source; 130 interrupted; 141 the reader of the output closed it.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zarrdock.config import config

if TYPE_CHECKING:
    from zarrdock.errors import ZarrdockError

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
    codecs.register_error("zarrdock.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="zarrdock.plain")
    with warnings.catch_warnings():
        warnings.showwarning = partial(_show_warning, as_json="--json" in arguments)
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            _fail(_interrupted(arguments), "KeyboardInterrupt", 130, arguments, before="")
            return 130
        except BrokenPipeError:
            # Buffered output has nowhere to go, and the interpreter would complain about it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except Exception as error:
            if debug:
                traceback.print_exc()
            _fail(_describe(error, arguments), type(error).__name__, 1, arguments)
            return 1


# What stands for characters that a terminal's encoding has not: of frames, signs and dots; else a question mark.
_PLAIN = str.maketrans(
    {
        "×": "x", "…": "...", "·": ".", "–": "-", "—": "-", "●": "*", "•": "*", "≤": "<=", "≥": ">=", "µ": "u",
        "\u2212": "-", "→": "->", "←": "<-",
        **dict.fromkeys("─━═╌╍┄┅╴╶╸╺", "-"), **dict.fromkeys("│┃║╎╏┆┇╵╷", "|"),
        **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯┏┓┗┛┡┢┣┩┪┫┳┻╇╈╋╔╗╚╝╠╣╦╩╬", "+"), **dict.fromkeys("█▓▒░▉▊▋▌▍▎▏", "#"),
    }
)  # fmt: skip


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Handle characters that cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "replace"), error.end


def _fail(message: str, kind: str, status: int, arguments: Sequence[str], *, before: str = "error: ") -> None:
    """Say why there is no result: one line on standard error, with ``--json`` of JSON."""
    if "--json" in arguments:
        message = json.dumps({"error": message, "type": kind, "status": status}, ensure_ascii=False)
        before = ""
    print(f"{before}{message}", file=sys.stderr)


def _interrupted(arguments: Sequence[str]) -> str:
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    anew = {"--overwrite", "--no-resume", "--dry-run"} & {*arguments} or any(one.endswith(".ozx") for one in arguments)
    if command in ("copy", "pyramid", "relayout") and not anew:
        return "interrupted: run the same command again to go on"
    return "interrupted"


_PATIENCE_SECONDS = 3.0


@contextmanager
def _told_to_wait(arguments: Sequence[str]) -> Iterator[None]:
    """Say on a terminal that a server is slow, where nothing was seen for some seconds."""
    url = next((one for one in arguments if "://" in one and not one.startswith(("file:", "memory:", "-"))), None)
    if url is None or not sys.stderr.isatty() or {"serve", "view", "-q", "--quiet"} & {*arguments}:
        yield
        return

    def tell() -> None:
        from zarrdock.stores.diagnose import redact

        print(
            f"still waiting for {redact(url)}; Ctrl-C ends it, --retry-seconds 10 gives up after 10 seconds",
            file=sys.stderr,
        )

    timer = threading.Timer(_PATIENCE_SECONDS, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _run(arguments: Sequence[str]) -> int:
    try:
        _ = config.threads
    except ValueError as error:  # in the environment
        _fail(str(error), type(error).__name__, 2, arguments)
        return 2
    try:
        from zarrdock.cli.app import app, click
    except ModuleNotFoundError as error:
        if error.name in _LIBRARIES:
            print('error: the command line needs some more packages: pip install "zarrdock[cli]"', file=sys.stderr)
            return 2
        raise
    try:
        instruction = os.environ.get("_ZARRDOCK_COMPLETE")
        if instruction:
            from click.shell_completion import shell_complete

            return shell_complete(app, {}, "zarrdock", "_ZARRDOCK_COMPLETE", instruction)
        # Not app.main(): it has its own way with interruptions and closed pipes.
        with _told_to_wait(arguments), app.make_context("zarrdock", list(arguments)) as context:
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
        _fail(f"{_one_line(error.format_message())}{hint}", type(error).__name__, error.exit_code, arguments)
        return error.exit_code


def _describe(error: Exception, arguments: Sequence[str]) -> str:
    from zarrdock.errors import ZarrdockError

    if isinstance(error, ZarrdockError):
        notes = "; ".join(getattr(error, "__notes__", ())) or _neighbour(error, arguments)
        return _with_options(_one_line(f"{error} ({notes})" if notes else str(error)), arguments)
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, ModuleNotFoundError) and error.name in _LIBRARIES:
        return f'{error.name} is missing: pip install "zarrdock[cli]"'
    if isinstance(error, OSError) and error.strerror:
        return _one_line(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
    return _one_line(f"{type(error).__name__}: {error} (this should not happen; --debug shows where it did)")


def _neighbour(error: ZarrdockError, arguments: Sequence[str]) -> str:
    """Words about a path that is not there, where it is an argument and something beside it is called alike."""
    from zarrdock.cli.open_nodes import neighbour
    from zarrdock.errors import NodeNotFoundError
    from zarrdock.stores.urls import path_of_file_url

    if not isinstance(error, NodeNotFoundError):
        return ""
    names = {argument: Path(path_of_file_url(argument) or argument).name for argument in arguments}
    return next((hint for url, name in names.items() if name and name in str(error) and (hint := neighbour(url))), "")


def _with_options(text: str, arguments: Sequence[str]) -> str:
    """Name the command's options where a message of the library names parameters: ``--shards`` for ``shards=``,
    ``--overwrite`` for ``overwrite=True``, ``--missing fill`` for ``missing='fill'``.
    """
    from zarrdock.cli.app import app, click

    commands = (app.get_command(click.Context(app), argument) for argument in arguments)
    command = next((command for command in commands if command is not None), None)
    if command is None:
        return text
    options = {str(one.name): one.opts[0] for one in command.params if isinstance(one, click.Option)}

    def option(found: re.Match[str]) -> str:
        name, value = options.get(found[1]), found[2].strip("'").lower()
        if name is None:
            return found[0]
        return name if value in ("", "true", "...") else f"{name} {value}"

    return re.sub(r"(?<![^\s(])(\w+)=(True|None|\.\.\.|\d+|'\w+'|)(?=[\s,;:)]|$)", option, text)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _show_warning(message: Warning | str, *_: object, as_json: bool, **__: object) -> None:
    text = _one_line(str(message))
    print(json.dumps({"warning": text}, ensure_ascii=False) if as_json else f"warning: {text}", file=sys.stderr)
