"""Neuroglancer in a real browser: what is on the screen, and what was asked for to show it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zstandard

pytest.importorskip("aiohttp")
pytest.importorskip("neuroglancer")

import zarrdock
from zarrdock.errors import MetadataError, NodeNotFoundError, UnsupportedError
from zarrdock.viewer.neuroglancer_ import Viewing

pytestmark = pytest.mark.server

# Each box is another grey on black, and no two axes can be mistaken for each other: z, y, x.
VOLUME = np.zeros((64, 96, 128), "u2")
VOLUME[:, 10:40, 20:60] = 1000
VOLUME[:, 60:80, 20:110] = 500
VOLUME[:32, 10:40, 80:110] = 750  # ends before the middle
LAYOUT: dict[str, Any] = {"chunks": (16, 16, 16), "shards": (64, 96, 128), "dimension_names": ("z", "y", "x")}


def bare(viewing: Viewing, origin: float = 0) -> None:
    """Nothing but the plane z = 40, one voxel a pixel, the middle of the volume in the middle of the page."""
    with viewing.viewer.config_state.txn() as config:
        config.show_ui_controls = False
        config.show_panel_borders = False
    with viewing.viewer.txn() as state:
        state.layout = "xy"
        state.show_axis_lines = False
        state.show_scale_bar = False
        state.show_default_annotations = False
        state.cross_section_scale = 1
        state.cross_section_background_color = "#ff0000"
        state.position = [64 + origin, 48 + origin, 40.5 + origin]  # x, y, z


def seen(browser: Any, expected: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The page once it shows what is expected, or after half a minute what it shows then: the middle of it, grey levels
    (255 stands for red too, but no page shows as much of it as the volume is large).
    """
    until = time.monotonic() + 30
    while True:
        page = browser.screenshot()
        top, left = (page.shape[0] - expected.shape[0]) // 2, (page.shape[1] - expected.shape[1]) // 2
        middle = page[top : top + expected.shape[0], left : left + expected.shape[1]]
        if is_same(middle, expected) or time.monotonic() > until:
            return middle
        time.sleep(0.3)


def is_same(middle: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]) -> bool:
    """Grey, and of the levels expected, up to rounding."""
    difference = np.abs(middle.astype(int) - expected[..., np.newaxis].astype(int))
    return int(difference.max()) <= 2


def test_the_voxels_are_on_the_screen(browser: Any) -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, name="some/volume", data=VOLUME, **LAYOUT)
    log: list[tuple[str, str, int, int]] = []
    with Viewing(store, path="some/volume", log=lambda *line: log.append(line)) as viewing:
        bare(viewing)
        before = len(log)
        assert before == 0  # the range of values is not read over HTTP
        browser.open(viewing.url)
        # 0 is black and 1000, above the 99.5th percentile or equal to it, is white.
        expected = (VOLUME[40] / 1000 * 255).round().astype(np.uint8)
        middle = seen(browser, expected)
        assert is_same(middle, expected), browser.messages
    asked = [line for line in log if line[0] == "GET" and not line[1].endswith("zarr.json")]
    assert asked
    assert {status for _, _, status, _ in asked} == {206}  # ranges, of the one shard, and no more
    shard = store.size("some/volume/c/0/0/0")
    assert shard is not None
    assert sum(nbytes for *_, nbytes in asked) < shard
    n_chunks = 6 * 8  # in a plane
    assert len(asked) <= n_chunks + 1  # and the index


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_image_in_several_resolutions(browser: Any, tmp_path: Path, zarr_format: Any) -> None:
    group = zarrdock.create_group(tmp_path / "image.zarr", zarr_format=zarr_format, attributes=ome(zarr_format))
    layout: dict[str, Any] = {"chunks": (16, 16, 16)} if zarr_format == 2 else LAYOUT
    for i, step in enumerate((1, 2)):
        level = VOLUME[::step, ::step, ::step]
        shape = {} if zarr_format == 2 else {"shards": level.shape}
        group.create_array(str(i), data=level, **{**layout, **shape})
    log: list[tuple[str, str, int, int]] = []
    with Viewing(tmp_path / "image.zarr", log=lambda *line: log.append(line)) as viewing:
        bare(viewing, -0.5)  # OME-Zarr counts from the middle of the first voxel
        browser.open(viewing.url)
        expected = (VOLUME[40] / 1000 * 255).round().astype(np.uint8)
        middle = seen(browser, expected)
        assert is_same(middle, expected), browser.messages
    wanted = 200 if zarr_format == 2 else 206  # a plain chunk is one object
    asked = {status for method, path, status, _ in log if method == "GET" and path[-1].isdecimal()}
    assert asked - {404} == {wanted}  # chunks of nothing but zeros are not there


