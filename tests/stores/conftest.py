"""Strict object storage for the tests of stores, beside the emulators that all tests share."""

import itertools
from collections.abc import Iterator

import pytest

from support.servers import Endpoint, StrictGCS, StrictS3

_numbers = itertools.count()


@pytest.fixture(scope="session")
def strict_s3() -> Iterator[Endpoint]:
    with StrictS3("zarrdock-test") as server:
        yield Endpoint(server.url, server.storage_options)


@pytest.fixture(scope="session")
def strict_gcs() -> Iterator[Endpoint]:
    with StrictGCS("zarrdock-test") as server:
        yield Endpoint(server.url, server.storage_options)


@pytest.fixture(scope="session", params=["moto", "strict"])
def any_s3(request: pytest.FixtureRequest) -> Endpoint:
    found: Endpoint = request.getfixturevalue("moto" if request.param == "moto" else "strict_s3")
    return found


@pytest.fixture(scope="session", params=["emulator", "strict"])
def any_gcs(request: pytest.FixtureRequest) -> Endpoint:
    found: Endpoint = request.getfixturevalue("gcs_emulator" if request.param == "emulator" else "strict_gcs")
    return found


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test uses."""
    return f"test-{next(_numbers)}"


@pytest.fixture(scope="session", params=["azurite", "strict"])
def any_azure(request: pytest.FixtureRequest) -> Endpoint:
    found: Endpoint = request.getfixturevalue("azurite" if request.param == "azurite" else "strict_azure")
    return found
