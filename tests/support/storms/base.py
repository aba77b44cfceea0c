"""Scale, places and outcomes of storms."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from zarrdock.errors import UnsupportedError
from zarrdock.stores.base import Store
from zarrdock.stores.local import LocalStore
from zarrdock.stores.memory import MemoryStore

__all__ = ["PLACES", "Outcome", "Say", "Scale", "Stopwatch", "place"]

Say: TypeAlias = Callable[[str], None]

# moto answers one request at a time here (see moto_server): the only way it keeps a condition.
PLACES: Final = ("local", "local threads", "memory threads", "S3", "S3 (moto)", "GCS", "Azure", "Azure (Azurite)")


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the storms are.

    Attributes:
        share: of the full size, 0 to 1: of what a storm counts (writes, kills, inputs), never of how many do it at
            the same time.
        places: where to run those that run in several places.
        seed: of everything random that does not depend on the scheduler.
    """

    share: float = 1.0
    places: tuple[str, ...] = PLACES
    seed: int = 0

    def of(self, n: int, least: int = 1) -> int:
        """The scaled ``n``."""
        return max(least, round(n * self.share))

    def over(self, *names: str) -> list[str]:
        """The requested places among ``names``."""
        return [name for name in names if name in self.places]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a storm in one place.

    Attributes:
        storm, place: their names.
        did: the work done, in words, with numbers.
        n_bad: number of failures, which must be 0.
        bad: the kind of failure that ``n_bad`` counts, in words.
        notes: other counts.
        seconds: duration.
        examples: a few of the failures.
    """

    storm: str
    place: str
    did: str
    n_bad: int
    bad: str
    notes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        notes = "".join(f"; {n:,} {name}" for name, n in self.notes.items())
        examples = "".join(f"\n    {example}" for example in self.examples)
        return (
            f"{self.storm}, {self.place}: {self.did}: {self.n_bad} {self.bad}{notes} ({self.seconds:.1f} s){examples}"
        )


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


@contextlib.contextmanager
def place(name: str) -> Iterator[Store]:
    """An empty store of that kind, which pickles into other processes where the name does not say "threads"."""
    if name.startswith("memory"):
        yield MemoryStore()
    elif name.startswith("local"):
        with tempfile.TemporaryDirectory(prefix="zarrdock-storm-") as folder:
            yield LocalStore(Path(folder) / "store")
    elif name == "S3":
        from support.strict_s3 import StrictS3
        from zarrdock.stores.s3 import S3Store

        with StrictS3("bucket") as server, S3Store("s3://bucket/a", storage_options=server.storage_options) as store:
            yield store
    elif name == "S3 (moto)":
        from support.servers import moto_server
        from zarrdock.stores.s3 import S3Store

        with (
            moto_server("bucket") as endpoint,
            S3Store("s3://bucket/a", storage_options=endpoint.storage_options) as store,
        ):
            yield store
    elif name == "GCS":
        from support.strict_gcs import StrictGCS
        from zarrdock.stores.gcs import GCSStore

        with StrictGCS("bucket") as gcs, GCSStore("gs://bucket/a", storage_options=gcs.storage_options) as store:
            yield store
    elif name == "Azure":
        from support.strict_azure import StrictAzure
        from zarrdock.stores.azure import AzureStore

        with (
            StrictAzure("bucket") as azure,
            AzureStore("az://bucket/a", storage_options=azure.storage_options) as store,
        ):
            yield store
    elif name == "Azure (Azurite)":
        from support.servers import azurite_server
        from zarrdock.stores.azure import AzureStore

        with (
            azurite_server("bucket") as endpoint,
            AzureStore("az://bucket/a", storage_options=endpoint.storage_options) as store,
        ):
            yield store
    else:
        raise UnsupportedError(f"no such place: {name!r}; there are {', '.join(PLACES)}")