@pytest.mark.parametrize(("level", "pixels"), [(0, 1), (1, 2), (2, 4)])
def test_levels_of_a_pyramid_lie_on_one_another(browser: Any, tmp_path: Path, level: int, pixels: int) -> None:
    """Each level alone is on the screen, at the place where the finest is: translations are right."""
    image = zarrdock.pyramid(VOLUME, tmp_path / "image.zarr", levels=3, chunks=16, shards=(64, 96, 128), method="max")
    multiscales = image.attrs["ome"]["multiscales"][0]
    multiscales["datasets"] = multiscales["datasets"][level : level + 1]
    image.update_attributes({"ome": {"version": "0.5", "multiscales": [multiscales]}})
    with Viewing(tmp_path / "image.zarr") as viewing:
        bare(viewing)
        with viewing.viewer.txn() as state:  # in voxels of the level that is there; from the middle of the first voxel
            state.cross_section_scale = 1 / pixels
            state.position = [(place - 0.5) / pixels for place in (64, 48, 40.5)]
        browser.open(viewing.url)
        coarse = VOLUME[40 // pixels * pixels :][:pixels].max(0).reshape(96 // pixels, pixels, 128 // pixels, pixels)
        plane = coarse.max((1, 3)).repeat(pixels, 0).repeat(pixels, 1)
        expected = (plane / 1000 * 255).round().astype(np.uint8)
        middle = seen(browser, expected)
        assert is_same(middle, expected), browser.messages


def ome(zarr_format: int) -> dict[str, Any]:
    datasets = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [s, s, s]}]}
        for i, s in ((0, 1), (1, 2))
    ]
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    image = {"axes": axes, "datasets": datasets}
    if zarr_format == 2:
        return {"multiscales": [{**image, "version": "0.4"}]}
    return {"ome": {"version": "0.5", "multiscales": [image]}}


def test_codecs_that_the_viewer_does_not_know(browser: Any) -> None:
    store = zarrdock.MemoryStore()
    filters = [{"name": "numcodecs.delta", "configuration": {"dtype": "<u2"}}]
    zarrdock.create_array(store, data=VOLUME, filters=filters, **LAYOUT)
    with pytest.raises(UnsupportedError, match=r"numcodecs\.delta.*reencode"):
        Viewing(store)
    with Viewing(store, reencode=True) as viewing:
        bare(viewing)
        browser.open(viewing.url)
        expected = (VOLUME[40] / 1000 * 255).round().astype(np.uint8)
        middle = seen(browser, expected)
        assert is_same(middle, expected), browser.messages


# Data type, its values, and what is shown: data type and values.
LARGEST = np.iinfo("i8").max
OTHERS: dict[str, tuple[Any, Any]] = {
    "floats": (np.linspace(-1e3, 1e3, 64), np.linspace(-1e3, 1e3, 64).astype("f4")),
    "beyond float32": (np.r_[np.linspace(0, 1, 63), 1e300], np.r_[np.linspace(0, 1, 63), np.inf].astype("f4")),
    "halves": (np.linspace(0, 1, 64).astype("f2"), np.linspace(0, 1, 64).astype("f2").astype("f4")),
    "truth": (np.arange(64) % 3 == 0, (np.arange(64) % 3 == 0).astype("u1")),
    "integers": (np.arange(64) - 5, (np.arange(64) - 5).astype("i4")),
    "integers above 2^31": (np.arange(64) + 2**31, (np.arange(64) + 2**31).astype("u4")),
    # The extremes are not among what is shown as black to white.
    "a few beyond": (np.r_[-LARGEST, np.arange(998), LARGEST], np.r_[-(2**31), np.arange(998), 2**31 - 1].astype("i4")),
}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", OTHERS)
def test_data_types_that_the_viewer_does_not_know(name: str, zarr_format: Any) -> None:
    values, expected = OTHERS[name]
    store = zarrdock.MemoryStore()
    layout: dict[str, Any] = {"shards": (40,)} if zarr_format == 3 else {"dtype": values.dtype.newbyteorder(">")}
    zarrdock.create_array(store, name="a", data=values, chunks=(20,), fill_value=1, zarr_format=zarr_format, **layout)
    with pytest.raises(UnsupportedError, match=r"--reencode .* shows it as (float32|uint8|one of the others)"):
        Viewing(store, path="a")
    with Viewing(store, path="a", reencode=True) as viewing:
        served = zarrdock.open_array(f"{viewing.server.url}/a")
        assert (served.dtype, served.fill_value, served.shards) == (expected.dtype, 1, None)
        np.testing.assert_array_equal(served[...], expected)
        chunk = served.store.get(served.metadata.key_encoding.key((0,)))
        assert chunk is not None
        decoded = zstandard.ZstdDecompressor().decompress(chunk.data)
        np.testing.assert_array_equal(np.frombuffer(decoded, expected.dtype.newbyteorder("<")), expected[:20])
    np.testing.assert_array_equal(zarrdock.open_array(store, path="a")[...], values)


