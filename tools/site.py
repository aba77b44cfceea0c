"""Hooks of mkdocs: pages that come from elsewhere in the repository, and links that lead out of ``docs/``.

- README, changelog and the like become pages of the site, with their links turned round.
- A page of the API reference is made for every public module, from the names in its ``__all__``.
- Links from pages to files of the repository lead to where these are published.

A link that leads nowhere stays as it is: building the site then fails on it.
"""

from __future__ import annotations

import ast
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = "https://github.com/zarrdock/zarrdock"
# Files of the repository -> the pages they become.
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "CODE_OF_CONDUCT.md": "project/code-of-conduct.md",
}
MODULES = ("zarrdock", "codecs", "storage", "errors", "views", "adapters", "tools", "testing", "config")

_FENCE = re.compile(r"(^```.*?^```[^\n]*$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_made: list[str] = []


@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the package together for mkdocstrings, which reads source and imports nothing."""
    folder = tempfile.mkdtemp(prefix="zarrdock-site-")
    _made.append(folder)
    package = Path(folder, "zarrdock")
    shutil.copytree(ROOT / "src" / "zarrdock", package)
    for part in ("stores", "array", "codecs"):
        shutil.copytree(ROOT / part, package / part)
        for inside in (package / part).rglob("*"):
            if inside.is_dir():
                (inside / "__init__.py").touch()
        (package / part / "__init__.py").touch()
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [folder]
    return config


def on_post_build(config: MkDocsConfig) -> None:
    """Remove the package that was put together."""
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    for source, page in ELSEWHERE.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, page, content=relinked(text, "", page)))
    for page, text in (*api_pages(), ("reference/commands.md", commands_page())):
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that lead out of ``docs/`` into links to the published repository."""
    if page.file.generated_by:
        return markdown
    return relinked(markdown, posixpath.dirname(f"docs/{page.file.src_uri}"), page.file.src_uri)


def relinked(text: str, folder: str, page: str) -> str:
    """Text of a file in ``folder`` of the repository as the page ``page`` of the site: relative links adjusted."""

    def link(match: re.Match[str]) -> str:
        target, mark, anchor = match[2].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        if path.startswith("docs/"):
            target = posixpath.relpath(path[len("docs/") :], posixpath.dirname(page) or ".")
        elif path in ELSEWHERE:
            target = posixpath.relpath(ELSEWHERE[path], posixpath.dirname(page) or ".")
        elif (ROOT / path).exists():
            target = f"{PUBLISHED}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}"
        return f"{match[1]}{target}{mark}{anchor}{match[3]}"

    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def public_names(module: str) -> list[str]:
    """Names in ``__all__`` of a public module, read from its source."""
    package = ROOT / "src" / "zarrdock"
    inside = package if module == "zarrdock" else package / module
    path = inside / "__init__.py" if inside.is_dir() else inside.with_suffix(".py")
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return list(ast.literal_eval(node.value))
    raise ValueError(f"{path} has no __all__")


def places(module: str) -> dict[str, str]:
    """Public names of a module -> the modules they come from, as far as its source has them in ``_PLACES``."""
    path = ROOT / "src" / "zarrdock" / ("__init__.py" if module == "zarrdock" else f"{module}.py")
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_PLACES":
            return dict(ast.literal_eval(node.value))
    return {}


def names_of_pages() -> dict[str, list[str]]:
    """Pages of the API reference -> the full names they show. Every public name stands on one page."""
    found = {module: public_names(module) for module in MODULES if module not in ("zarrdock", "codecs", "config")}
    codecs = {name for name, place in places("zarrdock").items() if place.startswith("codecs.")} - {"WriteOptions"}
    elsewhere = {name for names in found.values() for name in names} | set(found) | codecs | {"config", "__version__"}
    pages = {
        "zarrdock": [f"zarrdock.{name}" for name in public_names("zarrdock") if name not in elsewhere],
        "codecs": [f"zarrdock.{name}" for name in sorted(codecs)],
        "config": ["zarrdock.config.Config"],
    }
    for module, names in found.items():
        pages[module] = [f"zarrdock.{module}.{name}" for name in names]
    return {module: pages[module] for module in MODULES}


TITLES = {
    "zarrdock": "Arrays and groups",
    "codecs": "Codecs",
    **{name: f"zarrdock.{name}" for name in MODULES[2:]},
}
ABOUT = {
    "zarrdock": """The names of `zarrdock` itself. Stores are on the page of [zarrdock.storage](storage.md), codecs on
that of [codecs](codecs.md): `zarrdock.S3Store` and `zarrdock.storage.S3Store` are one class.""",
    "codecs": """Codecs as objects of `zarrdock`, for `compressors=`, `filters=` and `serializer=`; their names and
their metadata are taken as well. [All codecs](../codecs.md).""",
    "storage": """Stores, and everything needed to write one. [The contract](../store-contract.md) says how every
store answers. A class shows its own methods; it has those of `Store` too.""",
    "errors": """Every error that zarrdock raises for something a user, a store or a file did.
[Causes and cures](../errors.md).""",
    "views": "The same data in another form, read-only. [How to use views](../../how-to/views.md).",
    "adapters": "zarrdock for other readers. [How each is used](../adapters.md).",
    "tools": "Work on stored arrays: check, repair, rewrite shards, compress, predict costs, serve.",
    "testing": "Tests that every store passes, and stores that count, break and delay.",
    "config": """Settings of the process: `zarrdock.config.threads = 4`, or `ZARRDOCK_THREADS=4` in the
environment. [What each does](../configuration.md).""",
}


def api_pages() -> Iterator[tuple[str, str]]:
    """Pages of the API reference, and their Markdown."""
    for module, names in names_of_pages().items():
        parts = [f"# {TITLES[module]}\n\n{ABOUT[module]}\n"]
        for name in names:
            inherited = name in ("zarrdock.Array", "zarrdock.Group", "zarrdock.LazySelection")
            parts.append(f"::: {name}\n    options:\n      inherited_members: {str(inherited).lower()}\n")
        yield f"reference/api/{module}.md", "\n".join(parts)


def commands_page() -> str:
    """All commands and options of the command line, as click knows them."""
    from zarrdock.cli.app import app, click

    context = click.Context(app, info_name="zarrdock")
    parts = [
        "# All commands and options\n",
        "Made from the program itself; `zarrdock COMMAND --help` prints the same.",
        "[The command line](cli.md) explains each command.\n",
    ]
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        inside = click.Context(command, info_name=name, parent=context)
        usage = " ".join((inside.command_path, *command.collect_usage_pieces(inside)))
        help_text = (command.help or "").split("\f")[0]
        # Two hyphens in prose would become a dash.
        help_text = re.sub(r"(?<![\w`-])(--[a-z][\w-]*)", r"`\1`", help_text.replace("\b\n", ""))
        parts.append(f"## {name}\n\n```\n{usage}\n```\n\n{help_text}\n")
        rows = [record for param in command.get_params(inside) if (record := param.get_help_record(inside))]
        parts.append("| option | meaning |\n|---|---|")
        for record in rows:
            option, meaning = (text.replace("|", r"\|") for text in record)
            parts.append(f"| `{option}` | {meaning} |")
        parts.append("")
    return "\n".join(parts)
