"""Where lz4 is not installed, another compression with its interface: what these tests are of is the same."""

import sys
import types
import zlib

try:
    import lz4.frame  # noqa: F401
except ImportError:

    class _Compressor:
        def __init__(self, content_checksum=False):
            self._inner = zlib.compressobj()

        def begin(self):
            return b""

        def compress(self, data):
            return self._inner.compress(data)

        def flush(self):
            return self._inner.flush()

    class _Decompressor:
        def __init__(self):
            self._inner = zlib.decompressobj()
            self.needs_input = True

        @property
        def eof(self):
            return self._inner.eof

        def decompress(self, data, max_length=-1):
            found = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
            self.needs_input = not self._inner.unconsumed_tail
            return found

    frame = types.ModuleType("lz4.frame")
    frame.compress = lambda data, content_checksum=False: zlib.compress(data)
    frame.LZ4FrameCompressor, frame.LZ4FrameDecompressor = _Compressor, _Decompressor
    package = types.ModuleType("lz4")
    package.frame = frame
    sys.modules.update({"lz4": package, "lz4.frame": frame})
