"""Cases of the matrix of compatibility: data types, codecs, layouts, and the values that are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

__all__ = [
    "CHUNK",
    "CODECS_V2",
    "CODECS_V3",
    "DATA_TYPES",
    "LAYOUTS",
    "SHAPE",
    "UNWRITTEN",
    "Case",
    "cases",
    "is_small_number",
    "values",
]

SHAPE: Final = (5, 6)
CHUNK: Final = (2, 3)
# One chunk is never written: fill values have to agree, too.
UNWRITTEN: Final = np.s_[2:4, 3:6]

#: Name to the levels of shards; "v2" has none.
LAYOUTS: Final[dict[str, Any]] = {"v2": None, "plain": None, "sharded": (4, 6), "nested": [(8, 6), (4, 6)]}

_STRUCT: Final = np.dtype([("x", "<f4"), ("n", "<i2"), ("s", "S3")])
_NESTED: Final = np.dtype([("p", [("a", "<i2"), ("t", "<M8[s]")]), ("u", "<U2")])
_ML_FLOATS: Final = (
    "bfloat16",
    *("float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz"),
    *("float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"),
)

#: Family, which is a column of the page, to the data types in it.
DATA_TYPES: Final[dict[str, tuple[Any, ...]]] = {
    "bool": ("bool",),
    "int": ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    "float": ("float16", "float32", "float64"),
    "complex": ("complex64", "complex128"),
    "raw": ("r24",),
    "string": ("string",),
    "bytes": ("bytes",),
    "U, S": ("U5", "S7"),
    "time": ("M8[ns]", "m8[10s]"),
    "struct": (_STRUCT, _NESTED),
    "int2, int4": ("int2", "uint2", "int4", "uint4"),
    "bfloat16, float8…4": _ML_FLOATS,
    "complex_*": ("complex_float16", "complex_bfloat16", "complex_float32", "complex_float8_e5m2"),
}


def _codec(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration} if configuration else {"name": name}


_GZIP: Final = _codec("gzip", level=1)
_N5: Final = [_codec("transpose", order=[1, 0]), _codec("bytes", endian="big"), _GZIP]

_NUMCODECS: Final[dict[str, dict[str, Any]]] = {
    "adler32": {},
    "blosc": {"cname": "lz4", "clevel": 5, "shuffle": 1},
    "bz2": {"level": 1},
    "crc32": {},
    "crc32c": {},
    "fletcher32": {},
    "gzip": {"level": 1},
    "jenkins_lookup3": {},
    "lz4": {"acceleration": 1},
    "lzma": {"preset": 1},
    "shuffle": {"elementsize": 4},
    "zlib": {"level": 1},
    "zstd": {"level": 3},
}

#: Name in the page to arguments of ``create_array``. "small": of whole numbers only, which nothing here changes.
CODECS_V3: Final[dict[str, dict[str, Any]]] = {
    "(none)": {"compressors": None},
    "bytes, big-endian": {"serializer": _codec("bytes", endian="big"), "compressors": None},
    "transpose": {"filters": [_codec("transpose", order=[1, 0])]},
    "reshape": {"filters": [_codec("reshape", shape=[-1])]},
    "bitround": {"filters": [_codec("bitround", keepbits=6)], "small": True},
    "scale_offset": {"filters": [_codec("scale_offset", offset=1, scale=1)], "small": True},
    "cast_value": {"filters": [_codec("cast_value", data_type="int16", rounding="nearest-even")], "small": True},
    "packbits": {"serializer": _codec("packbits")},
    "zfp": {"serializer": _codec("zfp", mode="reversible"), "compressors": None, "small": True},
    "n5_default": {"serializer": _codec("n5_default", codecs=_N5), "compressors": None},
    "blosc": {"compressors": [_codec("blosc", cname="lz4", clevel=5, shuffle="shuffle", typesize=4, blocksize=0)]},
    "gzip": {"compressors": [_GZIP]},
    "zstd": {"compressors": [_codec("zstd", level=3, checksum=False)]},
    "zstd, checksum": {"compressors": [_codec("zstd", level=3, checksum=True)]},
    "crc32c": {"compressors": [_codec("crc32c")]},
    "conditional": {"compressors": [_codec("conditional", codecs=[_GZIP])]},
    "numcodecs.delta": {"filters": [_codec("numcodecs.delta")], "small": True},
    "numcodecs.fixedscaleoffset": {"filters": [_codec("numcodecs.fixedscaleoffset", offset=0, scale=1)], "small": True},
    "numcodecs.quantize": {"filters": [_codec("numcodecs.quantize", digits=1)], "small": True},
    "numcodecs.bitround": {"filters": [_codec("numcodecs.bitround", keepbits=6)], "small": True},
    "numcodecs.astype": {"filters": [_codec("numcodecs.astype", encode_dtype="<i2")], "small": True},
    "numcodecs.packbits": {"filters": [_codec("numcodecs.packbits")]},
    "numcodecs.pcodec": {"serializer": _codec("numcodecs.pcodec"), "compressors": None},
    "numcodecs.zfpy": {
        "serializer": _codec("numcodecs.zfpy", mode=4, tolerance=-1, rate=-1, precision=-1),
        "small": True,
    },
    **{
        f"numcodecs.{name}": {"compressors": [_codec(f"numcodecs.{name}", **configuration)]}
        for name, configuration in _NUMCODECS.items()
    },
}

_ZLIB: Final = {"id": "zlib", "level": 1}
#: The same for v2.
CODECS_V2: Final[dict[str, dict[str, Any]]] = {
    "(none)": {"compressors": None},
    "order F": {"compressors": _ZLIB, "order": "F"},
    "big-endian": {"compressors": _ZLIB, "big": True},
    **{
        name: {"compressors": {"id": name, **_NUMCODECS[name]}}
        for name in ("blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma")
    },
    "base64": {"compressors": {"id": "base64"}},
    **{
        name: {"filters": [{"id": name, **configuration}], "compressors": _ZLIB, "small": small}
        for name, configuration, small in (
            ("delta", {}, True),
            ("fixedscaleoffset", {"offset": 0, "scale": 1}, True),
            ("quantize", {"digits": 1}, True),
            ("bitround", {"keepbits": 6}, True),
            ("astype", {"encode_dtype": "<i2"}, True),
            ("packbits", {}, False),
            ("shuffle", {"elementsize": 4}, False),
            ("crc32", {}, False),
            ("adler32", {}, False),
            ("fletcher32", {}, False),
            ("jenkins_lookup3", {}, False),
        )
    },
    "json2": {"filters": [{"id": "json2"}], "compressors": _ZLIB, "objects": True},
    "msgpack2": {"filters": [{"id": "msgpack2"}], "compressors": _ZLIB, "objects": True},
    "categorize": {
        "filters": [{"id": "categorize", "labels": ["", "a", "häß", "測試"], "dtype": "|O", "astype": "|u1"}],
        "compressors": _ZLIB,
        "objects": True,
    },
}

# Members of v2's filters that name the data type.
_WITH_DTYPE: Final = {"delta": "dtype", "fixedscaleoffset": "dtype", "quantize": "dtype", "astype": "decode_dtype"}


@dataclass(frozen=True, slots=True)
class Case:
    """One array.

    Attributes:
        layout: a name of ``LAYOUTS``. codec: a name of ``CODECS_V2`` or ``CODECS_V3``.
        family, dtype: the data type and its column.
        arguments: of ``create_array``.
        is_small: whole numbers only.
    """

    layout: Literal["v2", "plain", "sharded", "nested"]
    codec: str
    family: str
    dtype: Any
    arguments: dict[str, Any]
    is_small: bool

    @property
    def name(self) -> str:
        """For messages."""
        dtype = self.dtype if isinstance(self.dtype, str) else "struct"
        return f"{self.layout}, {self.codec}, {dtype}"


def cases(*, codecs: set[str] | None = None, layouts: set[str] | None = None) -> Iterator[Case]:
    """Every combination, those included that make no sense."""
    for layout, shards in LAYOUTS.items():
        if layouts is not None and layout not in layouts:
            continue
        for codec, given in (CODECS_V2 if layout == "v2" else CODECS_V3).items():
            if codecs is not None and codec not in codecs:
                continue
            for family, dtypes in DATA_TYPES.items():
                for dtype in dtypes:
                    arguments = {
                        name: value for name, value in given.items() if name not in ("small", "big", "objects")
                    }
                    if given.get("objects") and family != "string":
                        continue
                    used: Any = object if given.get("objects") else dtype
                    if layout == "v2":
                        arguments["zarr_format"] = 2
                        if given.get("big"):
                            if not _ordered(dtype):
                                continue
                            used = np.dtype(dtype).newbyteorder(">")
                        arguments["filters"] = _with_dtype(arguments.get("filters"), used)
                    else:
                        arguments["shards"] = shards
                    yield Case(layout, codec, family, used, arguments, bool(given.get("small")))  # type: ignore[arg-type]


def _ordered(dtype: Any) -> bool:
    try:
        native = np.dtype(dtype)
    except TypeError:
        return False
    return native.kind in "iufcUMm" and native.itemsize > 1


def _with_dtype(filters: Any, dtype: Any) -> Any:
    if not filters or filters[0]["id"] not in _WITH_DTYPE:
        return filters
    member = _WITH_DTYPE[filters[0]["id"]]
    try:
        return [{**filters[0], member: np.dtype(dtype).str}]
    except TypeError:
        return filters


def values(
    dtype: np.dtype[Any], *, is_small: bool, as_bytes: bool = False, seed: int = 0
) -> np.ndarray[Any, np.dtype[Any]]:
    """Values to write: any bits that the type has a meaning for, or small whole numbers; shape ``SHAPE``."""
    random = np.random.default_rng(seed)
    if dtype.hasobject or dtype.kind in "US":
        words = random.choice(np.array(["", "a", "häß", "測試"] if dtype.kind != "S" else ["", "a", "bc"]), SHAPE)
        if dtype.kind == "O":
            objects = words.astype(object)
            objects.reshape(-1)[:] = [word.encode() if as_bytes else word for word in words.reshape(-1).tolist()]
            return objects
        return words.astype(dtype)
    if dtype.names is not None:
        array = np.zeros(SHAPE, dtype)
        for i, name in enumerate(dtype.names):
            array[name] = values(dtype[name], is_small=is_small, seed=seed + i + 1)
        return array
    if is_small and is_small_number(dtype):
        return random.integers(1, 2 if dtype.name == "int2" else 3, SHAPE).astype(dtype)
    if is_small and dtype.kind in "iufc":
        return random.integers(1, 20, SHAPE).astype(dtype)
    raw = random.integers(0, 256, (*SHAPE, dtype.itemsize), np.uint8)
    if dtype.kind == "b":
        raw &= 1
    if dtype.kind in "fc" and not is_small_number(
        dtype
    ):  # no NaNs: what their bits become in other hands is not what is asked here
        return random.normal(size=SHAPE).astype(dtype)
    if is_small_number(dtype):
        raw &= 255 >> max(0, 8 - _bits(dtype))
    return raw.view(dtype).reshape(SHAPE)


def is_small_number(dtype: np.dtype[Any]) -> bool:
    """True for the number types of ml_dtypes."""
    return dtype.type.__module__ != "numpy"


def _bits(dtype: np.dtype[Any]) -> int:
    digits = dtype.name.removeprefix("u").removeprefix("int").removeprefix("float").split("_")[0]
    return int(digits) if digits.isdigit() else 8
