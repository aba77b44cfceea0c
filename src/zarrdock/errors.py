"""Every error zarrdock raises for something a user, a store or a file did.

One root, :class:`ZarrdockError`. Each class also derives from the built-in exception a caller would expect, carries
the facts as attributes, and pickles (errors cross process boundaries in dask and multiprocessing). A message is one
line.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AccessError",
    "ArchiveNotFoundError",
    "ChecksumError",
    "ChunkNotFoundError",
    "CodecError",
    "ConflictError",
    "InvalidKeyError",
    "KeyExistsError",
    "MetadataError",
    "NodeChangedError",
    "NodeExistsError",
    "NodeNotFoundError",
    "RangeError",
    "ReadOnlyError",
    "SelectionError",
    "ShardIndexError",
    "StoreError",
    "UnknownExtensionError",
    "UnsupportedError",
    "VersionChangedError",
    "ZarrdockError",
]


def _rebuild(cls: type[ZarrdockError], args: tuple[Any, ...], state: dict[str, Any]) -> ZarrdockError:
    error = cls.__new__(cls)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


class ZarrdockError(Exception):
    """Root of all errors raised by zarrdock."""

    def __reduce__(self) -> Any:
        # The default calls cls(*args), which fails for constructors with keyword arguments.
        return _rebuild, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        # KeyError and OSError would format the message their own way (quotes, errno).
        message = str(self.args[0]) if self.args else ""
        # Messages quote those of services and libraries, some of which have several lines.
        return " ".join(line.strip() for line in message.splitlines()) if "\n" in message else message

    def _render_traceback_(self) -> list[str]:
        """Lines that IPython shows in place of a traceback: the user's own frames, and the message; all of it where
        ZARRDOCK_DEBUG is set.
        """
        import os
        import traceback

        if os.environ.get("ZARRDOCK_DEBUG", "0") not in ("", "0"):
            return traceback.format_exception(self)
        own = __file__.rpartition(os.sep)[0] + os.sep
        shell = f"{os.sep}IPython{os.sep}"
        frames = [
            frame
            for frame in traceback.extract_tb(self.__traceback__)
            if not frame.filename.startswith(own) and shell not in frame.filename
        ]
        return [*traceback.format_list(frames), *traceback.format_exception_only(self)]


class StoreError(ZarrdockError, OSError):
    """A store could not do what was asked.

    Attributes:
        key: the key concerned, or "" where it is the store as a whole.
        store: a short description of the store, without credentials.
    """

    def __init__(self, message: str, *, key: str = "", store: object = "") -> None:
        where = f"{store}" if store else ""
        if key:
            where = f"{where}: key {key!r}" if where else f"key {key!r}"
        super().__init__(f"{message} ({where})" if where else message)
        self.key = key
        self.store = str(store)


class ReadOnlyError(StoreError):
    """A mutating operation on a read-only store or array."""


class RangeError(StoreError, ValueError):
    """A range starts at or beyond the end of the object."""


class AccessError(StoreError, PermissionError):
    """The service or the file system denied access. Never reported as a missing key."""


class VersionChangedError(StoreError):
    """The object is not, or no longer, the version that was asked for."""


class ConflictError(StoreError):
    """An atomic update kept losing against other writers until its attempts ran out; nothing was changed."""


class NodeChangedError(ConflictError):
    """An array was replaced by another one since this object read its metadata: by that, it would damage the new array
    or misread it. Nothing was written; open the array again, or ``refresh()`` it.
    """


class KeyExistsError(StoreError, FileExistsError):
    """``write(create_only=True)`` found the key already there."""


class ChunkNotFoundError(StoreError, FileNotFoundError):
    """A chunk is not stored, and the array was opened with ``missing="error"``.

    Attributes:
        key: of the object that is missing, or of the shard that the chunk is missing in.
        chunk: coordinates of the chunk in the grid of (inner) chunks; with shards in shards, within the innermost one.
    """

    def __init__(self, message: str, *, key: str = "", store: object = "", chunk: tuple[int, ...] = ()) -> None:
        super().__init__(message, key=key, store=store)
        self.chunk = chunk


class InvalidKeyError(StoreError, KeyError):
    """The key is not one any store accepts; raised before any I/O."""


# Parameters of new arrays, by the first part of the pointers that errors about them have.
_PARAMETERS = {
    **{
        name: name
        for name in (
            "attributes checksums chunk_key_encoding chunks compressors dimension_names dtype fill_value filters "
            "index_location order serializer shape shards zarr_format"
        ).split()
    },
    "chunk_grid": "chunks",
    "compressor": "compressors",
    "data_type": "dtype",
}


class MetadataError(ZarrdockError, ValueError):
    """A metadata document is wrong, or a parameter of a new array.

    Attributes:
        pointer: JSON pointer (RFC 6901) to the place, "" for the document itself.
        expected, found: the value that should stand there, and the one that does.
        key: the document's key in the store, where known.
        parameter: name of the parameter ("shards") where the error is about one, else "".
    """

    parameter = ""

    def __init__(
        self, message: str = "", *, pointer: str = "", expected: str = "", found: object = None, key: str = ""
    ) -> None:
        self.reason = message
        self.pointer = pointer
        self.expected = expected
        self.found = found
        self.key = key
        super().__init__(self._text())

    @property
    def problem(self) -> str:
        """The message without the place: the reason, the expected value and the one that was found."""
        text = self.reason
        if self.expected:
            found = repr(self.found)
            shown = found[:120] + "…" if len(found) > 120 else found
            text += f"{'; ' if text else ''}expected {self.expected}, found {shown}"
        return text

    def _text(self) -> str:
        if self.parameter:
            _, first, rest = self.pointer.partition(self.pointer.split("/")[1])
            inside = f" ({rest})" if rest not in ("", "/name") and first != "chunk_grid" else ""
            return f"{self.parameter}={inside}: {self.problem}"
        return f"{self.key or 'metadata'}{'#' + self.pointer if self.pointer else ''}: {self.problem}"

    def name_parameter(self) -> None:
        """Say that the error is about a parameter of a new array: the message then begins with ``shards=``, as the user
        wrote it, not with a place in a document that there is not yet. An error about a stored document stays as it is.
        """
        first = self.pointer.split("/")[1] if self.pointer else ""
        if not self.key and first in _PARAMETERS:
            self.parameter = _PARAMETERS[first]
            self.args = (self._text(),)

    def with_key(self, key: str) -> MetadataError:
        """The same error, told which document it is about."""
        return MetadataError(self.reason, pointer=self.pointer, expected=self.expected, found=self.found, key=key)

    def below(self, prefix: str) -> MetadataError:
        """The same error, seen from a document that holds this one at ``prefix`` (a JSON pointer)."""
        return MetadataError(
            self.reason, pointer=prefix + self.pointer, expected=self.expected, found=self.found, key=self.key
        )


class UnknownExtensionError(MetadataError):
    """A codec, data type, chunk grid or chunk key encoding that this installation does not know.

    Attributes:
        kind: "codec", "data type", "chunk grid", "chunk key encoding" or "storage transformer".
        name: the name found in the metadata.
    """

    def __init__(self, kind: str, name: str, *, hint: str = "", pointer: str = "", key: str = "") -> None:
        self.kind = kind
        self.name = name
        self.hint = hint
        text = f"unknown {kind} {name!r}"
        super().__init__(f"{text}; {hint}" if hint else text, pointer=pointer, key=key)

    def with_key(self, key: str) -> UnknownExtensionError:
        """The same error, told which document it is about."""
        return UnknownExtensionError(self.kind, self.name, hint=self.hint, pointer=self.pointer, key=key)

    def below(self, prefix: str) -> UnknownExtensionError:
        """The same error, seen from a document that holds this one at ``prefix``."""
        return UnknownExtensionError(self.kind, self.name, hint=self.hint, pointer=prefix + self.pointer, key=self.key)


class CodecError(ZarrdockError, ValueError):
    """Bytes could not be decoded, or values not be encoded.

    Attributes:
        codec: the codec's name. direction: "decode" or "encode".
        key: the object that holds the bytes; chunk: coordinates of the (inner) chunk; both filled in where known.
    """

    def __init__(
        self,
        message: str,
        *,
        codec: str,
        direction: str = "decode",
        key: str = "",
        chunk: tuple[int, ...] | None = None,
    ) -> None:
        self.reason = message
        self.codec = codec
        self.direction = direction
        self.key = key
        self.chunk = chunk
        super().__init__(self._text())

    def _text(self) -> str:
        where = ", ".join(
            p
            for p in (f"key {self.key!r}" if self.key else "", f"chunk {self.chunk}" if self.chunk is not None else "")
            if p
        )
        return f"{self.codec}: cannot {self.direction}{' ' + where if where else ''}: {self.reason}"

    def at(self, *, key: str = "", chunk: tuple[int, ...] | None = None) -> CodecError:
        """The same error, told where it happened; what it already knows is kept."""
        return type(self)(
            self.reason,
            codec=self.codec,
            direction=self.direction,
            key=self.key or key,
            chunk=self.chunk if self.chunk is not None else chunk,
        )


class ChecksumError(CodecError):
    """A stored checksum does not agree with the bytes."""


class ShardIndexError(CodecError):
    """The index of a shard is damaged, or does not fit the shard."""


class SelectionError(ZarrdockError, IndexError):
    """A selection does not fit the array."""


class NodeNotFoundError(ZarrdockError, FileNotFoundError):
    """There is no Zarr array or group at this path."""


class ArchiveNotFoundError(StoreError, NodeNotFoundError):
    """There is no such zip archive, and so none of the nodes in it."""


class NodeExistsError(ZarrdockError, FileExistsError):
    """There is already a node at this path, and ``overwrite`` was not asked for."""


class UnsupportedError(ZarrdockError):
    """Well-formed and understood, but not something that can be done here; the message says what would help."""


def __dir__() -> list[str]:
    return sorted(__all__)
