"""Pyramids: what they say of themselves, where they go, what stops them, and what that leaves."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.stores import Event, HookedStore
from zarrdock.checking import check
from zarrdock.cli.demo import load_volume
from zarrdock.cli.main import run
from zarrdock.copying import CopyProgress, IncompleteCopyWarning
from zarrdock.copying.progress import MARK
from zarrdock.errors import NodeExistsError, NodeNotFoundError, ReadOnlyError, StoreError, UnsupportedError
from zarrdock.viewer.multiscale import Axis, open_picture

RNG = np.random.default_rng(0)
VALUES = RNG.integers(0, 1000, (37, 50, 64), "u2")
ZYX: dict[str, Any] = {"dimension_names": ("z", "y", "x")}
LAYOUT: dict[str, Any] = {"chunks": (8, 8, 8), "shards": (16, 16, 32), **ZYX}


def means(values: Any, n: int) -> list[Any]:
    """The levels of a pyramid of means."""
    found = [values]
    for _ in range(n - 1):
        padded = np.pad(found[-1], [(0, length % 2) for length in found[-1].shape], "edge").astype("f8")
        pairs = padded.reshape([part for n in padded.shape for part in (n // 2, 2)])
        found.append(np.rint(pairs.mean((1, 3, 5))).astype(values.dtype))
    return found


def expect(image: zarrdock.Group, levels: list[Any], first: str = "0") -> None:
    datasets = image.attrs["ome"]["multiscales"][0]["datasets"]
    assert len(datasets) == len(levels)
    assert datasets[0]["path"] == first
    for dataset, level in zip(datasets, levels, strict=True):
        np.testing.assert_array_equal(image[dataset["path"]][...], level)
    assert MARK not in {entry.key for entry in image.store.list()}


def ome(image: zarrdock.Group) -> Any:
    return image.attrs["ome"]["multiscales"][0]


def places(image: zarrdock.Group) -> list[dict[str, Any]]:
    """Scale and translation of each level."""
    return [
        {step["type"]: step[step["type"]] for step in dataset["coordinateTransformations"]}
        for dataset in ome(image)["datasets"]
    ]


# -- what it says -----------------------------------------------------------------------------------------------------


def test_scales_and_translations() -> None:
    array = zarrdock.create_array(None, data=VALUES, **LAYOUT)
    image = zarrdock.pyramid(array, None or zarrdock.MemoryStore(), levels=3, scale=(3, 0.5, 0.25), units="um")
    expect(image, means(VALUES, 3))
    assert ome(image)["axes"] == [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    assert places(image) == [
        {"scale": [3.0, 0.5, 0.25]},
        # The middle of two elements is half an element behind the middle of the first.
        {"scale": [6.0, 1.0, 0.5], "translation": [1.5, 0.25, 0.125]},
        {"scale": [12.0, 2.0, 1.0], "translation": [4.5, 0.75, 0.375]},
    ]
    assert open_picture(image).axes[0] == Axis("z", "space", 3.0, "micrometer")
    assert image["2"].dimension_names == ("z", "y", "x")


def test_the_nearest_element_stays_where_it_was() -> None:
    image = zarrdock.pyramid(VALUES, zarrdock.MemoryStore(), levels=2, method="nearest")
    assert places(image) == [{"scale": [1.0] * 3}, {"scale": [2.0] * 3}]
    np.testing.assert_array_equal(image["1"][...], VALUES[::2, ::2, ::2])


def test_time_and_channels_stay_as_they_are() -> None:
    values = RNG.integers(0, 9, (3, 2, 5, 6, 7), "u1")
    image = zarrdock.pyramid(values, zarrdock.MemoryStore(), levels=3, scale={"t": 0.1}, units={"t": "s", "z": "mm"})
    assert [image[name].shape for name in "012"] == [(3, 2, 5, 6, 7), (3, 2, 3, 3, 4), (3, 2, 2, 2, 2)]
    assert [axis["type"] for axis in ome(image)["axes"]] == ["time", "channel", "space", "space", "space"]
    assert [axis.get("unit") for axis in ome(image)["axes"]] == ["second", None, "millimeter", None, None]
    assert places(image)[2] == {"scale": [0.1, 1, 4, 4, 4], "translation": [0, 0, 1.5, 1.5, 1.5]}
    for t in range(3):
        alone = zarrdock.pyramid(values[t, 1], zarrdock.MemoryStore(), levels=3)
        np.testing.assert_array_equal(image["2"][t, 1], alone["2"][...])


def test_isotropic() -> None:
    """Slices four times as far apart as pixels wait for two levels."""
    image = zarrdock.pyramid(
        np.zeros((20, 64, 64), "u1"), zarrdock.MemoryStore(), levels=4, scale=(40, 10, 10), isotropic=True
    )
    assert [image[name].shape for name in "0123"] == [(20, 64, 64), (20, 32, 32), (20, 16, 16), (10, 8, 8)]
    assert places(image)[2] == {"scale": [40, 40, 40], "translation": [0, 15, 15]}


def test_number_of_levels_and_their_chunks() -> None:
    """Without a number: down to one chunk, or 64 elements. Chunks and shards are no longer than their level."""
    array = zarrdock.create_array(None, shape=(300, 500, 90), dtype="u1", chunks=(32,) * 3, shards=(128,) * 3, **ZYX)
    image = zarrdock.pyramid(array, zarrdock.MemoryStore())
    found = [(level.shape, level.shards, level.chunks) for level in open_picture(image).levels]
    assert found == [
        ((300, 500, 90), (128, 128, 128), (32, 32, 32)),
        ((150, 250, 45), (128, 128, 64), (32, 32, 32)),
        ((75, 125, 23), (96, 128, 23), (32, 32, 23)),
        ((38, 63, 12), (64, 64, 12), (32, 32, 12)),
    ]
    assert zarrdock.pyramid(np.zeros((64, 64)), zarrdock.MemoryStore()).attrs["ome"]["multiscales"][0]["datasets"] == [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    ]


def test_levels_of_nested_shards_and_other_codecs() -> None:
    array = zarrdock.create_array(
        None, data=VALUES, chunks=(4, 4, 4), shards=[(32, 32, 64), (8, 8, 8)], compressors="gzip", **ZYX
    )
    image = zarrdock.pyramid(array, zarrdock.MemoryStore(), levels=4)
    expect(image, means(VALUES, 4))
    assert "gzip" in json.dumps(json.loads(bytes(image.store.get("3/zarr.json").data)))  # type: ignore[union-attr]
    other = zarrdock.pyramid(array, zarrdock.MemoryStore(), levels=2, chunks=10, shards=(20, 20, 40), compressors=None)
    assert [(other[name].chunks, other[name].shards) for name in "01"] == [((10, 10, 10), (20, 20, 40))] * 2


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((8,), None, "2 to 5 dimensions, and the array has 1"),
        ((2, 3, 8, 8), None, "4 dimensions without names"),
        ((8, 8), ("a", "b"), "the axis 'a' may be space, time or channel"),
        ((8, 8), ("t", "c"), "no axis is one of space"),
        ((8, 8), ("c", "x"), "2 or 3 spatial axes"),
        ((8, 8, 3), "yxc", r"ordered: time, channel, then space, and these are y \(space\), x"),
        ((8, 8), "xx", "two axes have one name"),
        ((8, 8), ("y", 3), "found 3"),
        ((8, 8), "zyx", "axes='zyx': expected 2, one per dimension of the array, found 3"),
        ((8, 8), "zya", "the axis 'zya' may be space"),
        ((8, 8), "time", "expected 2, one per dimension of the array, found 1"),
        ((0, 8), None, "no elements"),
    ],
)
def test_axes_that_are_refused(shape: tuple[int, ...], axes: Any, message: str) -> None:
    store = zarrdock.MemoryStore()
    with pytest.raises(UnsupportedError, match=message):
        zarrdock.pyramid(np.zeros(shape, "u1"), store, axes=axes, levels=2)
    assert [*store.list()] == []


def test_other_arguments_that_are_refused(tmp_path: Path) -> None:
    array = zarrdock.create_array(tmp_path / "a.zarr", data=VALUES, **LAYOUT)
    store = zarrdock.MemoryStore()
    for arguments, error, message in (
        ({"levels": 0}, UnsupportedError, "levels=0"),
        ({"levels": 9}, UnsupportedError, r"can be halved 6 times, which makes 7 levels"),
        ({"scale": (1, 2)}, UnsupportedError, "2 numbers"),
        ({"scale": {"q": 1}}, UnsupportedError, "found q"),
        ({"scale": (1, 0, 1)}, UnsupportedError, "y: 0"),
        ({"units": {"q": "mm"}}, UnsupportedError, "no axis 'q'"),
        ({"src_path": "0"}, UnsupportedError, "src_path="),
    ):
        with pytest.raises(error, match=message):
            zarrdock.pyramid(array, store, **arguments)
    with pytest.raises(UnsupportedError, match=r"the array is the root of .*dst="):
        zarrdock.pyramid(tmp_path / "a.zarr")
    with pytest.raises(UnsupportedError, match=r"no Zarr: give a destination"):
        zarrdock.pyramid(VALUES)
    with pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.pyramid(array, tmp_path / "a.zarr")
    with pytest.raises(NodeNotFoundError):
        zarrdock.pyramid(tmp_path / "none.zarr", store)
    with pytest.raises(NodeNotFoundError, match="no array"):
        zarrdock.pyramid(zarrdock.create_group(None), store)
    with pytest.raises(ReadOnlyError):
        zarrdock.pyramid(zarrdock.open_array(tmp_path / "a.zarr"))
    assert [*store.list()] == []


# -- beside the finest level ------------------------------------------------------------------------------------------


@pytest.fixture
def group(tmp_path: Path) -> zarrdock.Group:
    group = zarrdock.create_group(tmp_path / "g.zarr", attributes={"mine": 1, "ome": {"omero": {"channels": []}}})
    group.create_array("s0", data=VALUES, chunks=(8, 8, 8), shards=(16, 16, 32))
    return group


@pytest.mark.parametrize("how", ["group", "array", "URL", "URL and path"])
def test_levels_beside_an_array(group: zarrdock.Group, tmp_path: Path, how: str) -> None:
    before = {entry.key: group.store.get(entry.key) for entry in group.store.list("s0/c")}
    source = {"group": group, "array": group["s0"]}.get(how, str(tmp_path / "g.zarr"))
    image = zarrdock.pyramid(source, src_path="s0" if how == "URL and path" else None, levels=3)
    expect(image, means(VALUES, 3), "s0")
    assert list(image) == ["s0", "s1", "s2"]
    attributes = dict(image.attrs)
    assert attributes["mine"] == 1
    assert attributes["ome"]["omero"] == {"channels": []}
    assert ome(image)["name"] == "g"
    assert image["s0"].dimension_names == ("z", "y", "x")  # it had none
    for key, blob in before.items():
        assert bytes(image.store.get(key).data) == bytes(blob.data)  # type: ignore[union-attr]


def test_names_of_levels() -> None:
    group = zarrdock.create_group(None)
    group.create_array("brain", data=VALUES[0], chunks=(8, 8))
    group.create_array("other10", data=VALUES[0], chunks=(8, 8))
    with pytest.raises(UnsupportedError, match="2 arrays"):
        zarrdock.pyramid(group)
    assert list(zarrdock.pyramid(group["brain"], levels=2)) == ["brain", "brain_1", "other10"]
    with pytest.raises(UnsupportedError, match="'other10' is in the image '/', and not its finest level"):
        zarrdock.pyramid(group["other10"])
    group.create_array("in/level10", data=VALUES[0], chunks=(8, 8))
    assert list(zarrdock.pyramid(group["in/level10"], levels=2)) == ["level10", "level10_1"]


def test_levels_that_are_there(group: zarrdock.Group) -> None:
    zarrdock.pyramid(group, levels=4, scale=(2, 2, 2))
    with pytest.raises(NodeExistsError, match=r"'s1'.*overwrite=True"):
        zarrdock.pyramid(group, levels=4)
    with pytest.raises(UnsupportedError, match="not its finest level"):
        zarrdock.pyramid(group["s1"])
    group.store.write("s2/notes.txt", b"mine")
    with pytest.warns(UserWarning, match=r"notes\.txt"):
        image = zarrdock.pyramid(group, levels=2, method="max", overwrite=True)
    assert [name for name, _ in image.arrays()] == ["s0", "s1"]  # two levels went, what is no Zarr did not
    assert image.store.exists("s2/notes.txt")
    assert places(image)[1] == {"scale": [4, 4, 4], "translation": [1, 1, 1]}  # the scale was known
    assert ome(image)["type"] == "max"


def test_what_comes_of_an_image_that_is_moved_and_scaled() -> None:
    """Transformations of the finest level and of the whole image go into those of the levels."""
    axes = [{"name": name, "type": "space", "unit": "meter"} for name in "yx"]
    step = [{"type": "scale", "scale": [2, 2]}, {"type": "translation", "translation": [10, 20]}]
    whole = [{"type": "scale", "scale": [3, 3]}, {"type": "translation", "translation": [1, 0]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": step}]}
    attributes = {"ome": {"version": "0.5", "multiscales": [{**image, "coordinateTransformations": whole}]}}
    group = zarrdock.create_group(None, attributes=attributes)
    group.create_array("0", data=VALUES[0], chunks=(8, 8), dimension_names=("y", "x"))
    for made in (zarrdock.pyramid(group, zarrdock.MemoryStore(), levels=2), zarrdock.pyramid(group, levels=2)):
        assert places(made) == [
            {"scale": [6, 6], "translation": [31, 60]},
            {"scale": [12, 12], "translation": [34, 63]},
        ]
        assert ome(made)["axes"] == axes


def test_zarr_v2(tmp_path: Path) -> None:
    old = {"version": "0.4", "axes": [{"name": name, "type": "space"} for name in "yx"]}
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    image = {**old, "datasets": [{"path": "0", "coordinateTransformations": scale}, {"path": "1"}]}
    group = zarrdock.create_group(
        tmp_path / "a", zarr_format=2, attributes={"multiscales": [image], "omero": {"id": 1}, "mine": 2}
    )
    group.create_array("0", data=VALUES[0], chunks=(8, 8))
    with pytest.raises(UnsupportedError, match=r"Zarr v2.*dst="):
        zarrdock.pyramid(group, overwrite=True)
    made = zarrdock.pyramid(group, tmp_path / "b", levels=2)
    assert made.zarr_format == 3
    assert dict(made.attrs)["mine"] == 2
    assert dict(made.attrs)["ome"]["omero"] == {"id": 1}
    assert "multiscales" not in made.attrs
    assert places(made)[1]["scale"] == [1, 1]


def test_dimensions_with_other_names(group: zarrdock.Group) -> None:
    group.create_array("n/0", data=VALUES, chunks=(8, 8, 8), dimension_names=("a", "b", "c"))
    with pytest.raises(UnsupportedError, match="called a, b, c, and the axes z, y, x"):
        zarrdock.pyramid(group["n/0"], axes="zyx")


# -- interruptions ----------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
import zarrdock
from zarrdock.stores.local import LocalStore

class Deadly(LocalStore):
    n = 0
    def _put(self, *arguments):
        Deadly.n += 1
        if Deadly.n == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        super()._put(*arguments)

store = Deadly(sys.argv[2])
src, dst = (sys.argv[1], store) if sys.argv[1] else (store, None)
zarrdock.pyramid(src, dst, levels=3, memory_bytes=200_000)
"""


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith("lock")
    }


