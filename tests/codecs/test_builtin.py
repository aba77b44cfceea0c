"""Names to codecs, and the metadata of chains."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from zarrdock.codecs.blosc_ import Blosc
from zarrdock.codecs.builtin import CODECS, codecs_to_json, parse_codec, parse_codecs, with_defaults
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.codec import ByteSpec, ChunkSpec, Codec
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.gzip_ import Gzip, Zlib
from zarrdock.codecs.numcodecs_ import Lz4
from zarrdock.codecs.numcodecs_arrays import Delta
from zarrdock.codecs.transpose import Transpose
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import MetadataError, UnknownExtensionError

EXAMPLES: list[tuple[dict[str, Any], Codec]] = [
    ({"name": "bytes", "configuration": {"endian": "big"}}, Bytes("big")),
    ({"name": "bytes"}, Bytes(None)),
    ({"name": "transpose", "configuration": {"order": [2, 0, 1]}}, Transpose((2, 0, 1))),
    ({"name": "gzip", "configuration": {"level": 1}}, Gzip(1)),
    ({"name": "zstd", "configuration": {"level": -7, "checksum": True}}, Zstd(-7, True)),
    (
        {
            "name": "blosc",
            "configuration": {"cname": "lz4", "clevel": 1, "shuffle": "shuffle", "typesize": 4, "blocksize": 0},
        },
        Blosc("lz4", 1, "shuffle", 4, 0),
    ),
    ({"name": "crc32c"}, Crc32c()),
    ({"name": "numcodecs.zlib", "configuration": {"level": 3}}, Zlib(3)),
    ({"name": "numcodecs.lz4", "configuration": {"acceleration": 2}}, Lz4(acceleration=2)),
    ({"name": "numcodecs.delta", "configuration": {"astype": "<i2", "dtype": "<i4"}}, Delta(dtype="<i4", astype="<i2")),
]


@pytest.mark.parametrize(("document", "codec"), EXAMPLES, ids=lambda value: repr(value))
def test_metadata_there_and_back(document: dict[str, Any], codec: Codec) -> None:
    assert parse_codec(document) == codec
    assert codec.to_json() == document
    assert hash(codec) == hash(parse_codec(json.loads(json.dumps(document))))
    assert parse_codec({**document, "must_understand": False}) == codec


def test_every_builtin_name_has_its_class() -> None:
    for name in CODECS.names():
        implementation = CODECS.get(name)
        assert implementation is not None
        assert issubclass(implementation, Codec)
        assert implementation.name == ("bytes" if name == "endian" else name)


def test_names_of_drafts() -> None:
    assert parse_codec("crc32c") == Crc32c()
    assert parse_codec({"name": "endian", "configuration": {"endian": "little"}}) == Bytes()
    assert parse_codec({"name": "https://purl.org/zarr/spec/codecs/gzip/1.0", "configuration": {"level": 1}}) == Gzip(1)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        (3, "/codecs/0"),
        ([], "/codecs/0"),
        ({}, "/codecs/0/name"),
        ({"name": 3}, "/codecs/0/name"),
        ({"name": "gzip", "configuration": 5}, "/codecs/0/configuration"),
        ({"name": "gzip", "configuration": {"level": "x"}}, "/codecs/0/configuration/level"),
        ({"name": "gzip", "configuration": {"levle": 1}}, "/codecs/0/configuration/levle"),
        ({"name": "gzip", "must_understand": "no"}, "/codecs/0/must_understand"),
        ({"name": "gzip", "level": 1}, "/codecs/0/level"),
        ({"name": "transpose"}, "/codecs/0/configuration/order"),
        ({"name": "transpose", "configuration": {"order": [0, 2]}}, "/codecs/0/configuration/order/1"),
        ({"name": "transpose", "configuration": {"order": [1, 1]}}, "/codecs/0/configuration/order"),
    ],
)
def test_wrong_metadata_points_at_the_place(document: object, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_codec(document, "/codecs/0")
    assert caught.value.pointer == pointer
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["zstandard", "numcodecs.nonsense", "imagecodecs_unheard", "https://example.com/x"])
@pytest.mark.parametrize("must_understand", [True, False])
def test_unknown_codecs_are_named_with_where_to_get_them(name: str, must_understand: bool) -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        parse_codecs(["bytes", {"name": name, "must_understand": must_understand}])
    assert (caught.value.kind, caught.value.name, caught.value.pointer) == ("codec", name, "/codecs/1/name")
    assert caught.value.hint


def test_a_codec_whose_module_is_missing_is_unknown_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS._builtin, "far", "zarrdock_far_away:Far")
    with pytest.raises(UnknownExtensionError, match="zarrdock_far_away"):
        parse_codec("far")


def test_codecs_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CODECS, "_loaded", {})

    class Mine(Crc32c):
        name = "mine"

    CODECS.add("mine", Mine)
    assert isinstance(parse_codec("mine"), Mine)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ("bytes", ""),
        ([], ""),
        (["gzip", "bytes"], "/0"),
        (["bytes", "bytes"], "/1"),
        (["bytes", {"name": "transpose", "configuration": {"order": [0]}}], "/1"),
        ([{"name": "transpose", "configuration": {"order": [0]}}], ""),
        (["bytes", "gzip", "bytes"], "/2"),
    ],
)
def test_chains_out_of_order(document: object, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_codecs(document, "/codecs")
    assert caught.value.pointer == f"/codecs{pointer}"


def test_defaults_are_filled_in_from_what_reaches_the_codec() -> None:
    chain = (Transpose("F"), Delta(astype="<i2"), Bytes("big"), Blosc(), Crc32c())
    complete = with_defaults(chain, ChunkSpec((2, 3), np.dtype("<i4")))
    assert complete == (
        Transpose((1, 0)),
        Delta(astype="<i2", dtype="<i4"),
        Bytes("big"),
        Blosc(shuffle="shuffle", typesize=2),
        Crc32c(),
    )
    assert parse_codecs(codecs_to_json(complete)) == complete
    assert with_defaults(complete, ChunkSpec((2, 3), np.dtype("<i4"))) == complete
    assert with_defaults([Bytes(), Blosc()], ChunkSpec((8,), np.dtype("u1"))) == (
        Bytes(None),
        Blosc(shuffle="bitshuffle", typesize=1),
    )
    with pytest.raises(MetadataError) as caught:
        with_defaults([Bytes(), Transpose((0, 1, 2))], ChunkSpec((2, 3), np.dtype("u1")))
    assert caught.value.pointer.startswith("/codecs/1")


def test_metadata_is_parsed_without_importing_numcodecs() -> None:
    code = (
        "import sys; from zarrdock.codecs.builtin import parse_codecs;"
        "parse_codecs([{'name': 'numcodecs.delta'}, 'bytes', 'numcodecs.lz4', 'zstd', 'gzip',"
        " {'name': 'blosc', 'configuration': {'shuffle': 'noshuffle'}}]);"
        "print('numcodecs' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert done.stdout.split() == [b"False"]


def test_the_encoded_side_is_what_the_next_codec_decodes_to() -> None:
    spec = ByteSpec(1000, 1000, 4)
    for codec in (Zstd(), Gzip(), Blosc(), Crc32c(), Lz4()):
        bound = codec.bind(spec)
        assert bound.decoded == spec
        assert bound.encoded.limit >= 1000