def test_integers_that_no_data_type_of_the_viewer_has() -> None:
    store = zarrdock.MemoryStore()
    values = np.linspace(-(2**40), 2**40, 64).astype("i8")
    zarrdock.create_array(store, data=values, chunks=(20,))
    with pytest.raises(UnsupportedError, match=r"from -1\d+ to 1\d+ are to be shown.*segmentation"):
        Viewing(store, reencode=True)
    with Viewing(store, reencode=True, is_segmentation=True) as viewing:
        served = zarrdock.open_array(viewing.server.url)
        np.testing.assert_array_equal(served[...], values.view("u8"))


def test_what_cannot_be_viewed() -> None:
    store = zarrdock.MemoryStore()
    group = zarrdock.create_group(store)
    group.create_array("double", shape=(4, 4), dtype="f8", chunks=(4, 4))
    group.create_array("text", shape=(4, 4), dtype="string", chunks=(4, 4))
    group.create_group("broken", attributes={"multiscales": [{"datasets": [{"path": 3}]}]})
    group.create_group("old", attributes={"multiscales": [{"version": "0.1", "datasets": [{"path": "0"}]}]})
    group["old"].create_array("0", shape=(1,) * 5, dtype="u1", chunks=(1,) * 5)  # type: ignore[union-attr]
    group.create_array("empty", shape=(0, 4), dtype="u1", chunks=(4, 4))
    group.create_array("scalar", shape=(), dtype="u1", chunks=())
    for path, error, message in (
        ("empty", UnsupportedError, "no picture to show"),
        ("scalar", UnsupportedError, "no picture to show"),
        ("", NodeNotFoundError, "name an array in it"),
        ("double", UnsupportedError, "float64"),
        ("text", UnsupportedError, "StringDType"),
        ("broken", MetadataError, "/datasets/0/path"),
        ("old", UnsupportedError, r"not 0\.1.*--path old/0"),
        ("nothing", NodeNotFoundError, "nothing"),
    ):
        with pytest.raises(error, match=message):
            Viewing(store, path=path)
    with pytest.raises(UnsupportedError, match="address"):
        Viewing(store, path="double", host="0.0.0.0")


def test_the_command(browser: Any, tmp_path: Path) -> None:
    zarrdock.create_array(tmp_path / "a.zarr", data=VOLUME, **LAYOUT)
    code = "from zarrdock.cli.main import main; main()"
    command = [sys.executable, "-c", code, "view", str(tmp_path / "a.zarr"), "--no-browser", "-v"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split(" at ")[1].strip()
        try:
            browser.open(url)
            page = wait_for(lambda: browser.screenshot(), lambda page: (page == 255).all(-1).sum() > 3000)
        finally:
            os.kill(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "GET /c/0/0/0 206" in errors
    assert (page == 255).all(-1).sum() > 3000  # white voxels; the page without them has half as many


def wait_for(look: Callable[[], Any], is_good: Callable[[Any], Any]) -> Any:
    until = time.monotonic() + 30
    while not is_good(found := look()) and time.monotonic() < until:
        time.sleep(0.3)
    return found


def test_grids_and_keys_that_the_viewer_does_not_know() -> None:
    store = zarrdock.MemoryStore()
    grid = {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": [[16, 48], 32, 32]}}
    zarrdock.create_array(store, name="plain", data=VOLUME, chunks=[[16, 48], 32, 32])  # type: ignore[list-item]
    zarrdock.create_array(store, name="sharded", data=VOLUME, chunks=(16, 16, 16), shards=grid)
    for path, chunks in (("plain", (48, 32, 32)), ("sharded", (16, 16, 16))):
        with pytest.raises(UnsupportedError, match=r"chunks of one shape.*--reencode"):
            Viewing(store, path=path)
        with Viewing(store, path=path, reencode=True) as viewing:
            shown = zarrdock.open_array(viewing.server.url, path=path)
            assert (shown.chunks, shown.shards) == (chunks, None)
            np.testing.assert_array_equal(shown[...], VOLUME)
    zarrdock.create_array(store, name="keys", data=VOLUME, chunks=(16, 16, 16), chunk_key_encoding={"name": "fanout"})
    with pytest.raises(UnsupportedError, match=r"'fanout'.*as_v2"):
        Viewing(store, path="keys")
    with Viewing(zarrdock.views.as_v2(store), path="keys") as viewing:
        np.testing.assert_array_equal(zarrdock.open_array(viewing.server.url, path="keys")[...], VOLUME)
