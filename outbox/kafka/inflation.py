"""Inflation: inflates compressed record batches up to a limit, and never beyond it.

aiokafka's own functions inflate whatever they are given: 8 KB of zstd become 256 MiB. The functions
here count while they inflate, or look at the size that a frame declares before they allocate
anything. `install` puts them in the place of aiokafka's for this process.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from types import ModuleType
from typing import Any

MIB = 1024 * 1024
INFLATED_BATCH_BYTES = 16 * MIB
# What a zstd decoder keeps to look back into. The format wants every reader to accept this much.
WINDOW_BYTES = 8 * MIB
FIRST_TRY_BYTES = 256 * 1024
GROWTH = 4
GZIP_AND_ITS_HEADER = 16 + zlib.MAX_WBITS

XERIAL = b"\x82SNAPPY\0"
XERIAL_HEADER_BYTES = 16
ZSTD_FRAME = 0xFD2FB528
ZSTD_SKIPPABLE = 0x184D2A50
RLE_BLOCK = 1

_limit: ContextVar[int] = ContextVar("inflated_batch_bytes", default=INFLATED_BATCH_BYTES)


class Uninflatable(ValueError):
    """A batch is broken or larger than we take; the text names its codec and what to do."""


@contextmanager
def inflating_at_most(limit: int) -> Iterator[None]:
    """Within the block, and in this task, let a batch inflate to at most `limit` bytes."""
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def inflate_gzip(payload: Any) -> bytes:
    """Inflate all members, one after the other; zeros may follow, which gzip allows."""
    limit, left, inflated = _limit.get(), bytes(payload), bytearray()
    while left.strip(b"\0"):
        member = zlib.decompressobj(GZIP_AND_ITS_HEADER)
        try:
            inflated += member.decompress(left, limit + 1 - len(inflated))
        except zlib.error as error:
            raise _build_broken_error("gzip", error) from error
        if len(inflated) > limit:
            raise _build_limit_error("gzip", limit)
        if not member.eof:
            raise _build_broken_error("gzip", "it ends in the middle")
        left = member.unused_data
    return bytes(inflated)


def inflate_snappy(payload: Any) -> bytearray:
    """Inflate one raw block, or the Java client's format: a header, then blocks with lengths."""
    raw, limit, inflated = bytes(payload), _limit.get(), bytearray()
    for block in _split_snappy_blocks(raw):
        inflated += _inflate_snappy_block(block, limit - len(inflated), limit)
    return inflated


def inflate_lz4(payload: Any) -> bytearray:
    """Inflate one frame, in memory that grows up to the limit."""
    return _inflate("lz4", bytes(payload), FIRST_TRY_BYTES)


def inflate_zstd(payload: Any) -> bytearray:
    """Inflate all frames, by the sizes that they declare where they do.

    A frame whose decoder would have to look back further than the limit, and further than
    WINDOW_BYTES, is refused before anything is allocated.
    """
    raw, limit = bytes(payload), _limit.get()
    try:
        frames = list(_read_zstd_frames(raw))
    except (IndexError, struct.error, ValueError) as error:
        raise _build_broken_error("zstd", error) from error
    if any(window > max(limit, WINDOW_BYTES) for _, window in frames):
        raise _build_limit_error("zstd", limit)
    declared = sum(content or 0 for content, _ in frames)
    if declared > limit:
        raise _build_limit_error("zstd", limit)
    return _inflate("zstd", raw, declared or FIRST_TRY_BYTES)


def _split_snappy_blocks(raw: bytes) -> Iterator[bytes]:
    if not raw.startswith(XERIAL):
        yield raw
        return
    at = XERIAL_HEADER_BYTES
    while at < len(raw):
        if raw.startswith(XERIAL, at):  # one such stream may follow another
            at += XERIAL_HEADER_BYTES
            continue
        begins = at + 4
        at = begins + int.from_bytes(raw[at:begins], "big", signed=True)
        if not begins <= at <= len(raw):
            raise _build_broken_error("snappy", "a block is longer than what is there")
        yield raw[begins:at]


def _inflate_snappy_block(block: bytes, room: int, limit: int) -> bytearray:
    cramjam = _import_cramjam("snappy")
    try:
        size = cramjam.snappy.decompress_raw_len(block)
        if size > room:
            raise _build_limit_error("snappy", limit)
        inflated = bytearray(size)
        cramjam.snappy.decompress_raw_into(block, inflated)
    except cramjam.DecompressionError as error:
        raise _build_broken_error("snappy", error) from error
    return inflated


