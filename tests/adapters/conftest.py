"""Stores of every kind for the peers' own test suites, each empty and in a place of its own."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zarrdock
from support.servers import Endpoint, is_azurite_here

_numbers = itertools.count()

#: Name to the marks of tests on such a store.
KINDS: dict[str, list[pytest.MarkDecorator]] = {
    "memory": [],
    "local": [],
    "zip": [],
    "s3": [pytest.mark.server],
    "gcs": [pytest.mark.server],
    "azure": [pytest.mark.server],
}


def pytest_configure(config: pytest.Config) -> None:
    # Marks of xarray's own tests.
    for name in ("flaky", "network", "skip_if_param", "skip_with_dask_array", "slow_hypothesis"):
        config.addinivalue_line("markers", f"{name}: used by xarray's tests")


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Arguments of :func:`zarrdock.open_store` that open a new store of a kind, and the same one again."""

    def arguments(kind: str) -> dict[str, Any]:
        n = next(_numbers)
        if kind == "memory":
            return {"store": zarrdock.MemoryStore()}
        if kind in ("local", "zip"):
            return {"store": str(tmp_path / f"{n}.zarr{'.zip' if kind == 'zip' else ''}")}
        azure = "azurite" if is_azurite_here() else "strict_azure"
        server, protocol = {"s3": ("moto", "s3"), "gcs": ("gcs_emulator", "gs"), "azure": (azure, "az")}[kind]
        endpoint: Endpoint = request.getfixturevalue(server)
        return {
            "store": f"{protocol}://{endpoint.bucket}/adapters-{n}",
            "storage_options": endpoint.storage_options,
        }

    return arguments
