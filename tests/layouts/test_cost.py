"""What whole arrays cost, beside the requests that a service counted."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.operations import Place, place
from zarrdock.cli.main import run
from zarrdock.errors import UnsupportedError
from zarrdock.layouts.cost import PAGE, WholeCost, whole_costs
from zarrdock.layouts.predict import PLACES, Prices
from zarrdock.layouts.shard_stats import survey

pytestmark = pytest.mark.server

VALUES = np.random.default_rng(0).integers(0, 200, (64, 64, 64), "u1")
TRAITS, PRICES = PLACES["s3"]


@pytest.fixture(scope="module")
def where() -> Iterator[Place]:
    with place("S3", {}) as found:
        zarrdock.create_array(store(found, "a"), data=VALUES, chunks=(8, 8, 8), shards=(16, 16, 16))
        yield found


def store(where: Place, path: str) -> zarrdock.Store:
    return zarrdock.open_store(where.url(path), storage_options=where.options)


def counted(where: Place, call: Callable[[], object]) -> tuple[int, int, int]:
    """Reads, writes and lists that the service saw."""
    where.proxy.clear()
    call()
    seen = where.proxy.log
    n_lists = sum("list-type=2" in one.path for one in seen)
    n_reads = sum(one.method in ("GET", "HEAD") for one in seen) - n_lists
    return n_reads, len(seen) - n_reads - n_lists, n_lists


def foretold(array: zarrdock.Array, **settings: Any) -> dict[str, tuple[int, int, int]]:
    costs = whole_costs(array.metadata, traits=TRAITS, prices=PRICES, **settings)
    return {cost.name: (cost.n_reads, cost.n_writes, cost.n_lists) for cost in costs}


def test_open_list_plan_and_copy(where: Place) -> None:
    array = zarrdock.open_array(store(where, "a"))
    told = foretold(array)
    assert counted(where, lambda: zarrdock.open_array(store(where, "a"))) == told["open"]
    assert counted(where, lambda: [*store(where, "a").list()]) == told["list"]
    assert counted(where, lambda: survey(store(where, "a"), "", array.metadata)) == told["read all indexes"]
    assert counted(where, lambda: zarrdock.copy(store(where, "a"), store(where, "b"))) == told["copy as it is"]


@pytest.mark.parametrize(
    ("how", "share"),
    [
        ({"chunks": (16, 16, 16), "shards": (32, 32, 32)}, 0),
        ({"chunks": (4, 4, 4), "shards": (8, 8, 8)}, 0),
        ({"chunks": (12, 12, 12), "shards": (24, 24, 24)}, 0),
        ({"chunks": (64, 64, 1), "shards": None}, 0),
        # Blocks smaller than the source's shards: parts of them are read, and the number of ranges is estimated.
        ({"chunks": (4, 4, 4), "shards": (8, 8, 8), "memory_bytes": 2048}, 0.2),
        ({"chunks": (64, 64, 1), "shards": None, "memory_bytes": 2**16}, 0.2),
    ],
)
def test_copies_to_other_chunks(where: Place, how: dict[str, Any], share: float) -> None:
    name = "-".join(str(how[key]) for key in how).replace(" ", "")
    found = counted(where, lambda: zarrdock.copy(store(where, "a"), store(where, name), **how))
    to = zarrdock.open_array(store(where, name)).metadata
    array = zarrdock.open_array(store(where, "a"))
    memory = {key: value for key, value in how.items() if key == "memory_bytes"}
    assert found == pytest.approx(foretold(array, to=to, **memory)["copy to other chunks"], rel=share)


def test_lists_come_in_pages(where: Place) -> None:
    array = zarrdock.create_array(store(where, "many"), shape=(1200,), dtype="u1", chunks=(1,))
    told = foretold(array)["list"]
    assert told == (0, 0, 2)
    array[:] = np.arange(1, 1201) % 250 + 1
    assert counted(where, lambda: [*store(where, "many").list()]) == told
    assert PAGE == 1000


def test_a_petabyte() -> None:
    array = zarrdock.create_array(None, shape=(100_000,) * 3, dtype="u1", chunks=(64,) * 3, shards=(1024,) * 3)

    def costs(**settings: Any) -> dict[str, WholeCost]:
        given = {"traits": TRAITS, "prices": PRICES, "ratio": 0.5, **settings}
        return {cost.name: cost for cost in whole_costs(array.metadata, **given)}

    one, thousand = costs(), costs(workers=1000)
    n = 98**3
    assert one["list"].n_requests == -(-(n + 1) // 1000)
    assert one["copy as it is"].n_writes == n + 3
    assert one["copy as it is"].nbytes_written == 10**15 // 2
    for name in ("open", "list"):
        assert one[name].n_requests == thousand[name].n_requests
    assert one["list"].seconds == thousand["list"].seconds  # pages come one after another
    assert 900 < one["copy as it is"].seconds / thousand["copy as it is"].seconds <= 1000
    assert one["copy as it is"].price == thousand["copy as it is"].price
    assert one["copy as it is"].price == pytest.approx(n * 0.4e-6 + n * 5e-6 + 943 * 5e-6, rel=1e-3)
    half = costs(stored=0.5)["copy as it is"]
    assert half.nbytes_read == 10**15 // 4
    egress = costs(prices=Prices(egress_per_gb=0.09))["copy as it is"]
    assert egress.price == pytest.approx(45_000)


def test_what_there_is_no_estimate_for() -> None:
    array = zarrdock.create_array(None, shape=(8,), dtype="u1", chunks=[[2, 6]])
    with pytest.raises(UnsupportedError, match="differ in shape"):
        whole_costs(array.metadata, traits=TRAITS, prices=PRICES)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zarrdock.create_array(tmp_path / "a", shape=(10_000,) * 3, dtype="u2", chunks=(64,) * 3, shards=(512,) * 3)
    arguments = ["cost", str(tmp_path / "a"), "--workers", "10", "--ratio", "0.25"]
    assert run([*arguments, "--chunks", "128", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [cost["name"] for cost in found["costs"]] == [
        "open", "list", "read all indexes", "copy as it is", "copy to other chunks",
    ]  # fmt: skip
    assert found["costs"][3]["nbytes_read"] == 5 * 10**11
    assert run([*arguments, "--egress"]) == 0
    text = capsys.readouterr().out.splitlines()
    assert text[0] == "10000 × 10000 × 10000 uint16, on s3, 10 at work"
    assert text[1].split()[-1] == "USD"
    assert text[-1].startswith("copy as it is")
    zarrdock.create_group(tmp_path / "g")
    assert run(["cost", str(tmp_path / "g")]) == 1
    assert "name an array" in capsys.readouterr().err
