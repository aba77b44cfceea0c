"""The matrix of compatibility in a fast form: every codec with some data type, every data type with some codec."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.compatibility import Result, installed, run
from support.compatibility_cases import CODECS_V2, CODECS_V3, DATA_TYPES, Case, cases
from tools.compatibility_page import cell, document

pytestmark = pytest.mark.peer

FAMILIES = ("bool", "int", "float", "complex", "string", "time")

# What peers are known to do otherwise, without an error: name of the peer, layouts, codec, family of data types.
KNOWN = {
    ("zarr", "transpose", "string"),  # writes text in the order of the memory, not in that of the transposed chunk
}


def interesting() -> list[Case]:
    """Each codec with one data type of some families, plain; each data type with zstd, plain and sharded."""
    found: list[Case] = []
    seen: Counter[tuple[str, str, str]] = Counter()
    for case in cases(layouts={"v2", "plain", "sharded"}):
        kind = case.layout, case.codec, case.family
        chosen = seen[kind] == (2 if case.family in ("int", "float") else 0) and case.family in FAMILIES
        if case.codec == "zstd" or (chosen and case.layout != "sharded"):
            found.append(case)
        seen[kind] += 1
    return found


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return run(interesting(), installed())


def test_zarrdock_reads_what_it_wrote(results: list[Result]) -> None:
    assert [(r.case.name, r.notes) for r in results if r.ours == "other"] == []
    good = [r.case for r in results if r.ours == "good"]
    assert {case.codec for case in good} == {*CODECS_V2, *CODECS_V3}
    assert {case.family for case in good} == set(DATA_TYPES)


def test_what_is_refused_is_refused_with_a_reason(results: list[Result]) -> None:
    refused = [r for r in results if r.ours == "refused"]
    assert refused
    for result in refused:
        kind = result.notes["zarrdock", "writes"].partition(":")[0]
        assert kind in ("MetadataError", "UnsupportedError", "CodecError", "UnknownExtensionError"), result.notes


def test_peers_and_zarrdock_never_differ_without_an_error(results: list[Result]) -> None:
    differences = {
        (peer, r.case.codec, r.case.family)
        for r in results
        for side in (r.reads, r.writes)
        for peer, outcome in side.items()
        if outcome == "other"
    }
    assert differences <= KNOWN


def test_peers_agree_where_they_should(results: list[Result]) -> None:
    core = [r for r in results if r.case.family in ("bool", "int", "float", "complex") and r.case.codec == "zstd"]
    assert len(core) > 30
    for result in core:
        for peer in installed():
            if peer in result.reads:
                assert (peer, result.reads[peer], result.writes[peer]) == (peer, "good", "good"), result


def test_the_page(results: list[Result]) -> None:
    page = document(results, installed())
    assert "| `zstd` | ● " in page
    assert "/tmp" not in page
    assert cell([]) == "–"
    assert "✗" not in page


def test_the_command_wants_a_page(repository: Path) -> None:
    command = [sys.executable, "-m", "tools.compatibility_page"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository)
    assert done.returncode == 2
    assert "PAGE" in done.stderr
