"""Names of the implementations, in the order of the report's columns."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.peers.base import Peer
from benchmarks.peers.blosc2_ import Blosc2Peer
from benchmarks.peers.floor import FloorPeer
from benchmarks.peers.tensorstore_ import TensorStorePeer
from benchmarks.peers.zarr_python import FusedPeer, ZarrdockPipelinePeer, ZarrPeer, ZarrsPeer
from benchmarks.peers.zarrdock_ import PureZarrdockPeer, ZarrdockPeer
from benchmarks.peers.zarrista_ import ZarristaPeer

FACTORIES: dict[str, Callable[[int], Peer]] = {
    "zarrdock": ZarrdockPeer,
    "zarrdock pure": PureZarrdockPeer,
    "tensorstore": TensorStorePeer,
    "zarr": ZarrPeer,
    "zarr-fused": FusedPeer,
    "zarrs": ZarrsPeer,
    "zarrista": ZarristaPeer,
    "zarr+zarrdock": ZarrdockPipelinePeer,
    "blosc2": Blosc2Peer,
    "floor": FloorPeer,
}

REFERENCE = "tensorstore"  # ratios are taken to this one

# Who takes part if nobody is named.
LOCAL = [name for name in FACTORIES if name not in ("zarrdock pure", "zarr+zarrdock")]
PIPELINES = ["zarr+zarrdock", "zarr", "zarr-fused", "zarrs"]
INTERPRETER = ["zarrdock", "zarrdock pure", "tensorstore", "zarr-fused", "zarrs", "zarrista"]
