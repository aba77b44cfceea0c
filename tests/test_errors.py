"""Errors: of the kinds that callers expect, with the facts as attributes; they pickle."""

from __future__ import annotations

import copy
import pickle

import pytest

from zarrdock import errors
from zarrdock.array.group import MemberNotFoundError
from zarrdock.errors import (
    AccessError,
    ArchiveNotFoundError,
    ChecksumError,
    ChunkNotFoundError,
    CodecError,
    ConflictError,
    InvalidKeyError,
    KeyExistsError,
    MetadataError,
    NodeChangedError,
    NodeExistsError,
    NodeNotFoundError,
    RangeError,
    ReadOnlyError,
    SelectionError,
    ShardIndexError,
    StoreError,
    UnknownExtensionError,
    UnsupportedError,
    VersionChangedError,
    ZarrdockError,
)

KINDS: dict[type[ZarrdockError], tuple[type[BaseException], ...]] = {
    StoreError: (OSError,),
    ReadOnlyError: (StoreError,),
    RangeError: (StoreError, ValueError),
    AccessError: (StoreError, PermissionError),
    VersionChangedError: (StoreError,),
    ConflictError: (StoreError,),
    NodeChangedError: (ConflictError,),
    KeyExistsError: (StoreError, FileExistsError),
    ChunkNotFoundError: (StoreError, FileNotFoundError),
    InvalidKeyError: (StoreError, KeyError),
    MetadataError: (ValueError,),
    UnknownExtensionError: (MetadataError,),
    CodecError: (ValueError,),
    ChecksumError: (CodecError,),
    ShardIndexError: (CodecError,),
    SelectionError: (IndexError,),
    NodeNotFoundError: (FileNotFoundError,),
    ArchiveNotFoundError: (StoreError, NodeNotFoundError),
    NodeExistsError: (FileExistsError,),
    UnsupportedError: (ZarrdockError,),
    MemberNotFoundError: (NodeNotFoundError, KeyError),
}


def test_every_error_is_listed() -> None:
    assert {getattr(errors, name) for name in errors.__all__} == {ZarrdockError, *KINDS} - {MemberNotFoundError}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: type[ZarrdockError]) -> None:
    assert issubclass(kind, ZarrdockError)
    for base in KINDS[kind]:
        assert issubclass(kind, base)


EXAMPLES = [
    StoreError("it broke", key="a/b", store="s3://bucket"),
    StoreError("it broke"),
    *(kind("no", key="k") for kind in KINDS if issubclass(kind, StoreError)),
    MetadataError("wrong", pointer="/shape/0", expected="a number", found="x", key="a/zarr.json"),
    MetadataError(pointer="/shape", expected="a list", found=3),
    UnknownExtensionError("codec", "magic", hint="install it", pointer="/codecs/0", key="zarr.json"),
    CodecError("bad", codec="zstd", key="c/0", chunk=(1, 2)),
    CodecError("bad", codec="zstd", direction="encode"),
    ChecksumError("bad", codec="crc32c"),
    ShardIndexError("bad", codec="sharding_indexed", key="c/0"),
    SelectionError("out of bounds"),
    NodeNotFoundError("no such node"),
    NodeExistsError("there is one"),
    UnsupportedError("can't"),
    MemberNotFoundError("no member"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("make", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_errors_pickle(error: ZarrdockError, make: object) -> None:
    again = make(error)  # type: ignore[operator]
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)


def test_messages() -> None:
    assert str(EXAMPLES[0]) == "it broke (s3://bucket: key 'a/b')"
    assert str(EXAMPLES[1]) == "it broke"
    assert str(InvalidKeyError("bad", key="../x")) == "bad (key '../x')"  # KeyError would put it in quotes
    text = str(MetadataError("wrong", pointer="/shape/0", expected="a number", found="x", key="a/zarr.json"))
    assert text == "a/zarr.json#/shape/0: wrong; expected a number, found 'x'"
    assert (
        str(MetadataError(pointer="/shape", expected="a list", found=3)) == "metadata#/shape: expected a list, found 3"
    )
    long = str(MetadataError(pointer="", expected="less", found="x" * 10_000))
    assert len(long) < 300
    assert str(CodecError("bad", codec="zstd", key="c/0", chunk=(1, 2))) == (
        "zstd: cannot decode key 'c/0', chunk (1, 2): bad"
    )
    unknown = UnknownExtensionError("codec", "magic", hint="install it", pointer="/codecs/0", key="zarr.json")
    assert str(unknown) == "zarr.json#/codecs/0: unknown codec 'magic'; install it"
    # Libraries write several lines, and a message is one.
    assert str(StoreError("the cluster is gone (cancelled.\n  Check the network.\n): run again")) == (
        "the cluster is gone (cancelled. Check the network. ): run again"
    )


def test_errors_learn_where_they_happened() -> None:
    error = ChecksumError("bad", codec="crc32c").at(chunk=(1,)).at(key="c/0", chunk=(9, 9))
    assert isinstance(error, ChecksumError)
    assert (error.key, error.chunk) == ("c/0", (1,))
    found = MetadataError(pointer="/a", expected="x").below("/codecs/0").with_key("zarr.json")
    assert (found.pointer, found.key) == ("/codecs/0/a", "zarr.json")
    unknown = UnknownExtensionError("codec", "magic").below("/codecs/0").with_key("zarr.json")
    assert isinstance(unknown, UnknownExtensionError)
    assert (unknown.kind, unknown.name, unknown.pointer, unknown.key) == ("codec", "magic", "/codecs/0", "zarr.json")
