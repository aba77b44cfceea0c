"""The codecs zarrdock knows, by name, and the parsing of codec metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from zarrdock.codecs.chain import check_kinds
from zarrdock.codecs.codec import ByteSpec, ChunkSpec, Codec
from zarrdock.errors import MetadataError, UnknownExtensionError
from zarrdock.registry import Registry

__all__ = ["CODECS", "codecs_to_json", "parse_codec", "parse_codecs", "with_defaults"]

# As zarr-python writes them.
_NUMCODECS = {
    "numcodecs.adler32": "zarrdock.codecs.numcodecs_:Adler32",
    "numcodecs.astype": "zarrdock.codecs.numcodecs_arrays:AsType",
    "numcodecs.base64": "zarrdock.codecs.numcodecs_:Base64",
    "numcodecs.bitround": "zarrdock.codecs.numcodecs_arrays:BitRound",
    "numcodecs.blosc": "zarrdock.codecs.numcodecs_:Blosc",
    "numcodecs.bz2": "zarrdock.codecs.numcodecs_:Bz2",
    "numcodecs.categorize": "zarrdock.codecs.object_codecs:Categorize",
    "numcodecs.crc32": "zarrdock.codecs.numcodecs_:Crc32",
    "numcodecs.crc32c": "zarrdock.codecs.numcodecs_:Crc32c",
    "numcodecs.delta": "zarrdock.codecs.numcodecs_arrays:Delta",
    "numcodecs.fixedscaleoffset": "zarrdock.codecs.numcodecs_arrays:FixedScaleOffset",
    "numcodecs.fletcher32": "zarrdock.codecs.numcodecs_:Fletcher32",
    "numcodecs.gzip": "zarrdock.codecs.numcodecs_:Gzip",
    "numcodecs.jenkins_lookup3": "zarrdock.codecs.numcodecs_:JenkinsLookup3",
    "numcodecs.json2": "zarrdock.codecs.object_codecs:Json",
    "numcodecs.lz4": "zarrdock.codecs.numcodecs_:Lz4",
    "numcodecs.lzma": "zarrdock.codecs.numcodecs_:Lzma",
    "numcodecs.msgpack2": "zarrdock.codecs.object_codecs:MsgPack",
    "numcodecs.packbits": "zarrdock.codecs.numcodecs_arrays:PackBits",
    "numcodecs.pcodec": "zarrdock.codecs.numcodecs_arrays:PCodec",
    "numcodecs.pickle": "zarrdock.codecs.object_codecs:Pickle",
    "numcodecs.quantize": "zarrdock.codecs.numcodecs_arrays:Quantize",
    "numcodecs.shuffle": "zarrdock.codecs.numcodecs_:Shuffle",
    "numcodecs.vlen-array": "zarrdock.codecs.object_codecs:VlenArray",
    "numcodecs.zfpy": "zarrdock.codecs.numcodecs_arrays:Zfpy",
    "numcodecs.zlib": "zarrdock.codecs.gzip_:Zlib",
    "numcodecs.zstd": "zarrdock.codecs.numcodecs_:Zstd",
}

CODECS: Registry[type[Codec]] = Registry(
    "zarrdock.codecs",
    {
        "bitround": "zarrdock.codecs.bitround:BitRound",
        "blosc": "zarrdock.codecs.blosc_:Blosc",
        "bytes": "zarrdock.codecs.bytes_:Bytes",
        "cast_value": "zarrdock.codecs.cast_value:CastValue",
        "conditional": "zarrdock.codecs.conditional:Conditional",
        "crc32c": "zarrdock.codecs.crc32c_:Crc32c",
        "gzip": "zarrdock.codecs.gzip_:Gzip",
        "n5_default": "zarrdock.codecs.n5_default:N5Default",
        "packbits": "zarrdock.codecs.packbits:PackBits",
        "reshape": "zarrdock.codecs.reshape:Reshape",
        "scale_offset": "zarrdock.codecs.scale_offset:ScaleOffset",
        "sharding_indexed": "zarrdock.codecs.sharding:Sharding",
        "vlen-bytes": "zarrdock.codecs.vlen:VlenBytes",
        "vlen-utf8": "zarrdock.codecs.vlen:VlenUtf8",
        "transpose": "zarrdock.codecs.transpose:Transpose",
        "zfp": "zarrdock.codecs.zfp_:Zfp",
        "zstd": "zarrdock.codecs.zstd_:Zstd",
        # What "bytes" was called while v3 was a draft.
        "endian": "zarrdock.codecs.bytes_:Bytes",
        **_NUMCODECS,
    },
    # What is registered for zarr-python does its work here, too.
    {"zarr.codecs": "zarrdock.adapters.zarr_registered_codecs:adapted"},
)

# Names were URIs in drafts of v3.
_DRAFT_URI = re.compile(r"https://purl\.org/zarr/spec/codecs?/(?P<name>[a-z0-9_]+)/1\.0")


def parse_codec(json: object, pointer: str = "", *, new: bool = False) -> Codec:
    """A codec from its metadata: an object with ``name`` and perhaps ``configuration``, or the bare name.

    Args:
        json: the value, as a JSON parser gives it.
        pointer: where it stands in its document, for errors.
        new: the configuration comes from a user, for a new array: members that ``with_defaults`` derives may be
            missing, though metadata must have them. A codec takes part by having a class method
            ``from_user(configuration)``.
    Raises:
        UnknownExtensionError: no package provides a codec of that name.
        MetadataError: its metadata is invalid.
    """
    if isinstance(json, str):
        json = {"name": json}
    if not isinstance(json, Mapping):
        expected = "a codec's name, or an object with its name and configuration"
        raise MetadataError(pointer=pointer, expected=expected, found=json)
    name = json.get("name")
    if not isinstance(name, str):
        raise MetadataError(pointer=f"{pointer}/name", expected="the name of a codec", found=name)
    configuration = json.get("configuration")
    if configuration is None:
        configuration = {}
    if not isinstance(configuration, Mapping):
        raise MetadataError(pointer=f"{pointer}/configuration", expected="an object", found=configuration)
    # A codec that is not understood can't be left out, so the value makes no difference.
    must_understand = json.get("must_understand", True)
    if not isinstance(must_understand, bool):
        raise MetadataError(pointer=f"{pointer}/must_understand", expected="true or false", found=must_understand)
    for member in json:
        if member not in ("name", "configuration", "must_understand"):
            expected = "name, configuration and must_understand only"
            raise MetadataError(
                "unknown member of a codec", pointer=f"{pointer}/{member}", expected=expected, found=member
            )
    implementation = _find(name, f"{pointer}/name")
    try:
        if new and hasattr(implementation, "from_user"):
            codec: Codec = implementation.from_user(configuration)
            return codec
        return implementation.from_json(configuration)
    except MetadataError as error:
        raise error.below(f"{pointer}/configuration") from None


def parse_codecs(json: object, pointer: str = "/codecs") -> tuple[Codec, ...]:
    """A chain of codecs: any number of array to array, exactly one array to bytes, any number of bytes to bytes.

    Raises:
        UnknownExtensionError, MetadataError: as for :func:`parse_codec`, or for a chain out of order.
    """
    if not isinstance(json, list | tuple):
        raise MetadataError(pointer=pointer, expected="a list of codecs", found=json)
    codecs = tuple(parse_codec(item, f"{pointer}/{i}") for i, item in enumerate(json))
    try:
        check_kinds(codecs)
    except MetadataError as error:
        raise error.below(pointer) from None
    return codecs


def codecs_to_json(codecs: Iterable[Codec]) -> list[dict[str, Any]]:
    """The v3 metadata of a chain.

    Raises:
        UnsupportedError: a codec that only Zarr v2 has.
    """
    codecs = tuple(codecs)
    for codec in codecs:
        if not getattr(codec, "in_v3", True):
            raise codec.not_in_v3()  # type: ignore[attr-defined]
    return [codec.to_json() for codec in codecs]


def with_defaults(codecs: Iterable[Codec], spec: ChunkSpec) -> tuple[Codec, ...]:
    """A chain as the metadata of a new array with such chunks should have it: what was left to be derived is filled in.

    A codec takes part by having a method ``with_defaults(spec)``, which is given what its ``bind`` will be given. Blosc
    learns its typesize in this way.

    Raises:
        MetadataError: codecs out of order, or one that cannot work on what reaches it; the pointer is below /codecs.
    """
    given = tuple(codecs)
    try:
        check_kinds(given)
    except MetadataError as error:
        raise error.below("/codecs") from None
    complete: list[Codec] = []
    at: ChunkSpec | ByteSpec = spec
    for i, original in enumerate(given):
        try:
            hook = getattr(original, "with_defaults", None)
            codec: Any = original if hook is None else hook(at)
            at = codec.bind(at).encoded
        except MetadataError as error:
            raise error.below(f"/codecs/{i}") from None
        complete.append(codec)
    return tuple(complete)


def _find(name: str, pointer: str) -> type[Codec]:
    draft = _DRAFT_URI.fullmatch(name)
    wanted = draft["name"] if draft else name
    try:
        found = CODECS.get(wanted)
    except ImportError as error:
        hint = f"its module cannot be imported: {error}"
        raise UnknownExtensionError("codec", name, hint=hint, pointer=pointer) from error
    if found is None:
        raise UnknownExtensionError("codec", name, hint=_hint(wanted), pointer=pointer)
    return found


def _hint(name: str) -> str:
    if name.startswith("numcodecs."):
        return "numcodecs has no codec of this name that Zarr v3 can use"
    if name.startswith("imagecodecs_"):
        return 'it comes with imagecodecs: pip install "zarrdock[imagecodecs]", on Python 3.12 and later'
    if f"numcodecs.{name}" in CODECS.names():
        return f"numcodecs' codec of that name is 'numcodecs.{name}' in Zarr v3"
    import difflib

    near = difflib.get_close_matches(name, CODECS.names(), n=1, cutoff=0.7)
    nearest = f"did you mean {near[0]!r}? Else " if near else ""
    return (
        f"{nearest}install a package that provides it through the entry point group 'zarrdock.codecs', or register a "
        "class with CODECS.add(name, class); known extensions: https://github.com/zarr-developers/zarr-extensions"
    )
