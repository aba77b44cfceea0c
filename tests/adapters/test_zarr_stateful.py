"""zarr-python's own stateful machines, over the adapter, on every kind of store: keys against a dictionary, and
hierarchies of arrays against its memory store.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

zarr = pytest.importorskip("zarr")

from zarr.testing.stateful import ZarrHierarchyStateMachine, ZarrStoreStateMachine  # noqa: E402

from zarrdock.adapters.zarr_python import ZarrStore  # noqa: E402

# What zarr-python says of the data types and names that its machine draws is none of a store's business.
pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore:.*does not have a Zarr V3 specification", "ignore:.*[Cc]onsolidated metadata"),
]

# Examples and steps: an emulated object store answers a hundred requests a second.
SIZES = {"memory": (20, 30), "local": (15, 25), "zip": (10, 20), "s3": (3, 10), "gcs": (3, 10)}


def machine_settings(kind: str, per_example: int = 1) -> settings:
    n_examples, n_steps = SIZES[kind]
    return settings(
        max_examples=max(5, n_examples // per_example),
        stateful_step_count=n_steps,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
        database=None,
    )


@pytest.fixture(
    params=[pytest.param(kind, marks=[pytest.mark.server] if kind in ("s3", "gcs") else []) for kind in SIZES]
)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["zarr-python's pipeline", "zarrdock's pipeline"])
def _pipeline(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param.startswith("zarrdock"):
        with zarr.config.set({"codec_pipeline.path": "zarrdock.adapters.zarr_python.CodecPipeline"}):
            yield
    else:
        yield


def test_keys(kind: str, place: Any) -> None:
    store = ZarrStore(**place(kind))
    run_state_machine_as_test(lambda: ZarrStoreStateMachine(store), settings=machine_settings(kind))


@pytest.mark.slow
@pytest.mark.usefixtures("_pipeline")
def test_hierarchies(kind: str, place: Any) -> None:
    store = ZarrStore(**place(kind))
    run_state_machine_as_test(lambda: ZarrHierarchyStateMachine(store), settings=machine_settings(kind, 3))
