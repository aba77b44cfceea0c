"""Docstrings as the site shows them, for mkdocstrings: examples as code, roles as links, one entry per name."""

from __future__ import annotations

import re
from typing import Any

import griffe

# ``:func:`open```
_ROLE = re.compile(r":(?:mod|class|func|meth|attr|exc|data|obj):`~?([\w.]+)`")
_EXAMPLE = re.compile(r"^( *)>>> .*\n?(?:\1[^\s].*\n?)*", re.MULTILINE)
# ``shape, dtype: text`` in a section; the text goes on in lines that are indented further.
_JOINT = re.compile(r"^( +)(\w+(?:, \w+)+): (.*\n?(?:\1 +.*\n?)*)", re.MULTILINE)
# ``host: text. port: text``, several entries in one line.
_SECTION = re.compile(r"^(Args|Attributes|Raises):\n((?:    .*\n?)+)", re.MULTILINE)
_SECOND = re.compile(r"(?<=\.) (\w+): ")


class Docstrings(griffe.Extension):
    """Turn docstrings into the Markdown that mkdocstrings reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Adjust the docstring of one object."""
        if obj.docstring is not None:
            module = obj.module.path
            text = _EXAMPLE.sub(self.example, obj.docstring.value)
            names = {*getattr(obj, "members", ()), *(p.name for p in getattr(obj, "parameters", ()))}
            text = _SECTION.sub(lambda match: self.one_each(match, names), text)
            text = _JOINT.sub(self.apart, text)
            obj.docstring.value = _ROLE.sub(lambda match: self.link(match[1], module), text)

    def example(self, match: re.Match[str]) -> str:
        return f"{match[1]}```pycon\n{match[0].rstrip()}\n{match[1]}```\n"

    def one_each(self, match: re.Match[str], names: set[str]) -> str:
        def entry(found: re.Match[str]) -> str:
            is_name = found[1] in names or found[1].endswith("Error")
            return f"\n    {found[1]}: " if is_name else found[0]

        return f"{match[1]}:\n{_SECOND.sub(entry, match[2])}"

    def apart(self, match: re.Match[str]) -> str:
        names = match[2].split(", ")
        return "".join(f"{match[1]}{name}: {match[3].rstrip()}\n" for name in names)

    def link(self, name: str, module: str) -> str:
        shown = name.rpartition(".")[2] if name.startswith("zarrdock.") else name
        full = name if name.startswith("zarrdock.") else f"{module}.{name}"
        return f'<autoref optional identifier="{full}"><code>{shown}</code></autoref>'
