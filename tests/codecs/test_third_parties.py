"""Codecs of other packages: through entry points of ours, through zarr-python's, and numcodecs' for Zarr v2.

The packages are made on the spot: a module and the folder of metadata that an installer leaves behind.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.codecs.builtin import CODECS, parse_codec
from zarrdock.codecs.codec import ByteSpec, ChunkSpec
from zarrdock.codecs.v2_codecs import from_v2, to_v2, to_v3
from zarrdock.errors import CodecError, MetadataError, UnknownExtensionError, UnsupportedError

OURS = '''
"""The example of docs/reference/codecs.md."""

from dataclasses import dataclass

from zarrdock.codecs.codec import BoundBytesBytes, BytesBytesCodec, no_configuration


@dataclass(frozen=True)
class Inverted(BytesBytesCodec):
    name = "acme.inverted"

    @classmethod
    def from_json(cls, configuration):
        no_configuration(configuration)
        return cls()

    def to_json(self):
        return {"name": self.name}

    def bind(self, spec):
        return BoundInverted(spec)


class BoundInverted(BoundBytesBytes):
    def __init__(self, spec):
        self.decoded = self.encoded = spec

    def encode(self, data):
        return bytes(255 - b for b in bytes(data))

    decode = encode
'''

THEIRS = """
from dataclasses import dataclass, replace

import numpy as np
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec


class Common:
    is_fixed_size = True

    @classmethod
    def from_dict(cls, data):
        return cls(**data.get("configuration", {}))

    def compute_encoded_size(self, n, spec):
        return n


@dataclass(frozen=True)
class Xor(Common, BytesBytesCodec):
    key: int = 1

    def to_dict(self):
        return {"name": "acme.xor", "configuration": {"key": self.key}}

    async def _encode_single(self, data, spec):
        raw = data.as_numpy_array().view("u1") ^ np.uint8(self.key)
        return spec.prototype.buffer.from_bytes(raw.tobytes())

    _decode_single = _encode_single


@dataclass(frozen=True)
class Negated(Common, ArrayArrayCodec):
    def to_dict(self):
        return {"name": "acme.negated"}

    def _encode_sync(self, array, spec):
        return spec.prototype.nd_buffer.from_numpy_array(-array.as_numpy_array())

    _decode_sync = _encode_sync


@dataclass(frozen=True)
class Text(Common, ArrayBytesCodec):
    def to_dict(self):
        return {"name": "acme.text"}

    def _encode_sync(self, array, spec):
        text = " ".join(str(x) for x in array.as_numpy_array().reshape(-1).tolist())
        return spec.prototype.buffer.from_bytes(text.encode())

    def _decode_sync(self, data, spec):
        items = [float(x) for x in data.to_bytes().decode().split()]
        dtype = spec.dtype.to_native_dtype()
        return spec.prototype.nd_buffer.from_numpy_array(np.array(items).astype(dtype))
"""

NUMCODECS = '''
import numpy as np
from numcodecs.abc import Codec


class Rows(Codec):
    """Each row as text: needs to see the chunk's shape."""

    codec_id = "acme-rows"

    def __init__(self, separator=","):
        self.separator = separator

    def encode(self, buf):
        rows = np.asarray(buf)
        assert rows.ndim == 2
        return "\\n".join(self.separator.join(str(x) for x in row) for row in rows.tolist()).encode()

    def decode(self, buf, out=None):
        text = bytes(buf).decode()
        return np.array([[int(x) for x in row.split(self.separator)] for row in text.split("\\n")], "<i4")

    def get_config(self):
        return {"id": self.codec_id, "separator": self.separator}
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A folder on the path that packages can be installed into."""
    import numcodecs.registry

    def install(module: str, source: str, group: str, **points: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        folder = tmp_path / f"{module}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = "".join(f"{name.replace('__', '.')} = {module}:{attribute}\n" for name, attribute in points.items())
        (folder / "entry_points.txt").write_text(f"[{group}]\n{lines}")

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(CODECS, "_entry_points", {})
    monkeypatch.setattr(CODECS, "_loaded", dict(CODECS._loaded))
    before = dict(numcodecs.registry.codec_registry)
    known = set(sys.modules)
    yield install
    numcodecs.registry.codec_registry.clear()
    numcodecs.registry.codec_registry.update(before)
    for name in set(sys.modules) - known:
        if name.startswith("acme"):
            del sys.modules[name]


def test_our_entry_points(site: Any) -> None:
    site("acme_ours", OURS, "zarrdock.codecs", acme__inverted="Inverted")
    assert "acme.inverted" in list(CODECS.names())
    store: dict[str, Any] = {}
    array = zarrdock.create_array(
        store, shape=(10,), chunks=(4,), shards=(8,), dtype="i4", compressors=["acme.inverted", "zstd"]
    )
    array[...] = np.arange(10)
    assert zarrdock.open_array(store)[...].tolist() == list(range(10))


def test_the_page_has_this_example(repository: Path) -> None:
    text = (repository / "docs" / "reference" / "codecs.md").read_text("utf-8")
    code = OURS.split('"""\n\n', 1)[1].strip()
    assert code in text
    assert '[project.entry-points."zarrdock.codecs"]' in text


