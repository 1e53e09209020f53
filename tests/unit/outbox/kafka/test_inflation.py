"""FC1: compressed batches are inflated up to a limit, for every codec and each of its formats."""

import gzip
import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cramjam
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from outbox.kafka import consumer, inflation
from outbox.kafka.inflation import (
    INFLATE,
    Uninflatable,
    inflate_gzip,
    inflate_lz4,
    inflate_snappy,
    inflate_zstd,
    inflating_at_most,
)

assert consumer  # importing it installs our functions in aiokafka

MIB = 1024 * 1024
LIMIT = 256 * 1024
CONTENT = os.urandom(5_000) + b"a" * 50_000
CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
GROWTH_MIB = 64  # growth of a process that inflates a bomb: the limit, a copy, and memory pages


def gzip_members(content: bytes) -> bytes:
    return gzip.compress(content[:1_000]) + gzip.compress(content[1_000:]) + b"\0" * 7


def raw_snappy(content: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(content))


def xerial(content: bytes, block: int = 32 * 1024) -> bytes:
    """Pack the content in the format of the Java client."""
    packed = [raw_snappy(content[at : at + block]) for at in range(0, len(content), block)]
    header = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
    return header + b"".join(struct.pack(">i", len(each)) + each for each in packed)


def xerial_twice(content: bytes) -> bytes:
    return xerial(content[:1_000]) + xerial(content[1_000:])


def sized_lz4(content: bytes) -> bytes:
    return bytes(cramjam.lz4.compress(content))


def unsized_lz4(content: bytes) -> bytes:
    compressor = cramjam.lz4.Compressor(level=9, content_checksum=False, block_linked=False)
    compressor.compress(content)
    return bytes(compressor.finish())


def sized_zstd(content: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(content))


def unsized_zstd(content: bytes, window: int = 0x50) -> bytes:
    """Build a frame that does not declare its size, with its content in uncompressed blocks."""
    blocks = [content[at : at + 100_000] for at in range(0, len(content), 100_000)] or [b""]
    frame = struct.pack("<IBB", 0xFD2FB528, 0, window)
    for number, block in enumerate(blocks):
        header = len(block) << 3 | (number == len(blocks) - 1)
        frame += header.to_bytes(3, "little") + block
    return frame


def zstd_frames(content: bytes) -> bytes:
    """Build one frame of each kind, with a skippable frame between them."""
    skipped = struct.pack("<II", 0x184D2A53, 5) + b"notes"
    return sized_zstd(content[:1_000]) + skipped + unsized_zstd(content[1_000:])


FRAMINGS: list[tuple[Callable[[Any], bytes | bytearray], Callable[[bytes], bytes]]] = [
    (inflate_gzip, gzip.compress),
    (inflate_gzip, gzip_members),
    (inflate_snappy, raw_snappy),
    (inflate_snappy, xerial),
    (inflate_snappy, xerial_twice),
    (inflate_lz4, sized_lz4),
    (inflate_lz4, unsized_lz4),
    (inflate_zstd, sized_zstd),
    (inflate_zstd, unsized_zstd),
    (inflate_zstd, zstd_frames),
]


@pytest.mark.parametrize(("inflate", "packed"), FRAMINGS)
def test_what_was_packed_comes_back_up_to_the_limit_and_not_a_byte_beyond(
    inflate: Callable[[Any], bytes | bytearray], packed: Callable[[bytes], bytes]
) -> None:
    payload = packed(CONTENT)
    with inflating_at_most(len(CONTENT)):
        assert bytes(inflate(memoryview(payload))) == CONTENT
    refusal = r"more than 54999 bytes.*INFLATED_BATCH_BYTES"
    with inflating_at_most(len(CONTENT) - 1), pytest.raises(Uninflatable, match=refusal):
        inflate(payload)


