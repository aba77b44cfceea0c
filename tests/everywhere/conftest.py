"""One store of each kind with the same contents, and arrays in it."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.servers import Endpoint, is_azurite_here

_numbers = itertools.count()
DATA = bytes(range(200)) * 5


@dataclass
class Everywhere:
    """Where a store is, in words that another process understands."""

    kind: str
    url: str
    options: dict[str, Any] = field(default_factory=dict)

    def open(self) -> zarrdock.Store:
        return zarrdock.open_store(self.url, storage_options=self.options or None)

    @property
    def values(self) -> Any:
        return np.arange(32 * 32, dtype="u2").reshape(32, 32)

    @property
    def code(self) -> str:
        """Python that opens it."""
        options = json.dumps(self.options)
        return (
            f"import json, zarrdock\nstore = zarrdock.open_store({self.url!r}, storage_options=json.loads({options!r}))"
        )


def _local(request: pytest.FixtureRequest, path: Path, n: int) -> tuple[str, dict[str, Any]]:
    return str(path / "store"), {}


def _zip(request: pytest.FixtureRequest, path: Path, n: int) -> tuple[str, dict[str, Any]]:
    return str(path / "store.zarr.zip"), {}


def _s3(request: pytest.FixtureRequest, path: Path, n: int) -> tuple[str, dict[str, Any]]:
    endpoint: Endpoint = request.getfixturevalue("moto")
    return f"s3://{endpoint.bucket}/everywhere-{n}", endpoint.storage_options


def _gcs(request: pytest.FixtureRequest, path: Path, n: int) -> tuple[str, dict[str, Any]]:
    endpoint: Endpoint = request.getfixturevalue("gcs_emulator")
    return f"gs://{endpoint.bucket}/everywhere-{n}", endpoint.storage_options


def _azure(request: pytest.FixtureRequest, path: Path, n: int) -> tuple[str, dict[str, Any]]:
    endpoint: Endpoint = request.getfixturevalue("azurite" if is_azurite_here() else "strict_azure")
    return f"az://{endpoint.bucket}/everywhere-{n}", endpoint.storage_options


KINDS: dict[str, Callable[..., tuple[str, dict[str, Any]]]] = {
    "local": _local,
    "zip": _zip,
    "S3": _s3,
    "GCS": _gcs,
    "Azure": _azure,
}


def _make(kind: str, request: pytest.FixtureRequest, path: Path) -> Everywhere:
    url, options = KINDS[kind](request, path, next(_numbers))
    made = Everywhere(kind, url, options)
    with made.open() as store:
        store.write("k", DATA)
        zarrdock.create_array(store, name="a", data=made.values, chunks=(8, 8), shards=(16, 16))
    return made


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Everywhere:
    """Holds DATA at "k", and a sharded array at "a"."""
    return _make(request.param, request, tmp_path)


@pytest.fixture
def everywhere(request: pytest.FixtureRequest, tmp_path: Path) -> list[Everywhere]:
    """One of each kind."""
    return [_make(kind, request, tmp_path) for kind in KINDS]
