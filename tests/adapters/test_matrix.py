"""Every reader on every kind of store through every view: the table of docs/reference/adapters.md.

``ZARRDOCK_WRITE_TABLE=1 python -m pytest tests/adapters/test_matrix.py`` writes it, with the releases it ran with.
"""

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.adapters.mutable_mapping import as_mapping
from zarrdock.adapters.obspec import as_obspec
from zarrdock.serve.server import Server
from zarrdock.views import as_v2, as_v3, unshard

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore:.*[Cc]onsolidated")]

VALUES = np.arange(48 * 40, dtype="u2").reshape(48, 40)
PART = np.s_[3:40, 5:33:2]

STORES = ("memory", "local", "zip", "s3", "gcs", "azure")
VIEWS: dict[str, Callable[[Any], Any]] = {
    "none": lambda store: store,
    "unshard": unshard,
    "as_v2": as_v2,
    "as_v3": as_v3,  # of v2 data; all others are of sharded v3
}

# -- readers: each reads a part of the array "a" in a store ------------------------------------------------------------


def ours(store: Any) -> Any:
    return zarrdock.open_array(store, path="a")[PART]


def by_zarr(store: Any) -> Any:
    import zarr

    from zarrdock.adapters.zarr_python import ZarrStore

    return zarr.open_array(ZarrStore(store, read_only=True), path="a", mode="r")[PART]


def by_zarrs_pipeline(store: Any) -> Any:
    import zarr

    with zarr.config.set({"codec_pipeline.path": "zarrdock.adapters.zarr_python.CodecPipeline"}):
        return by_zarr(store)


def by_xarray(store: Any) -> Any:
    import xarray as xr

    from zarrdock.adapters.xarray import XarrayBackend

    return xr.open_dataset(store, engine=XarrayBackend, mask_and_scale=False).a[PART].values


def by_dask(store: Any) -> Any:
    return zarrdock.open_array(store, path="a").to_dask()[PART].compute()


def by_fsspec(store: Any) -> Any:
    import zarr
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    from zarrdock.adapters.fsspec import ZarrdockFileSystem

    files = AsyncFileSystemWrapper(ZarrdockFileSystem(store), asynchronous=True)
    return zarr.open_array(zarr.storage.FsspecStore(files, path="/", read_only=True), path="a", mode="r")[PART]


def by_mapping(store: Any) -> Any:
    return ours(dict(as_mapping(store)))


def by_obspec(store: Any) -> Any:
    return ours(as_obspec(store))


def by_tensorstore(store: Any) -> Any:
    tensorstore = pytest.importorskip("tensorstore")
    driver = "zarr3" if store.exists("a/zarr.json") else "zarr"
    with Server(store) as server:
        spec = {"driver": driver, "kvstore": {"driver": "http", "base_url": f"{server.url}/a/"}}
        return tensorstore.open(spec, read=True).result()[PART].read().result()


def by_zarr_over_http(store: Any) -> Any:
    import zarr

    with Server(store) as server:
        files = zarr.storage.FsspecStore.from_url(server.url, read_only=True)
        return zarr.open_array(files, path="a", mode="r")[PART]


# Name in the table, package, and what reads.
READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "zarr-python, `ZarrStore`": ("zarr", by_zarr),
    "zarr-python, `ZarrStore` and `CodecPipeline`": ("zarr", by_zarrs_pipeline),
    "zarr-python, fsspec's `zarrdock`": ("zarr", by_fsspec),
    "zarr-python, HTTP": ("zarr", by_zarr_over_http),
    "TensorStore, HTTP": ("tensorstore", by_tensorstore),
    "xarray, engine `zarrdock`": ("xarray", by_xarray),
    "dask, `to_dask`": ("dask", by_dask),
    "a mapping's, `as_mapping`": ("zarrdock", by_mapping),
    "obspec's, `as_obspec`": ("zarrdock", by_obspec),
    "zarrdock": ("zarrdock", ours),
}


ON_SERVERS = ("s3", "gcs", "azure")


@pytest.fixture(params=[pytest.param(s, marks=[pytest.mark.server] if s in ON_SERVERS else []) for s in STORES])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("view", VIEWS)
def test_readers(kind: str, view: str, place: Any) -> None:
    """All readers, one after another: what one leaves behind, the next has to bear."""
    arguments = place(kind)
    store = zarrdock.open_store(arguments.pop("store"), **arguments)
    zarr_format: Any = 2 if view == "as_v3" else 3
    group = zarrdock.create_group(store, zarr_format=zarr_format)
    sharded = {} if zarr_format == 2 else {"shards": (16, 16)}
    array = group.create_array("a", data=VALUES, chunks=(8, 8), dimension_names=("y", "x"), fill_value=9999, **sharded)
    assert array.shards == sharded.get("shards")
    seen = VIEWS[view](store)
    wrong = {name: None for name, (_, read) in READERS.items() if not np.array_equal(read(seen), VALUES[PART])}
    assert not wrong


# -- the table ---------------------------------------------------------------------------------------------------------

START, END = "<!-- table: begin -->", "<!-- table: end -->"


def table(releases: Callable[[str], str]) -> str:
    """Rows are readers with their releases; columns are stores; in the cells are views."""
    views = ", ".join(name for name in VIEWS if name != "none")
    lines = ["| reader | release | " + " | ".join(STORES) + " |", "|---|---|" + "---|" * len(STORES)]
    for name, (package, _) in READERS.items():
        release = "" if package == "zarrdock" else releases(package)
        lines.append(f"| {name} | {release} | " + " | ".join([f"none, {views}"] * len(STORES)) + " |")
    return "\n".join(lines)


def test_the_table_says_what_is_tested(repository: Path) -> None:
    page = repository / "docs/reference/adapters.md"
    text = page.read_text("utf-8")
    before, _, rest = text.partition(START)
    found, _, after = rest.partition(END)
    if os.environ.get("ZARRDOCK_WRITE_TABLE"):
        found = f"\n{table(version)}\n"
        page.write_text(before + START + found + END + after, "utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found.strip().splitlines()]
    expected = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(lambda _: "").splitlines()]
    assert [row[:1] + row[2:] for row in rows] == [row[:1] + row[2:] for row in expected]
    assert all(row[1] for row, (package, _) in zip(rows[2:], READERS.values(), strict=True) if package != "zarrdock")