def test_an_entry_point_that_cannot_be_imported(site: Any) -> None:
    site("acme_broken", "import acme_is_not_there\n", "zarrdock.codecs", acme__broken="Nothing")
    with pytest.raises(UnknownExtensionError, match="acme_is_not_there"):
        parse_codec("acme.broken")


def test_a_built_in_name_cannot_be_taken(site: Any) -> None:
    site("acme_ours", OURS, "zarrdock.codecs", zstd="Inverted")
    CODECS._loaded.pop("zstd", None)
    assert parse_codec("zstd") == zarrdock.Zstd()


@pytest.fixture
def theirs(site: Any) -> Any:
    import zarr.registry

    site("acme_theirs", THEIRS, "zarr.codecs", acme__xor="Xor", acme__negated="Negated", acme__text="Text")
    from importlib.metadata import entry_points

    names = vars(zarr.registry)  # releases differ in how private it is
    registries = names["_codec_registries"] if "_codec_registries" in names else names["__codec_registries"]
    before = {name: dict(registry) for name, registry in registries.items()}
    for point in entry_points(group="zarr.codecs"):
        if point.name.startswith("acme"):
            registries[point.name].lazy_load_list.append(point)
    yield
    for name in set(registries) - set(before):
        del registries[name]


@pytest.mark.peer
def test_zarr_pythons_codecs(theirs: Any) -> None:
    store: dict[str, Any] = {}
    array = zarrdock.create_array(
        store,
        shape=(10, 6),
        chunks=(4, 3),
        dtype="f4",
        filters=["acme.negated"],
        serializer="acme.text",
        compressors=[{"name": "acme.xor", "configuration": {"key": 7}}, "crc32c"],
    )
    values = np.arange(60, dtype="f4").reshape(10, 6)
    array[...] = values
    array[3, 4] = -5
    values[3, 4] = -5
    assert np.array_equal(zarrdock.open_array(store)[...], values)
    chunk = bytes(b ^ 7 for b in bytes(store["c/0/0"])[:-4])
    assert chunk.split()[:3] == [b"-0.0", b"-1.0", b"-2.0"]
    again = pickle.loads(pickle.dumps(array.metadata.codecs))
    assert again == array.metadata.codecs
    document = parse_codec({"name": "acme.xor", "configuration": {"key": 7}}).to_json()
    assert document == {"name": "acme.xor", "configuration": {"key": 7}}


@pytest.mark.peer
def test_zarr_pythons_codecs_and_errors(theirs: Any) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_codec({"name": "acme.xor", "configuration": {"lock": 7}}, "/codecs/1")
    assert caught.value.pointer == "/codecs/1/configuration"
    bound: Any = parse_codec("acme.xor").bind(ByteSpec(4, 4))  # type: ignore[attr-defined]
    with pytest.raises(CodecError, match="5 bytes, expected 4"):
        bound.decode(b"12345")
    text: Any = parse_codec("acme.text").bind(ChunkSpec((2,), np.dtype("f4"), np.float32(0)))  # type: ignore[attr-defined]
    with pytest.raises(CodecError, match=r"acme\.text.*could not convert"):
        text.decode(b"1 two")
    with pytest.raises(CodecError, match="expected 2"):
        text.decode(b"1 2 3")
    with pytest.raises(UnknownExtensionError, match=r"acme\.unheard"):
        parse_codec("acme.unheard")


def test_numcodecs_entry_points_in_v2(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import numcodecs.registry

    site("acme_numcodecs", NUMCODECS, "numcodecs.codecs", **{"acme-rows": "Rows"})
    numcodecs.registry.run_entrypoints()
    arguments: dict[str, Any] = {"dtype": np.dtype("<i4"), "order": "C", "ndim": 2}
    codecs = from_v2({"id": "acme-rows", "separator": ";"}, None, **arguments)
    assert to_v2(codecs, dtype=np.dtype("<i4"), ndim=2)[0] == {"id": "acme-rows", "separator": ";"}
    store: dict[str, Any] = {}
    values = np.arange(12, dtype="<i4").reshape(3, 4)
    array = zarrdock.create_array(
        store, shape=(3, 4), chunks=(2, 4), dtype="<i4", zarr_format=2, compressors={"id": "acme-rows"}
    )
    array[...] = values
    assert bytes(store["0.0"]) == b"0,1,2,3\n4,5,6,7"
    assert np.array_equal(zarrdock.open_array(store)[...], values)
    store["0.0"] = b"no, rows"
    with pytest.raises(CodecError, match="acme-rows"):
        zarrdock.open_array(store).read()
    with pytest.raises(UnsupportedError, match="acme-rows"):
        from_v2({"id": "zlib"}, [{"id": "acme-rows"}], **arguments)
    with pytest.raises(UnsupportedError, match="only Zarr v2"):
        to_v3(codecs, dtype=np.dtype("<i4"), chunk_shape=(2, 4))
    assert pickle.loads(pickle.dumps(codecs)) == codecs
