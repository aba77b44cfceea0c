"""Pictures: what is in them, and how little is read for them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.cli.main import run
from zarrdock.errors import MetadataError, NodeNotFoundError, SelectionError, UnsupportedError
from zarrdock.viewer.multiscale import Axis, open_picture, parse_multiscale
from zarrdock.viewer.pictures import SAMPLE_BYTES, value_range

pytest.importorskip("PIL")

RAMP = np.add.outer(np.arange(256), np.arange(512)).astype("u2")


def ome(*scales: float, axes: str = "zyx", version: str = "0.5") -> dict[str, Any]:
    kinds = {"t": "time", "c": "channel"}
    image: dict[str, Any] = {
        "axes": [{"name": name, "type": kinds.get(name, "space")} for name in axes],
        "datasets": [
            {
                "path": str(i),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [scale if name in "zyx" else 1.0 for name in axes]}
                ],
            }
            for i, scale in enumerate(scales)
        ],
    }
    if version == "0.5":
        return {"ome": {"version": version, "multiscales": [image]}}
    return {"multiscales": [{**image, "version": version}]}


def pyramid(store: Any, version: str = "0.5") -> zarrdock.Group:
    """Three levels of a volume of 16 planes of 256 x 512; the middle plane, alone, is a ramp."""
    volume = np.zeros((2, 16, 256, 512), "u2")
    volume[0, 8] = RAMP
    volume[1] = 7
    zarr_format: Any = 3 if version == "0.5" else 2
    group = zarrdock.create_group(store, zarr_format=zarr_format, attributes=ome(1, 2, 4, axes="czyx", version=version))
    for i, step in enumerate((1, 2, 4)):
        level = volume[:, ::step, ::step, ::step]
        group.create_array(str(i), data=level, chunks=(1, 2, 32, 32), compressors=None)
    return group


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_coarsest_level_that_is_large_enough(version: str) -> None:
    store = zarrdock.MemoryStore()
    group = pyramid(store, version)
    record = zarrdock.RecordingStore(store)
    for size, step in ((128, 4), (200, 2), (256, 2), (300, 1), (4000, 1)):
        record.reset()
        image = zarrdock.plot(record, size=size)
        # Every n-th of the level's rows and columns.
        level = RAMP[::step, ::step]
        again = max(1, -(-max(level.shape) // size))
        assert (image.width, image.height) == level[::again, ::again].shape[::-1]
        n_chunks = level.shape[0] // 32 * (level.shape[1] // 32)
        assert record.nbytes <= n_chunks * 2 * 32 * 32 * 2 + 8000  # and the metadata
        pixels = np.asarray(image).astype(int)
        assert (pixels[0, 0], pixels[-1, -1]) == (0, 255)
        assert (np.diff(pixels, axis=1) >= 0).all()
    np.testing.assert_array_equal(np.asarray(zarrdock.plot(group)), np.asarray(zarrdock.plot(store)))


def test_where_it_is_cut() -> None:
    store = zarrdock.MemoryStore()
    pyramid(store)
    for index in ({"z": 9}, {1: 9}, {"z": 8, "c": 1}):
        for size in (64, 512):
            pixels = np.asarray(zarrdock.plot(store, size=size, index=index))
            is_ramp = "c" not in index and size == 64  # 9 is within the plane that stands for 8 to 11
            assert (len(np.unique(pixels)) > 1) == is_ramp
    for index in ({"y": 3}, {"q": 3}, {"z": 16}, {0: -1}, {2: 0}):  # type: ignore[assignment]
        with pytest.raises(SelectionError, match="no such place"):
            zarrdock.plot(store, index=index)


def test_only_chunks_with_pixels_in_them_are_read() -> None:
    store = zarrdock.RecordingStore(zarrdock.MemoryStore())
    array = zarrdock.create_array(store, data=np.tile(RAMP, (8, 8)), chunks=(16, 16), shards=(256, 256))
    plan = array.plan(np.s_[::64, ::64])  # now the indexes are known
    store.reset()
    image = zarrdock.plot(array, size=64)  # one pixel of 64 x 64: a sixteenth of the chunks
    assert (image.width, image.height) == (64, 32)
    assert store.nbytes == plan.nbytes < array.nbytes_stored() / 4


@pytest.mark.parametrize(
    "values",
    [np.arange(7, dtype="i4"), np.array([[True, False]]), np.full((3, 3), 5.5), np.array([[np.nan, np.inf, 1, 2]])],
)
def test_odd_arrays(values: Any) -> None:
    array = zarrdock.create_array(zarrdock.MemoryStore(), data=values, fill_value=0)
    pixels = np.asarray(zarrdock.plot(array))
    assert pixels.shape == np.atleast_2d(values).shape
    assert pixels.dtype == np.uint8


def test_the_range_of_a_large_array_comes_from_a_few_chunks() -> None:
    store = zarrdock.RecordingStore(zarrdock.MemoryStore())
    shape = (1024, 1024, 1024)
    array = zarrdock.create_array(store, shape=shape, dtype="u2", chunks=(32, 32, 32), shards=(512, 512, 512))
    array[480:544, 480:544, 480:544] = RAMP[:64, :64]  # in the middle
    store.reset()
    low, high = value_range(open_picture(array))
    assert low == 0
    assert 50 < high <= RAMP[63, 63]
    assert store.nbytes < SAMPLE_BYTES
    assert store.n_rounds <= 2
    large = zarrdock.create_array(zarrdock.MemoryStore(), shape=shape, dtype="u1", chunks=shape, fill_value=3)
    assert value_range(open_picture(large)) == (3, 3)


def test_what_is_no_picture() -> None:
    store = zarrdock.MemoryStore()
    group = zarrdock.create_group(store)
    group.create_group("plain")
    group.create_group("no_levels", attributes=ome())
    group.create_group("gone", attributes=ome(1))
    group.create_group("differs", attributes=ome(1, 2)).create_array("0", shape=(1, 1, 1), dtype="u1", chunks=(1, 1, 1))
    group["differs"].create_array("1", shape=(1, 1, 1), dtype="u2", chunks=(1, 1, 1))  # type: ignore[union-attr]
    group.create_group("axes", attributes=ome(1)).create_array("0", shape=(1, 1), dtype="u1", chunks=(1, 1))
    group.create_array("complex", shape=(1, 1), dtype="c8", chunks=(1, 1))
    group.create_array("empty", shape=(0, 1), dtype="u1", chunks=(1, 1))
    for path, error, message in (
        ("plain", NodeNotFoundError, "name an array in it"),
        ("no_levels", MetadataError, "/datasets"),
        ("gone", NodeNotFoundError, "gone/0"),
        ("differs", UnsupportedError, "differ"),
        ("axes", MetadataError, "2 axes"),
        ("complex", UnsupportedError, "cannot be drawn"),
        ("empty", UnsupportedError, "cannot be drawn"),
    ):
        with pytest.raises(error, match=message):
            zarrdock.plot(store, path=path)


@pytest.mark.parametrize(
    "attributes,pointer",
    [
        ({"multiscales": {}}, "/attributes/multiscales"),
        ({"ome": {"multiscales": [3]}}, "/attributes/ome/multiscales/0"),
        ({"multiscales": [{"datasets": [{"path": 1}]}]}, "/0/datasets/0/path"),
        ({"multiscales": [{"datasets": [{"path": "0"}], "axes": 5}]}, "/0/axes"),
        ({"multiscales": [{"datasets": [{"path": "0"}], "axes": [{}]}]}, "/0/axes/0"),
        (
            {"multiscales": [{"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale"}]}]}]},
            "/coordinateTransformations/0/scale",
        ),
    ],
)
def test_metadata_that_is_wrong(attributes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_multiscale(attributes)
    assert caught.value.pointer.endswith(pointer)


def test_scales_and_units() -> None:
    attributes = ome(0.5, 1)
    image = attributes["ome"]["multiscales"][0]
    image["coordinateTransformations"] = [{"type": "scale", "scale": [4, 2, 1]}, {"type": "translation"}]
    image["axes"][2]["unit"] = "micrometer"
    found = parse_multiscale(attributes)
    assert found is not None
    assert found.axes == (Axis("z", scale=2.0), Axis("y", scale=1.0), Axis("x", scale=0.5, unit="micrometer"))
    assert parse_multiscale({"multiscales": [{"datasets": [{"path": "0"}]}]}).axes[0] == Axis("t", "time")  # type: ignore[union-attr]


def test_the_command_takes_images_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyramid(tmp_path / "a.zarr")
    out = str(tmp_path / "x.png")
    assert run(["thumbnail", str(tmp_path / "a.zarr"), out, "--size", "128", "--index", "z=8"]) == 0
    assert "128 x 64 pixels of 2 x 16 x 256 x 512" in capsys.readouterr().out
    assert run(["thumbnail", str(tmp_path / "a.zarr"), out, "--index", "z=16"]) == 1
    assert run(["thumbnail", str(tmp_path / "a.zarr"), out, "--index", "z"]) == 2


def test_translations() -> None:
    """Those of the finest level, then those of the image."""
    attributes = ome(2)
    image = attributes["ome"]["multiscales"][0]
    steps = image["datasets"][0]["coordinateTransformations"]
    steps.append({"type": "translation", "translation": [1, 2, 3]})
    image["coordinateTransformations"] = [{"type": "scale", "scale": [10, 1, 1]}]
    image["coordinateTransformations"] += [{"type": "translation", "translation": [0, 0, 0.5]}]
    found = parse_multiscale(attributes)
    assert found is not None
    assert [(axis.scale, axis.translation) for axis in found.axes] == [(20, 10), (2, 2), (2, 3.5)]
    for wrong in ([1, 2], "abc", [1, 2, "3"], 4):
        steps[-1]["translation"] = wrong
        with pytest.raises(MetadataError, match="/datasets/0/coordinateTransformations/1/translation"):
            parse_multiscale(attributes)
