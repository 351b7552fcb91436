from . import lz4_stand_in  # noqa: F401