@pytest.mark.parametrize(
    ("beside", "n"), [(False, 1), (False, 2), (False, 26), (False, 32), (True, 1), (True, 3), (True, 8)]
)
def test_killed_and_run_again(tmp_path: Path, beside: bool, n: int) -> None:
    """What was finished is not written again, and the result is that of a run without interruption."""
    if beside:
        for name in ("image.zarr", "whole.zarr"):
            zarrdock.create_group(tmp_path / name).create_array("0", data=VALUES, **LAYOUT)
        src, whole = "", zarrdock.pyramid(tmp_path / "whole.zarr", levels=3, name="image")
    else:
        src = str(tmp_path / "a.zarr")
        zarrdock.create_array(src, data=VALUES, **LAYOUT)
        whole = zarrdock.pyramid(src, tmp_path / "whole.zarr", levels=3, name="image")
    expect(whole, means(VALUES, 3))
    image = tmp_path / "image.zarr"
    done = subprocess.run([sys.executable, "-c", KILLED, src, str(image), str(n)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    finished = {path: (image / path).stat().st_mtime_ns for path in files(image) if "/c/" in path}
    seen: list[CopyProgress] = []
    arguments: Any = (image,) if beside else (src, image)
    if n > 1:
        with pytest.raises(NodeExistsError, match="resume=True"):
            zarrdock.pyramid(*arguments, levels=3)
        with pytest.raises(NodeExistsError, match="other settings"):
            zarrdock.pyramid(*arguments, levels=3, method="max", resume=True)
    again = zarrdock.pyramid(*arguments, levels=3, resume=True, progress=seen.append)
    expect(again, means(VALUES, 3))
    assert files(image) == files(tmp_path / "whole.zarr")
    assert {path: (image / path).stat().st_mtime_ns for path in finished} == finished
    assert seen[-1].nbytes == seen[-1].nbytes_total
    assert check(image).problems == ()


def test_begun_anew_with_other_settings(group: zarrdock.Group) -> None:
    """Chunks of levels without a document yet are known by the mark, and go."""

    def fail(event: Event) -> None:
        if event.verb == "write" and event.key.startswith("s2/c"):
            raise StoreError("no room", key=event.key)

    broken = zarrdock.open_group(HookedStore(group.store, fail), "r+")
    with pytest.raises(StoreError, match="no room"):
        zarrdock.pyramid(broken, levels=3)
    assert MARK in group.store.list_dir("").keys
    assert "multiscales" not in group.attrs["ome"]
    image = zarrdock.pyramid(group, levels=3, method="max", overwrite=True)
    assert ome(image)["type"] == "max"
    assert check(image.store).problems == ()


def test_a_reader_never_sees_half_an_image(group: zarrdock.Group) -> None:
    """Before the first new level is written, and while old ones go, the image has the levels that it says."""
    zarrdock.pyramid(group, levels=4)
    seen: set[int] = set()

    def look(event: Event) -> None:
        if event.verb in ("write", "delete", "update"):
            seen.add(len(open_picture(zarrdock.open_group(group.store)).levels))

    zarrdock.pyramid(zarrdock.open_group(HookedStore(group.store, look, look), "r+"), levels=3, overwrite=True)
    assert seen == {4, 1, 3}


# -- memory and requests ----------------------------------------------------------------------------------------------

PEAK = """
import json, sys
from pathlib import Path
import zarrdock
from zarrdock.config import config
import zarrdock.pyramids.pyramid

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

config.threads = 2
before = status("VmRSS")
src, dst, mib, settings = sys.argv[1:]
zarrdock.pyramid(src, dst, memory_bytes=int(mib) * 2**20, **json.loads(settings))
print((status("VmHWM") - before) // 1024)
"""


def peak_mib(src: Path, dst: Path, mib: int, **settings: Any) -> int:
    """Peak of the resident memory over that before, in a process of its own."""
    command = [sys.executable, "-c", PEAK, str(src), str(dst), str(mib), json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def synthetic(path: Path, n: int, shard: int) -> None:
    """A noisy ball in a volume of n^3 uint16, which compresses to about half."""
    array = zarrdock.create_array(path, shape=(n,) * 3, dtype="u2", chunks=(64,) * 3, shards=(shard,) * 3, **ZYX)
    noise = RNG.integers(0, 60, (shard,) * 3, "u2")
    for number in np.ndindex(*(n // shard,) * 3):
        where = tuple(slice(i * shard, (i + 1) * shard) for i in number)
        z, y, x = (np.arange(part.start, part.stop) - n / 2 for part in where)
        square = z[:, None, None] ** 2 + (y**2)[:, None] + x**2
        array[where] = np.where(square < (0.45 * n) ** 2, 2000, 100).astype("u2") + noise


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@needs_proc
def test_memory_is_bounded(tmp_path: Path) -> None:
    """33 MB in 16 MiB; threads and compressors take some more."""
    synthetic(tmp_path / "a.zarr", 256, 128)
    settings: dict[str, Any] = {"chunks": 32, "shards": [128] * 3, "levels": 3}
    for method in ("mean", "mode"):
        assert peak_mib(tmp_path / "a.zarr", tmp_path / method, 16, method=method, **settings) < 48
    reference = means(zarrdock.open_array(tmp_path / "a.zarr")[...], 2)[1]
    np.testing.assert_array_equal(zarrdock.open_array(tmp_path / "mean/1")[...], reference)


@needs_proc
@pytest.mark.rare
def test_two_gigabytes_in_half_a_gibibyte(tmp_path: Path) -> None:
    synthetic(tmp_path / "a.zarr", 1024, 256)
    assert peak_mib(tmp_path / "a.zarr", tmp_path / "image.zarr", 512) < 512
    picture = open_picture(tmp_path / "image.zarr")
    assert [level.shape[0] for level in picture.levels] == [1024, 512, 256, 128, 64]
    where = np.s_[256:512, 256:512, 256:512]
    np.testing.assert_array_equal(picture.levels[1][128:256, 128:256, 128:256], means(picture.levels[0][where], 2)[1])


def test_single_file_images(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="one pass: make the image in a folder, and copy that"):
        zarrdock.pyramid(VALUES, tmp_path / "a.ozx", levels=2)
    image = zarrdock.pyramid(VALUES, tmp_path / "a.zarr", levels=2)
    zarrdock.copy(image, tmp_path / "a.ozx")
    expect(zarrdock.open_group(tmp_path / "a.ozx"), means(VALUES, 2))
    zarrdock.copy(image, tmp_path / "a.ozx", overwrite=True)


def test_empty_parts_cost_nothing() -> None:
    """A million shards, two of which are there."""
    array = zarrdock.create_array(
        None, shape=(8000, 8000, 8000), dtype="u1", chunks=(20,) * 3, shards=(80,) * 3, dimension_names=("z", "y", "x")
    )
    array[100:140, 100:140, 100:140] = 8
    array[7990:, 7990:, 7990:] = 16
    store = zarrdock.RecordingStore(zarrdock.MemoryStore())
    image = zarrdock.pyramid(array, store, levels=4)
    assert image["3"][14, 14, 14] == 8
    assert image["3"][-1, -1, -1] == 16
    assert store.n_requests < 60


@pytest.mark.parametrize("memory_bytes", [1, 20_000, 2**20, 2**30])
def test_values_do_not_depend_on_memory(memory_bytes: int) -> None:
    array = zarrdock.create_array(None, data=VALUES, **LAYOUT)
    expect(zarrdock.pyramid(array, zarrdock.MemoryStore(), levels=4, memory_bytes=memory_bytes), means(VALUES, 4))


# -- the command ------------------------------------------------------------------------------------------------------


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    arguments = ["pyramid", str(tmp_path / "a.npy"), str(tmp_path / "a.ome.zarr"), "--scale", "2,1,1", "--unit", "um"]
    assert run([*arguments, "--levels", "3", "--chunks", "16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [level["shape"] for level in found["levels"]] == [[37, 50, 64], [19, 25, 32], [10, 13, 16]]
    assert found["levels"][1]["translation"] == [1, 0.5, 0.5]
    assert found["axes"][0] == {"name": "z", "type": "space", "unit": "micrometer"}
    expect(zarrdock.open_group(tmp_path / "a.ome.zarr"), means(VALUES, 3))
    assert run([*arguments, "--levels", "3"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run([*arguments, "--levels", "2", "--method", "max", "--overwrite"]) == 0
    text = capsys.readouterr().out
    assert "19 × 25 × 32 uint16" in text
    assert "scale 4 × 2 × 2" in text
    for wrong, status, message in (
        (["--scale", "a"], 2, "write a number an axis"),
        (["--method", "median"], 2, "median"),
        (["--levels", "20", "--overwrite"], 1, "error: --levels 20"),
        (["--axes", "tcy", "--overwrite"], 1, "2 or 3 spatial axes"),
    ):
        assert run([*arguments, *wrong]) == status
        assert message in capsys.readouterr().err


def test_a_folder_of_tiff_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile = pytest.importorskip("tifffile")
    (tmp_path / "slices").mkdir()
    for number, plane in enumerate(VALUES):
        tifffile.imwrite(tmp_path / "slices" / f"slice{number}.tif", plane)
    with pytest.raises(UnsupportedError, match="folder of TIFF files: give a destination"):
        zarrdock.pyramid(tmp_path / "slices")
    assert run(["pyramid", str(tmp_path / "slices"), str(tmp_path / "a.zarr"), "--levels", "2"]) == 0
    image = zarrdock.open_group(tmp_path / "a.zarr")
    expect(image, means(VALUES, 2))
    assert [axis["name"] for axis in ome(image)["axes"]] == ["z", "y", "x"]
    assert image["0"].shards is not None or image["0"].nbytes < 2**20


# -- other readers ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The MNI152 brain of the demonstration."""
    place = tmp_path_factory.mktemp("brain") / "brain.ome.zarr"
    volume = load_volume().transpose(2, 1, 0)  # z, y, x
    zarrdock.pyramid(volume, place, chunks=32, shards=(96, 96, 96), scale=(2, 2, 2), units="mm", levels=3)
    return place


@pytest.mark.peer
def test_valid_by_the_models(brain: Path) -> None:
    models = pytest.importorskip("ome_zarr_models.v05")
    zarr = pytest.importorskip("zarr")
    image = models.Image.from_zarr(zarr.open_group(brain, mode="r"))
    multiscales = image.ome_attributes.multiscales[0]
    assert [dataset.path for dataset in multiscales.datasets] == ["0", "1", "2"]
    labels = zarrdock.pyramid(load_volume() > 900, brain.parent / "mask.zarr", axes="zyx", levels=2)
    models.Image.from_zarr(zarr.open_group(brain.parent / "mask.zarr", mode="r"))
    assert labels["1"].dtype == bool


def _napari(path: str) -> list[Any]:
    reader = pytest.importorskip("napari_ome_zarr").napari_get_reader(path)
    assert reader is not None
    return list(reader(path)[0][0])


def _ome_zarr(path: str) -> list[Any]:
    reader = pytest.importorskip("ome_zarr.reader")
    parse_url = pytest.importorskip("ome_zarr.io").parse_url
    (node,) = reader.Reader(parse_url(path))()
    assert [axis["name"] for axis in node.metadata["axes"]] == ["z", "y", "x"]
    return list(node.data)


@pytest.mark.peer
@pytest.mark.parametrize("read", [_ome_zarr, _napari], ids=["ome-zarr", "napari-ome-zarr"])
def test_readers_of_images(brain: Path, read: Callable[[str], list[Any]]) -> None:
    levels = read(str(brain))
    volume = load_volume().transpose(2, 1, 0)
    for found, expected in zip(levels, means(volume, 3), strict=True):
        np.testing.assert_array_equal(np.asarray(found), expected)


def test_what_the_image_lacks_of_its_source_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "a.zarr"
    zarrdock.pyramid(np.arange(512, dtype="u2").reshape(8, 8, 8), source, axes="zyx", levels=2)
    zarrdock.pyramid(np.ones((8, 8, 8), "u1"), source, dst_path="labels/cells", axes="zyx", levels=2)
    (source / "notes.txt").write_text("x")
    with pytest.warns(IncompleteCopyWarning, match=r"labels: it is no level.*notes.txt: it is no level"):
        zarrdock.pyramid(source, tmp_path / "b.zarr", levels=2)
    assert run(["pyramid", str(source), str(tmp_path / "c.zarr"), "--levels", "2"]) == 3
    assert "not copied: labels: it is no level of the image" in capsys.readouterr().err
    assert run(["pyramid", str(tmp_path / "b.zarr"), str(tmp_path / "d.zarr"), "--levels", "2"]) == 0
