"""Requests and rounds of every operation at every remote store, counted by a proxy that stands before the service."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.fault_proxy import Seen, n_rounds
from support.operations import (
    N_CHILDREN,
    NEW,
    ONE_SHARD,
    OPERATIONS,
    PART,
    SERVICES,
    Operation,
    Place,
    Service,
    count,
    hierarchies,
    measure,
    place,
    values,
    without_many_objects,
)
from zarrdock.errors import UnsupportedError

pytestmark = [pytest.mark.server, pytest.mark.slow]

# Other people's servers take seconds for thousands of objects.
SMALL = ("S3 (moto)", "GCS (emulator)", "Azure (Azurite)")


@pytest.fixture(scope="session")
def items() -> Mapping[str, bytes]:
    return hierarchies()


@pytest.fixture(scope="module", params=SERVICES)
def where(request: pytest.FixtureRequest, items: Mapping[str, bytes]) -> Iterator[Place]:
    service: Service = request.param
    if service == "Azure (Azurite)":
        request.getfixturevalue("azurite")  # skipped where it is not installed
    if service in SMALL:
        items = without_many_objects(items)
    with place(service, items) as opened:
        yield opened


def operations(where: Place) -> list[Operation]:
    """Those that mean something there."""
    return [operation for operation in OPERATIONS if operation.is_for(where)]


def test_budgets(where: Place) -> None:
    found = {operation: measure(operation, where) for operation in operations(where)}
    assert {
        operation.name: str(counted)
        for operation, counted in found.items()
        if counted.rounds > operation.most(where.service)[0] or counted.requests > operation.most(where.service)[1]
    } == {}
    assert len(found) >= 15


def test_names_of_many_children(where: Place) -> None:
    if where.service == "HTTP":
        with pytest.raises(UnsupportedError):
            where.store("many_plain").list_dir()
        return
    if where.service in SMALL:
        n_names = len(where.store("tree").list_dir().prefixes)
        assert count(where.proxy, lambda: where.store("tree").list_dir()).requests == 1
        assert n_names == 4
        return
    # A thousand folders and one document: a page holds a thousand names.
    store = where.store("many_plain")
    assert count(where.proxy, store.list_dir).requests == 2
    group = zarrdock.open_group(store, zarr_format=3)
    where.proxy.clear()
    assert len(list(group.arrays())) == N_CHILDREN
    requests = [seen.method for seen in where.proxy.log]
    assert len(requests) == 2 + N_CHILDREN, "without consolidated metadata, one document a child"


def test_the_page_tells_what_is_measured(repository: Path) -> None:
    """The budgets of the page are those of the tests, and its figures for zarrdock are within them."""
    page = (repository / "docs" / "measurements" / "requests.md").read_text("utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    head, *body = rows
    assert [row[:2] for row in body] == [[op.name, f"{op.rounds} / {op.requests}"] for op in OPERATIONS]
    for row, operation in zip(body, OPERATIONS, strict=True):
        for name, ours in zip(head[2::2], row[2::2], strict=True):
            assert name in SERVICES
            if ours:
                assert all(n <= m for n, m in zip(map(int, ours.split(" / ")), operation.most(name), strict=True)), row


def test_what_a_write_sends(where: Place) -> None:
    if where.service == "HTTP":
        return
    by_name = {operation.name: operation for operation in OPERATIONS}
    put = "POST" if where.service.startswith("GCS") else "PUT"
    for name, methods in {
        "create an array": ["GET", put],
        "create an array with overwrite": ["GET", "GET", put],
        "write a full shard": ["GET", put],
        "write a part of a shard": ["GET", "GET", put],
    }.items():
        call = by_name[name].prepare(where)
        where.proxy.clear()
        call()
        assert sorted(seen.method for seen in where.proxy.log) == methods, name  # the look goes beside the write
        (write,) = (seen for seen in where.proxy.log if seen.method == put)
        condition = write.if_match or "ifGenerationMatch" in write.path
        assert bool(condition) == (name in ("create an array", "write a part of a shard")), name


def test_rounds_of_a_log() -> None:
    def seen(*times: tuple[int, int]) -> list[Seen]:
        return [Seen("GET", "/", "", "", 200, "", began, ended) for began, ended in times]

    assert n_rounds([]) == 0
    assert n_rounds(seen((0, 2))) == 1
    assert n_rounds(seen((0, 2), (1, 3), (1, 9))) == 1
    assert n_rounds(seen((0, 2), (2, 4), (1, 3))) == 2
    for order in itertools.permutations([(0, 2), (3, 5), (6, 8), (1, 7)]):
        assert n_rounds(seen(*order)) == 3


@pytest.mark.parametrize(
    ("box", "rounds", "requests"),
    [
        pytest.param(PART, 2, 3, id="part of a shard"),  # the document beside the old shard
        pytest.param(ONE_SHARD, 2, 2, id="whole shard"),  # while the new one is encoded
        pytest.param(np.s_[:, :, :], 2, 9, id="eight shards"),
    ],
)
def test_a_document_that_was_not_seen_for_a_while(where: Place, box: Any, rounds: int, requests: int) -> None:
    """A write looks at it once, however many objects there are."""
    if where.scheme == "http" or where.service in SMALL:
        pytest.skip("strict services that are written to")
    array = zarrdock.create_array(where.store(where.new()), **NEW)
    array[...] = values()

    def write() -> None:
        array[box] = values()[box]

    for _ in range(3):  # on a busy machine one round may look like two
        array._distrust()
        found = count(where.proxy, write)
        if found.rounds <= rounds:
            break
    assert found.rounds <= rounds
    assert found.requests == requests
