"""Pages of ``serve``: what a browser gets, what programs get, what a page costs, and how it looks."""

import dataclasses
import http.client
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("jinja2")

import zarrdock
from zarrdock.errors import AccessError
from zarrdock.serve.pages import node_page
from zarrdock.serve.server import Server
from zarrdock.viewer.multiscale import open_picture
from zarrdock.viewer.preview import Bounds, preview

pytestmark = pytest.mark.server

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
HOSTILE = "<script>alert(1)</script>"
Y, X = np.mgrid[:200, :300]
NUMBERS = {
    "grey": (np.sin(X / 20) * 1000 + Y).astype("f4"),
    "labels": ((Y // 50) * 6 + X // 50).astype("i4"),
    "colours": np.stack([X % 256, Y % 256, (X + Y) % 256], -1).astype("u1"),
    "truth": X > Y,
    "complex": np.exp(1j * X / 30) * Y,
    "nan": np.full((8, 8), np.nan),
}
VALUES = {
    "times": (np.array(["2026-01-01", "NaT"], "M8[D]"), "2026-01-01"),
    "texts": (np.array(["a<b>", "ü"], dtype=np.dtypes.StringDType()), "a&lt;b&gt;"),
    "scalar": (np.array(3.5), "3.5"),
}


@pytest.fixture
def store() -> zarrdock.Store:
    store = zarrdock.MemoryStore()
    group = zarrdock.create_group(store, attributes={HOSTILE: HOSTILE, "quote": "\"'><img src=x>"})
    for name, values in NUMBERS.items():
        group.create_array(name, data=values, chunks=(100, 100, 3)[: values.ndim])
    for name, (few, _) in VALUES.items():
        group.create_array(name, data=few, chunks=(1,) * few.ndim)
    group.create_array("curve", data=np.r_[np.sin(np.arange(1000) / 50), np.nan], chunks=(500,))
    group.create_array("empty", shape=(0, 4), dtype="u1", chunks=(4, 4))
    group.create_array("huge", shape=(10**6, 10**6, 10**3), dtype="f8", chunks=(1000, 1000, 100))
    group.create_group(f"odd: {HOSTILE.replace('/', '')}").create_array("x", data=np.ones((4, 4)), chunks=(2, 2))
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    datasets = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [2, 2**i, 2**i]}]} for i in range(2)
    ]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    image = group.create_group("image", attributes={"ome": ome})
    for i in range(2):
        level = np.stack([NUMBERS["grey"][:: 2**i, :: 2**i]] * 4)
        image.create_array(str(i), data=level, chunks=(1, 50, 50), shards=(2, 100, 100))
    group.create_array("damaged", data=NUMBERS["grey"], chunks=(100, 100))
    store.write("damaged/c/0/0", b"no zstd")
    store.write("unreadable/zarr.json", b"{not json")
    store.write("plain/file", b"1")
    return store


@pytest.fixture
def server(store: zarrdock.Store) -> Iterator[Server]:
    with Server(store) as server:
        yield server


def ask(server: Server, path: str, accept: str | None = BROWSER) -> tuple[int, Any, str]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
    connection.request("GET", path, headers={} if accept is None else {"Accept": accept})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, response.headers, body


@pytest.mark.parametrize("name", NUMBERS)
def test_arrays_have_pictures(server: Server, name: str) -> None:
    status, headers, body = ask(server, f"/{name}/")
    assert (status, headers.get_content_type()) == (200, "text/html")
    assert 'src="data:image/png;base64,' in body
    assert " read in " in body
    assert "<svg" in body
    assert "objects are stored" in body
    assert ("magnitude" in body) == (name == "complex")


@pytest.mark.parametrize("name", VALUES)
def test_others_show_values(server: Server, name: str) -> None:
    assert VALUES[name][1] in ask(server, f"/{name}/")[2]


def test_one_axis_is_a_curve(server: Server) -> None:
    body = ask(server, "/curve/")[2]
    assert "<polyline" in body
    assert "nan," not in body
    for n, said in (
        (300, "all elements: "),
        (1000, "every 2nd element: "),
        (1300, "every 3rd element: "),
        (6700, "every 12th element: "),
        (12_700, "every 22nd element: "),
    ):
        array = zarrdock.create_array({}, data=np.arange(n))
        found = preview(open_picture(array), {}, Bounds()).said
        assert found.startswith(said), found


def test_arrays_too_large_for_a_look(server: Server) -> None:
    body = ask(server, "/huge/")[2]
    assert "No picture: a look would read more than 8.0 MiB" in body
    assert 'href="?look=1"' in body
    assert "the array is empty" in ask(server, "/empty/")[2]


