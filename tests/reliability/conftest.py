"""A bucket that the tests of a module share, each with a prefix of its own: a server takes longer than a test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

import zarrdock
from support.servers import StrictS3


@pytest.fixture(scope="module")
def strict_s3() -> Iterator[StrictS3]:
    with StrictS3("b") as server:
        yield server


@pytest.fixture
def on_s3(request: pytest.FixtureRequest) -> Callable[[], zarrdock.Store]:
    """Opens an empty store on S3, which keeps conditions."""

    def opened() -> zarrdock.Store:
        s3: StrictS3 = request.getfixturevalue("strict_s3")
        return zarrdock.open_store(f"s3://b/{uuid.uuid4().hex}", storage_options=s3.storage_options)

    return opened