def _inflate(codec: str, raw: bytes, first: int) -> bytearray:
    """Inflate into memory that grows up to the limit, since a frame need not declare its size."""
    cramjam = _import_cramjam(codec)
    limit = _limit.get()
    room = min(first, limit)
    while True:
        inflated = bytearray(room)
        try:
            size = getattr(cramjam, codec).decompress_into(raw, inflated)
        except cramjam.DecompressionError as error:
            if "whole buffer" in str(error) and room >= limit:
                raise _build_limit_error(codec, limit) from error
            if room >= limit:
                raise _build_broken_error(codec, error) from error
            room = min(room * GROWTH, limit)
        else:
            del inflated[size:]
            return inflated


def _read_zstd_frames(raw: bytes) -> Iterator[tuple[int | None, int]]:
    """Yield the size that each frame declares, or None, and the window that its decoder needs."""
    at = 0
    while at < len(raw):
        (magic,) = struct.unpack_from("<I", raw, at)
        if magic & ~0xF == ZSTD_SKIPPABLE:
            at += 8 + int(struct.unpack_from("<I", raw, at + 4)[0])
            continue
        if magic != ZSTD_FRAME:
            raise ValueError("no frame of zstd begins here")
        content, window, blocks = _read_zstd_header(raw, at + 4)
        yield content, window
        checksum = 4 if raw[at + 4] & 0x04 else 0
        at = _skip_zstd_blocks(raw, blocks) + checksum


def _read_zstd_header(raw: bytes, at: int) -> tuple[int | None, int, int]:
    """Return the size of the content or None, that of the window, and where the blocks begin."""
    descriptor = raw[at]
    single, at = bool(descriptor & 0x20), at + 1
    window = 0
    if not single:
        base = 1 << (10 + (raw[at] >> 3))
        window, at = base + base // 8 * (raw[at] & 7), at + 1
    at += (0, 1, 2, 4)[descriptor & 3]  # the id of a dictionary
    width = (int(single), 2, 4, 8)[descriptor >> 6]
    if not width:
        return None, window, at
    content = int.from_bytes(raw[at : at + width], "little") + (256 if width == 2 else 0)
    return content, window or content, at + width


def _skip_zstd_blocks(raw: bytes, at: int) -> int:
    """Return where the blocks that begin at `at` end; ValueError if that is beyond `raw`."""
    last = 0
    while not last:
        header = int.from_bytes(raw[at : at + 3], "little")
        if at + 3 > len(raw):
            raise ValueError("it ends in the middle")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        at += 3 + (1 if kind == RLE_BLOCK else size)
    return at


def _import_cramjam(codec: str) -> ModuleType:
    try:
        return import_module("cramjam")
    except ImportError as error:
        raise Uninflatable(f"{codec}: not installed here; `pip install cramjam`") from error


def _build_limit_error(codec: str, limit: int) -> Uninflatable:
    return Uninflatable(
        f"{codec}: a batch inflates to more than {limit} bytes; raise"
        " AFTERCOMMIT_INFLATED_BATCH_BYTES if whoever sent it may send as much"
    )


def _build_broken_error(codec: str, why: object) -> Uninflatable:
    return Uninflatable(f"{codec}: a batch is broken: {why}")


INFLATE: dict[str, Callable[[Any], bytes | bytearray]] = {
    "gzip": inflate_gzip,
    "snappy": inflate_snappy,
    "lz4": inflate_lz4,
    "zstd": inflate_zstd,
}
# The packages in which aiokafka has imported its own functions by name. The compiled one may be
# missing.
PARSERS = ("record", "record._crecords")


def install() -> None:
    """Let aiokafka inflate by these functions, in both record formats, compiled or not."""
    codecs = import_module("aiokafka.codec")
    for codec in INFLATE:
        setattr(codecs, f"has_{codec}", lambda: True)  # a missing one is named by ours
    for package in PARSERS:
        for formats in ("default_records", "legacy_records"):
            try:
                parser = import_module(f"aiokafka.{package}.{formats}")
            except ImportError:
                continue
            for codec, inflate in INFLATE.items():
                if hasattr(parser, f"{codec}_decode"):
                    setattr(parser, f"{codec}_decode", inflate)