def test_images_show_levels_axes_and_cuts(server: Server) -> None:
    body = ask(server, "/image/")[2]
    assert 'href="0/"' in body
    assert "micrometer" in body
    assert "z = 2" in body
    assert "z = 3" in ask(server, "/image/?0=3")[2]
    for nonsense in ("?0=99999999999999999999999", "?0=-1", "?from=x", "?77=1", "?labels=%00"):
        assert ask(server, f"/image/{nonsense}")[0] == 200
    (href,) = re.findall(r'href="(https://neuroglancer[^"]+)"', body)
    state = json.loads(unquote(href.partition("#!")[2]))
    assert state["layers"][0]["source"] == f"zarr3://{server.url}/image/"
    assert list(state["dimensions"]) == ["x", "y", "z"]
    assert state["dimensions"]["z"] == [pytest.approx(2e-6), "m"]


def test_the_drawing_of_chunks_and_of_those_stored(server: Server, store: zarrdock.Store) -> None:
    array = zarrdock.create_array(
        store, name="some", shape=(4, 40, 64), dtype="u1", chunks=(1, 8, 8), shards=(1, 32, 32)
    )
    array[0, :32, :32] = 1
    (drawing,) = re.findall(r"<svg.*?</svg>", ask(server, "/some/")[2], re.S)
    svg = ET.fromstring(drawing)  # well-formed
    kinds = [part.get("class") for part in svg]
    assert (kinds.count("chunk"), kinds.count("shard"), kinds.count("stored")) == (11, 2, 1)
    assert all(part.get("stroke") for part in svg if part.tag == "line")
    (cell,) = (part for part in svg if part.get("class") == "stored")
    place = [float(cell.get(name, -1)) for name in ("x", "y", "width", "height")]
    assert place == [0, 0, 80, 80]  # the second row of shards is lower
    assert cell.get("fill-opacity") == "0.29"  # one of the four planes


def test_members_are_listed_and_counted(server: Server, store: zarrdock.Store) -> None:
    body = ask(server, "/")[2]
    assert "3 inside" not in body
    assert "2 inside" in body
    zarrdock.create_group(store, path="many")
    for i in range(203):
        store.write(f"many/n{i:03}/zarr.json", b'{"zarr_format":3,"node_type":"group"}')
    assert "n199" in (first := ask(server, "/many/")[2])
    assert "n200" not in first
    assert 'href="?from=200"' in first
    assert "n202" in ask(server, "/many/?from=200")[2]


def test_stored_bytes_are_counted_when_asked_for(server: Server) -> None:
    assert "count the objects" in ask(server, "/grey/")[2]
    assert "7 objects, metadata included" in ask(server, "/grey/?stored=1")[2]


def test_nothing_hostile_becomes_markup(server: Server, store: zarrdock.Store) -> None:
    odd = quote(next(name for name in store.list_dir("").prefixes if name.startswith("odd")))
    for path in ("/", f"/{odd}/", f"/{quote(HOSTILE)}", "/texts/"):
        _, headers, body = ask(server, path)
        assert "<script" not in body
        assert "<img src=x" not in body
        assert "<b>" not in body.partition("<main>")[2]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        # Relative, and without "./".
        links = re.findall(r'href="([^"]*)"', body)
        assert not [link for link in links if link.startswith(("./", "/", "javascript"))]
    assert f'href="{odd}/"' in ask(server, "/")[2]


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/html"])
def test_programs_get_the_same_as_ever(server: Server, store: zarrdock.Store, accept: str | None) -> None:
    status, headers, body = ask(server, "/plain/", accept)
    assert status == 200
    if accept is not None and "json" in accept:
        assert json.loads(body) == {"keys": ["file"], "prefixes": []}
    else:
        assert '<li><a href="file">file</a></li>' in body
        assert "Content-Security-Policy" not in headers
    assert ask(server, "/no", accept)[2] == "no such key\n"
    for browser in (accept, BROWSER):
        found = store.get("zarr.json")
        assert found is not None
        assert ask(server, "/zarr.json", browser)[2].encode() == bytes(found.data)


def test_errors_have_pages(server: Server, store: zarrdock.Store) -> None:
    status, _, body = ask(server, "/nothing/")
    assert (status, "nothing here" in body, "<main>" in body) == (404, True, True)
    status, _, body = ask(server, "/unreadable/")
    assert (status, "not JSON" in body, "<main>" in body) == (500, True, True)
    status, _, body = ask(server, "/damaged/")  # its metadata is sound
    assert (status, "No picture: zstd" in body, "damaged/c/0/0" in body) == (200, True, True)
    assert 'class="bad">unreadable/zarr.json' in ask(server, "/")[2]


class Denied(zarrdock.MemoryStore):
    def read(self, reads: Any) -> Any:
        raise AccessError("denied", store=self)


def test_denied_is_a_page_too() -> None:
    with Server(Denied()) as server:
        status, _, body = ask(server, "/")
    assert (status, "denied" in body, "<main>" in body) == (403, True, True)


def test_a_page_costs_few_requests_and_bounded_bytes(store: zarrdock.Store) -> None:
    for is_listable in (True, False):
        record = zarrdock.RecordingStore(store)
        record.traits = dataclasses.replace(store.traits, remote=True, listable=is_listable)
        with Server(record) as server:
            body = ask(server, "/image/1/")[2]
            assert 'src="data:image/png' in body
            # Three documents of which one is there, indexes of 2 shards, their chunks in one plane.
            assert record.n_requests <= 3 + 2 * 2 + 6
            assert "Show which are stored" in body  # a remote store is listed when asked only
            before = record.nbytes
            ask(server, "/huge/")
            assert record.nbytes - before < 10_000
    assert Bounds().nbytes <= 8 * 2**20


