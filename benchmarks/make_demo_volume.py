"""Make the demo volume from nilearn's copy of the MNI152 template.

    python -m benchmarks.make_demo_volume src/zarrdock/demo_data/mni152_small.npz

Each voxel is the sum of a block of 2 x 2 x 2 source voxels: eight times their mean, without the rounding error.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.template import find_template, load_template

# First source voxel on each axis and the shape of the result. The crop removes empty margins only (asserted below);
# on z the source has 189 planes, so three empty ones are added on top.
ORIGIN = (2, 6, 0)
SHAPE = (96, 112, 96)


def reduce_volume(source: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Sums of 2 x 2 x 2 blocks of `source`, shape `SHAPE`, values 0 to 2040.

    Raises:
        ValueError: the crop would cut into the brain.
    """
    room = np.zeros(tuple(2 * n for n in SHAPE), np.uint16)
    kept = source[tuple(slice(first, first + 2 * n) for first, n in zip(ORIGIN, SHAPE, strict=True))]
    if int(kept.sum(dtype=np.int64)) != int(source.sum(dtype=np.int64)):
        raise ValueError("the crop would cut away voxels that are not zero")
    room[tuple(slice(n) for n in kept.shape)] = kept
    nx, ny, nz = SHAPE
    return room.reshape(nx, 2, ny, 2, nz, 2).sum(axis=(1, 3, 5), dtype=np.uint16)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__)
        return 2
    template = find_template()
    if template is None:
        print("nilearn and nibabel are needed: pip install --no-deps nilearn; pip install nibabel", file=sys.stderr)
        return 1
    target = Path(arguments[0])
    volume = reduce_volume(load_template(template))
    np.savez_compressed(target, volume=volume)
    print(f"{target}: {volume.shape} {volume.dtype}, {target.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
