"""Every fault on every operation of S3, Google Cloud Storage, Azure and HTTP, one kind at a time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import fault_matrix as matrix
from support.fault_matrix import Cell
from support.servers import Endpoint
from tools import fault_table

pytestmark = [pytest.mark.server, pytest.mark.slow]

Results = dict[Cell, tuple[str, float]]
CELLS = list(matrix.cells())


@pytest.fixture(scope="module")
def results() -> Iterator[Results]:
    with matrix.Services() as services:
        yield matrix.run_all(services)


@pytest.fixture(scope="module")
def results_of_azurite(azurite: Endpoint) -> Iterator[Results]:
    with matrix.Services(azurite) as services:
        yield matrix.run_all(services, ["Azure"])


def expected(cell: Cell) -> str:
    fault, ends = cell.kind.fault, not cell.for_ever
    if cell.kind.status == 403:
        return "AccessError"  # at once: trying again does not help
    if fault in ("delay", "ignore_range"):
        return "ok"
    # obstore deletes by the call for many, which answers with a list.
    by_obstore = cell.service == "S3 by obstore"
    reply_has_no_body = (cell.operation == "delete" and not by_obstore) or (
        cell.service.startswith(("S3", "Azure")) and cell.operation in ("write", "create", "update: PUT")
    )
    if fault in ("stall", "truncate") and reply_has_no_body:
        return "ok"  # nothing to cut
    if ends:
        return "ok"
    return "ConflictError" if cell.kind.status == 409 else "StoreError"


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_right_bytes_or_the_right_error(cell: Cell, results: Results) -> None:
    outcome, seconds = results[cell]
    assert outcome == expected(cell)
    assert seconds < matrix.DEADLINE_SECONDS


def test_azurite(results_of_azurite: Results) -> None:
    # It checks signatures, so that a range can't be taken away on the way.
    outcomes = {c: found for c, (found, _) in results_of_azurite.items() if c.kind.fault != "ignore_range"}
    wrong = {str(cell): found for cell, found in outcomes.items() if found != expected(cell)}
    assert wrong == {}
    assert max(seconds for _, seconds in results_of_azurite.values()) < matrix.DEADLINE_SECONDS


def test_table(results: Results, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = {cell: outcome for cell, (outcome, _) in results.items()}
    with capsys.disabled():
        print("\n" + fault_table.table(outcomes))
    assert (repository / "docs" / "measurements" / "fault-matrix.md").read_text() == fault_table.document(outcomes)
