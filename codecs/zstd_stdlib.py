"""The interface of ``zstandard``, as far as :mod:`zarrdock.codecs.zstd_` uses it, over the standard library's
``compression.zstd`` (Python 3.14) or its twin ``backports.zstd``: for Pythons that ``zstandard`` has no wheel for, such
as free-threaded ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    # Neither has types on every Python that this package is checked on.
    library: Any
    ZstdError: type[Exception]
else:
    try:
        import compression.zstd as library
    except ImportError:
        import backports.zstd as library

    ZstdError = library.ZstdError

__all__ = ["ZstdCompressor", "ZstdDecompressor", "ZstdError", "backend_features", "frame_content_size"]

#: Nothing beyond single frames.
backend_features: Final[frozenset[str]] = frozenset()


def frame_content_size(data: Any) -> int:
    """Length of the content as the frame's header says; -1 where it does not.

    Raises:
        ZstdError: there is no header.
    """
    size: int | None = library.get_frame_info(data).decompressed_size
    return -1 if size is None else size


class ZstdCompressor:
    """Makes one frame a call."""

    def __init__(self, *, level: int, write_checksum: bool, write_content_size: bool) -> None:
        parameter = library.CompressionParameter
        self._compressor = library.ZstdCompressor(
            options={
                parameter.compression_level: level,
                parameter.checksum_flag: write_checksum,
                parameter.content_size_flag: write_content_size,
            }
        )

    def compress(self, data: Any) -> bytes:
        found: bytes = self._compressor.compress(data, self._compressor.FLUSH_FRAME)
        return found


class ZstdDecompressor:
    """Decodes one frame a call."""

    def decompress(self, data: Any, max_output_size: int = 0, *, allow_extra_data: bool = True) -> bytes:
        """Content of the frame at the beginning of ``data``.

        Args:
            max_output_size: limit of frames that don't say their size; 0 for none.
        Raises:
            ZstdError: the frame is damaged, cut off or longer than its limit, or something is behind it.
        """
        size = frame_content_size(data)
        limit = max(size, 1) if size >= 0 else max_output_size or -1
        decompressor = library.ZstdDecompressor()
        found: bytes = decompressor.decompress(data, limit)
        if not decompressor.eof:
            # The end of a frame whose content is complete may still have to be read.
            found += decompressor.decompress(b"", 1)
            if not decompressor.eof or (limit >= 0 and len(found) > limit):
                raise ZstdError("the frame is cut off, or longer than it may be")
        if decompressor.unused_data and not allow_extra_data:
            raise ZstdError("there is something behind the frame")
        return found
