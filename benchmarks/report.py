"""Results as JSON, as Markdown tables and as a picture."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.run import Cell, Row, mean_ratio


@dataclass
class Report:
    """What a run found, and on what."""

    title: str
    settings: dict[str, Any]
    versions: dict[str, str]
    missing: dict[str, str]
    rows: list[Row]
    reference: str

    def failures(self) -> list[str]:
        """Cells that are wrong or raised, one line each."""
        return [
            f"{row.key} {name}: {cell.state}: {cell.note}"
            for row in self.rows
            for name, cell in row.cells.items()
            if cell.state in ("wrong", "error")
        ]


def machine() -> dict[str, Any]:
    """What may matter about the machine, and nothing that names it."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def write_json(report: Report, path: Path) -> None:
    """All times, in seconds, with the medians worked out."""
    rows = [
        {
            "key": row.key,
            "title": row.title,
            "cells": {
                name: {
                    **asdict(cell),
                    "median_wall": median(cell.wall) if cell.wall else None,
                    "median_cpu": median(cell.cpu) if cell.cpu else None,
                    "ratio": row.ratio(name, report.reference),
                }
                for name, cell in row.cells.items()
            },
        }
        for row in report.rows
    ]
    document = {
        "title": report.title,
        "machine": machine(),
        "settings": report.settings,
        "versions": report.versions,
        "missing": report.missing,
        "reference": report.reference,
        "rows": rows,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def markdown(report: Report) -> str:
    """The report as text: how it was measured, ratios to the reference, then seconds."""
    about = machine()
    names = list(report.versions)
    used = ", ".join(f"{name} {version}" if version != "-" else name for name, version in report.versions.items())
    lines = [f"# {report.title}", "", f"- implementations: {used}"]
    lines += [f"- left out: {name} ({reason})" for name, reason in report.missing.items()]
    lines += [f"- {key}: {value}" for key, value in report.settings.items()]
    lines += [
        f"- machine: {about['cores']} cores, {about['architecture']}, {about['system']}, Python {about['python']}"
    ]
    if report.reference in names:
        lines += ["", f"## Wall time, ratio to {report.reference}", ""]
        lines += ["Median of the ratios of single rounds; below 1 is faster. Differences under 20 % are noise.", ""]
        body = [
            [row.key, row.title, *(ratio_text(row, name, report.reference) for name in names)] for row in report.rows
        ]
        means = [mean_ratio(report.rows, name, report.reference) for name in names]
        body.append(["", "geometric mean (of)", *(f"{mean[0]:.2f} ({mean[1]})" if mean else "" for mean in means)])
        lines += table(["", "workload", *names], body)
    lines += ["", "## Median seconds: wall / CPU of all threads", ""]
    body = [[row.key, row.title, *(seconds_text(row.cells.get(name)) for name in names)] for row in report.rows]
    lines += table(["", "workload", *names], body)
    failures = report.failures()
    if failures:
        lines += ["", "## Not timed", "", *(f"- {line}" for line in failures)]
    return "\n".join(lines) + "\n"


def ratio_text(row: Row, name: str, reference: str) -> str:
    cell = row.cells.get(name)
    if cell is not None and cell.state in ("wrong", "error"):
        return cell.state
    ratio = row.ratio(name, reference)
    return "" if ratio is None else f"{ratio:.2f}"


def seconds_text(cell: Cell | None) -> str:
    if cell is None or not cell.wall:
        return "" if cell is None or cell.state in ("ok", "unsupported") else cell.state
    return f"{three(median(cell.wall))} / {three(median(cell.cpu))}"


def three(value: float) -> str:
    """Three significant digits or all that stand before the point, without an exponent."""
    if value >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.6f}"


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table: two columns of text, then numbers."""
    rule = ["---" if column < 2 else "---:" for column in range(len(head))]
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *body)]


def plot(report: Report, path: Path) -> None:
    """Ratios to the reference as a PNG, one group of dots a workload, on a logarithmic axis.

    Raises:
        SystemExit: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt
        from matplotlib.ticker import LogLocator, NullFormatter
    except ImportError:
        sys.exit("--plot needs matplotlib: pip install matplotlib")
    rows = report.rows[::-1]
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.32 * len(rows)), layout="constrained")
    for name in report.versions:
        if name == report.reference:
            continue
        points = [(ratio, y) for y, row in enumerate(rows) if (ratio := row.ratio(name, report.reference)) is not None]
        if points:
            zarrdock = name == "zarrdock"
            across, up = zip(*points, strict=True)
            axes.scatter(across, up, label=name, s=50 if zarrdock else 24, zorder=3 if zarrdock else 2)
    axes.axvline(1, color="black", linewidth=1, label=report.reference)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(rows)), [f"{row.key}  {row.title}" for row in rows])
    axes.set_xlabel(f"wall time, ratio to {report.reference} (left is faster)")
    axes.grid(axis="x", which="both", alpha=0.25)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=4, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