@pytest.mark.parametrize(("inflate", "packed"), FRAMINGS)
def test_what_is_cut_or_spoiled_is_refused_by_the_name_of_its_codec(
    inflate: Callable[[Any], bytes | bytearray], packed: Callable[[bytes], bytes]
) -> None:
    payload = packed(CONTENT)
    codec = inflate.__name__.removeprefix("inflate_")
    spoiled = b"\xff" + payload[1:4] + b"\xff" + payload[5:]
    for broken in (payload[:-20], spoiled, b"\xff\xfe\xfd\xfc"):
        with inflating_at_most(LIMIT), pytest.raises(Uninflatable, match=f"^{codec}: "):
            inflate(broken)


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_is_parsed_by_aiokafka_with_our_limit(codec: str) -> None:
    raw = batch(CODECS[codec], [b"v" * 1_000] * 20)
    with inflating_at_most(LIMIT):
        (taken,) = batches(raw)
        assert taken.validate_crc()
        assert [record.value for record in taken] == [b"v" * 1_000] * 20
    with inflating_at_most(10_000), pytest.raises(Uninflatable, match=codec):
        list(next(batches(raw)))


@pytest.mark.parametrize("codec", ["snappy", "lz4", "zstd"])
def test_a_codec_that_is_not_installed_is_named_with_what_to_install(
    codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = batch(CODECS[codec], [b"v"])

    def absent(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(inflation, "import_module", absent)
    with pytest.raises(Uninflatable, match=f"{codec}: not installed here; `pip install cramjam`"):
        list(next(batches(raw)))


def test_a_window_that_would_take_more_than_the_limit_is_refused_before_it_is_allocated() -> None:
    largest = 0x11 << 3  # 128 MiB to look back into, for three bytes of content
    with inflating_at_most(LIMIT), pytest.raises(Uninflatable, match=r"zstd: .* more than"):
        inflate_zstd(unsized_zstd(b"abc", window=largest))


@pytest.mark.parametrize("codec", CODECS)
def test_a_bomb_costs_no_more_memory_than_the_limit(codec: str, tmp_path: Path) -> None:
    """A process of its own inflates 256 MiB of zeros, and prints how much its memory has grown."""
    file = tmp_path / codec
    file.write_bytes(bomb(codec, 256 * MIB))
    output = subprocess.run(
        [sys.executable, "-c", WITNESS, codec, str(file)],
        capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout  # fmt: skip
    said, grown = output.splitlines()
    assert "more than 16777216 bytes" in said
    assert float(grown) < GROWTH_MIB


WITNESS = """
import resource, sys
from pathlib import Path
from outbox.kafka.inflation import INFLATE, Uninflatable
import cramjam
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
payload, before = Path(sys.argv[2]).read_bytes(), peak()
try:
    INFLATE[sys.argv[1]](payload)
except Uninflatable as error:
    print(error)
print(peak() - before)
"""


def bomb(codec: str, size: int) -> bytes:
    zeros = bytes(MIB)
    if codec == "gzip":
        out, packer = io.BytesIO(), zlib.compressobj(wbits=31)
        for _ in range(size // MIB):
            out.write(packer.compress(zeros))
        return out.getvalue() + packer.flush()
    if codec == "snappy":
        return xerial(zeros, MIB) + xerial(bytes(size), MIB)
    pack = unsized_lz4 if codec == "lz4" else zstd_blocks
    return pack(bytes(size))


def zstd_blocks(content: bytes) -> bytes:
    """Build a frame that does not declare its size, in which each block is one repeated byte."""
    count = len(content) // (128 * 1024)
    frame = struct.pack("<IBB", 0xFD2FB528, 0, 0x58)
    for number in range(count):
        header = 128 * 1024 << 3 | 1 << 1 | (number == count - 1)
        frame += header.to_bytes(3, "little") + b"\0"
    return frame


def batch(codec: int, values: list[bytes]) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=0, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=MIB,
    )  # fmt: skip
    for number, value in enumerate(values):
        builder.append(number, 0, b"k", value, [])
    return bytes(builder.build())


def batches(raw: bytes) -> Any:
    records = MemoryRecords(raw)
    while records.has_next():
        yield records.next_batch()


def test_every_codec_of_kafka_is_one_of_these() -> None:
    assert INFLATE.keys() == CODECS.keys()
