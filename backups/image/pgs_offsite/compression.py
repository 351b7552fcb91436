"""LZ4 frames with a checksum, written and read in bounded pieces."""

from typing import BinaryIO

import lz4.frame


def compressor() -> "lz4.frame.LZ4FrameCompressor":
    return lz4.frame.LZ4FrameCompressor(content_checksum=True)


def compress(data: bytes) -> bytes:
    return lz4.frame.compress(data, content_checksum=True)


class Decompressed:
    """Reads what is compressed in `stream`."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._decompressor = lz4.frame.LZ4FrameDecompressor()

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        while not self._decompressor.eof:
            compressed = self._stream.read(1 << 16) if self._decompressor.needs_input else b""
            if not compressed and self._decompressor.needs_input:
                raise EOFError("it ends too early")
            data = self._decompressor.decompress(compressed, max_length=size)
            if data:
                return data
        return b""


def read_all(stream: BinaryIO, most: int) -> bytes:
    """@raises ValueError: when there is more than `most` bytes"""
    data, chunks = Decompressed(stream), []
    size = 0
    while chunk := data.read(1 << 20):
        size += len(chunk)
        if size > most:
            raise ValueError(f"it has more than {most} bytes")
        chunks.append(chunk)
    return b"".join(chunks)
