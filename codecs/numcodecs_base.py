"""What the codecs that numcodecs implements have in common: a configuration kept as it was found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from zarrdock.codecs.base import Codec, Configuration
from zarrdock.errors import MetadataError, UnknownExtensionError, UnsupportedError

__all__ = ["NumcodecsCodec", "StoredNumcodecsCodec"]


@dataclass(frozen=True, init=False, repr=False)
class NumcodecsCodec(Codec):
    """A configuration in numcodecs' words, as keyword arguments; data types may be numpy's or strings."""

    #: Whether Zarr v3 metadata has a name for it.
    in_v3: ClassVar[bool] = True

    # JSON: immutable, and comparable.
    document: str

    def __init__(self, **configuration: Any) -> None:
        object.__setattr__(self, "document", json.dumps(configuration, sort_keys=True, default=_plain))

    @classmethod
    def from_json(cls, configuration: Configuration) -> Self:
        return cls(**configuration)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": self.configuration}

    def not_in_v3(self) -> UnsupportedError:
        """What to raise where v3 metadata would have to name it."""
        return UnsupportedError(f"Zarr v3 has no codec like numcodecs' {self.numcodecs_id!r}; only Zarr v2 has")

    @property
    def configuration(self) -> dict[str, Any]:
        """A copy of the configuration, without numcodecs' "id"."""
        found: dict[str, Any] = json.loads(self.document)
        return found

    @property
    def numcodecs_id(self) -> str:
        """numcodecs' name for it."""
        return self.name.removeprefix("numcodecs.")

    def implementation(self, **more: Any) -> Any:
        """numcodecs' object for it.

        Raises:
            UnknownExtensionError: this installation of numcodecs does not have it.
            MetadataError: numcodecs does not take the configuration.
        """
        from numcodecs.registry import codec_registry, get_codec

        try:
            return get_codec({"id": self.numcodecs_id, **self.configuration, **more})
        except (TypeError, ValueError) as error:
            if self.numcodecs_id not in codec_registry:
                hint = "numcodecs needs another package for it: pip install 'zarrdock[codecs]'"
                raise UnknownExtensionError("codec", self.name, hint=hint, pointer="/name") from error
            raise MetadataError(f"{self.name}: {error}", pointer="/configuration") from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.configuration.items())})"


@dataclass(frozen=True, init=False, repr=False)
class StoredNumcodecsCodec(NumcodecsCodec):
    """One that is given elements, in a byte order.

    Attributes:
        stored: the data type, with its byte order, of the elements the codec shall see; None is the chunk's. It comes
            from Zarr v2, whose data types have a byte order, and is not part of the metadata.
    """

    stored: np.dtype[Any] | None = None

    def __init__(self, **configuration: Any) -> None:
        super().__init__(**configuration)
        object.__setattr__(self, "stored", None)

    def with_stored(self, dtype: np.dtype[Any]) -> Self:
        """The same, of elements of another byte order than the chunk's."""
        codec = type(self)(**self.configuration)
        object.__setattr__(codec, "stored", dtype)
        return codec


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.dtype | type):
        return np.dtype(value).str
    raise MetadataError(pointer="/configuration", expected="values that JSON can hold", found=value)
