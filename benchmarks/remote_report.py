"""The tables of ``remote`` as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.report import machine, table, three

Cells = Mapping[str, Any]


def markdown(
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
    missing: Mapping[str, str],
    titles: Mapping[int, Mapping[str, str]],
    tables: Mapping[int, Mapping[str, Cells]],
) -> str:
    about = machine()
    lines = ["# Remote reads", "", "- implementations: " + ", ".join(f"{n} {v}" for n, v in versions.items())]
    lines += [f"- left out: {name} ({reason})" for name, reason in missing.items()]
    lines += [f"- {key}: {value}" for key, value in settings.items()]
    lines += [
        f"- machine: {about['cores']} cores, {about['architecture']}, {about['system']}, Python {about['python']}"
    ]
    failures = []
    for delay_ms, rows in tables.items():
        lines += ["", f"## {delay_ms} ms to the first byte", ""]
        lines += [f"- {key}: {title}" for key, title in titles[delay_ms].items()]
        for heading, text in (
            ("Seconds", lambda m: three(m["wall"])),
            ("Rounds / requests / megabytes over the wire", _wire if delay_ms else _wire_without_rounds),
            ("Seconds of CPU, all threads", lambda m: three(m["cpu"])),
        ):
            lines += ["", f"### {heading}, {delay_ms} ms", "", *_table(rows, list(versions), text)]
        failures += [
            f"{delay_ms} ms, {key}, {name}: {cell.error}"
            for key, cells in rows.items()
            for name, cell in cells.items()
            if cell.error
        ]
    if failures:
        lines += ["", "## Not timed", "", *(f"- {line}" for line in failures)]
    return "\n".join(lines) + "\n"


def _wire(m: Mapping[str, float]) -> str:
    return f"{m['rounds']:.0f} / {_wire_without_rounds(m)}"


def _wire_without_rounds(m: Mapping[str, float]) -> str:
    return f"{m['requests']:.0f} / {m['bytes'] / 1e6:.1f}"


def _table(rows: Mapping[str, Cells], names: list[str], text: Callable[[Mapping[str, float]], str]) -> list[str]:
    body = []
    for key, cells in rows.items():
        for state in ("cold", "hot"):
            found = [cells[name].states[state].medians() if name in cells else {} for name in names]
            if any(found):
                body.append([key, state, *(text(one) if one else "" for one in found)])
    return table(["", "", *names], body)