def test_code_on_the_page_runs(server: Server) -> None:
    import html

    for path in ("grey", "image/0"):
        body = ask(server, f"/{path}/")[2]
        found = re.findall(r'<div class="dim">([\w-]+)</div><pre tabindex="0">(.*?)</pre>', body, re.S)
        assert [name for name, _ in found] == ["zarrdock", "zarr-python", "xarray", "TensorStore"]
        for name, code in found:
            if name == "TensorStore":
                pytest.importorskip("tensorstore")
            space: dict[str, Any] = {}
            exec(html.unescape(code), space)
            assert tuple(space["array"].shape) == ((200, 300) if path == "grey" else (4, 200, 300))


def test_any_hierarchy_has_pages(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("g").create_dataset("x", data=NUMBERS["grey"], chunks=(50, 50))
    with zarrdock.open_store(tmp_path / "a.zip") as archive:
        zarrdock.create_group(archive, path="g").create_array("x", data=NUMBERS["grey"], chunks=(50, 50))
    v2 = zarrdock.views.as_v2(zarrdock.open_store(tmp_path / "a.zip", read_only=True))
    for store in (tmp_path / "a.zip", v2, zarrdock.views.hdf5(tmp_path / "a.h5")):
        with Server(store) as server:
            assert "200 × 300 float32" in ask(server, "/g/")[2]
            assert 'src="data:image/png' in ask(server, "/g/x/")[2]


def test_unusual_nodes_have_pages() -> None:
    old = zarrdock.MemoryStore()
    group = zarrdock.create_group(old, zarr_format=2)
    group.create_group("h").create_array("x", data=np.ones((4, 4)), chunks=(2, 2))
    group.consolidate()
    with Server(old) as server:
        body = ask(server, "/")[2]
    assert "1 inside" in body
    assert "consolidated metadata" in body
    store = zarrdock.MemoryStore()
    group = zarrdock.create_group(store)
    group.create_array("irregular", data=NUMBERS["grey"], chunks=[[16, 184], 100])  # type: ignore[list-item]
    group.create_array("records", data=np.zeros(3, [("a", "i4"), ("b", "f8")]), chunks=(3,))
    group.create_array("many axes", data=np.ones((2, 3, 4, 9, 9), "f2"), chunks=(1, 1, 2, 5, 5))
    group.create_array("unknown", data=np.ones((4, 4)), chunks=(2, 2))
    found = store.get("unknown/zarr.json")
    assert found is not None
    document = json.loads(bytes(found.data))
    document["codecs"].append({"name": "mystery", "configuration": {}})
    store.write("unknown/zarr.json", json.dumps(document).encode())
    group.create_group("wrong", attributes={"ome": {"multiscales": [{"datasets": [{"path": 3}]}]}})
    expected = {
        "irregular": "image/png",
        "records": "(0, 0.0)",
        "many axes": "image/png",
        "unknown": "cannot be decoded",
        "wrong": "/datasets/0/path",
    }
    with Server(store) as server:
        for name, part in expected.items():
            assert part in ask(server, f"/{quote(name)}/")[2], name


def test_a_place_without_anything_is_refused_at_once(tmp_path: Path) -> None:
    code = "from zarrdock.cli.main import main; main()"
    command = [sys.executable, "-c", code, "serve", str(tmp_path / "typo.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode not in (0, None)
    assert "typo.zarr" in done.stderr
    assert "Traceback" not in done.stderr
    assert "serving" not in done.stdout


def test_in_a_browser(browser: Any, server: Server) -> None:
    for path in ("", "grey/", "curve/", "image/", "texts/", "huge/", "damaged/"):
        browser.open(f"{server.url}/{path}")  # 400 pixels wide
        assert browser.evaluate("document.documentElement.scrollWidth") <= 400, path
        assert browser.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert browser.messages == []
    browser.open(f"{server.url}/grey/")
    assert browser.evaluate("document.images.length") == 1
    page = browser.screenshot()
    assert len(np.unique(page.reshape(-1, 3), axis=0)) > 100  # a picture is drawn
    # Everything that can be used is reached by the keyboard, and nothing jumps the order.
    assert browser.evaluate("[...document.querySelectorAll('a, summary, pre')].every(one => one.tabIndex === 0)")


def test_the_root_is_called_as_its_store_is(tmp_path: Path) -> None:
    zarrdock.create_group(tmp_path / "my brain.zarr").create_group("a")
    for store, title in (
        (zarrdock.open_store(tmp_path / "my brain.zarr"), "my brain.zarr"),
        (zarrdock.open_store({"zarr.json": b'{"zarr_format": 3, "node_type": "group"}'}), "/"),
    ):
        page = node_page(store, "", {}, "http://127.0.0.1")
        assert page is not None
        assert f"<title>{title}</title>" in page
