"""What every test shares: hypothesis profiles, object storage emulated on the loopback interface, and a line in the
report that says which zarrdock is under test.
"""

import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import zarrdock
from support.servers import Endpoint, StrictAzure, azurite_server, gcs_server, is_azurite_here, moto_server

settings.register_profile("default", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "default"))


gc.disable()  # until all tests are collected


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "numprocesses", None):  # this process hands out tests, and collects none
        gc.enable()
    # pytest-rerunfailures counts in the process that hands out tests, over a socket: two short messages a test, the
    # second held back by the kernel until the first is acknowledged. That is 40 ms a test, more than most take.
    counts = getattr(getattr(config, "failures_db", None), "sock", None)
    if isinstance(counts, socket.socket):
        counts.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:  # before -m chooses
        if item.get_closest_marker("rare") is not None:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    # Twenty thousand tests and what they import stay anyway: a search for garbage that looks at them takes seconds, and
    # whoever forks a process makes one.
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_report_header() -> str:
    return f"zarrdock {zarrdock.__version__} from {Path(zarrdock.__file__).parent}"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout that these tests are part of. Its packages may be installed from elsewhere (a wheel)."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def moto() -> Iterator[Endpoint]:
    """S3 for all tests of the session: each keeps to a prefix of its own."""
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def gcs_emulator() -> Iterator[Endpoint]:
    """Google Cloud Storage, likewise."""
    with gcs_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def azurite() -> Iterator[Endpoint]:
    """Azure Blob Storage, likewise; skipped where the emulator is not installed, but in continuous integration."""
    if "CI" not in os.environ and not is_azurite_here():
        pytest.skip("the Azure emulator is not installed: npm ci --prefix tests/javascript")
    with azurite_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def strict_azure() -> Iterator[Endpoint]:
    """The fake of Azure that keeps every condition, likewise."""
    with StrictAzure("zarrdock-test") as server:
        yield Endpoint(server.url, server.storage_options)
