"""Broken bytes: rules for the Kafka proxy that spoil one record batch on its way to a consumer."""

import struct
from dataclasses import dataclass

from aiokafka.record.util import calc_crc32c

from tests.kit.proxies.kafka_proxy import ALWAYS, Request, Rule

FETCH = 1
LENGTH_AT, MAGIC_AT, CHECKSUM_AT, CHECKED_FROM = 8, 16, 17, 21
BEHIND_LENGTH = 12
CODEC_AT, UNKNOWN_CODEC = 22, 7  # the low three bits of the attributes


def batch_around(frame: bytes, marker: bytes) -> tuple[int, int] | None:
    """Return where the record batch that holds `marker` begins and ends; its checksum proves it."""
    at = frame.find(marker)
    for start in range(at - CHECKED_FROM, -1, -1):
        (length,) = struct.unpack_from(">i", frame, start + LENGTH_AT)
        end = start + BEHIND_LENGTH + length
        if frame[start + MAGIC_AT] == 2 and at < end <= len(frame):
            (checksum,) = struct.unpack_from(">I", frame, start + CHECKSUM_AT)
            if checksum == calc_crc32c(frame[start + CHECKED_FROM : end]):
                return start, end
    return None


@dataclass(eq=False, kw_only=True)
class Spoil(Rule):
    """Spoils a batch in every answer to a Fetch that holds the marker, `most` answers in all."""

    marker: bytes
    api: int = FETCH  # type: ignore[assignment] # one that Api does not name
    times: float = ALWAYS
    most: float = ALWAYS
    times_spoiled: int = 0

    def answered(self, request: Request, frame: bytes) -> bytes:
        del request
        if self.marker not in frame or self.times_spoiled >= self.most:
            return frame
        place = batch_around(frame, self.marker)
        assert place is not None
        spoiled = bytearray(frame)
        self.spoil(spoiled, *place)
        self.times_spoiled += 1
        self.happened.set()
        return bytes(spoiled)

    def spoil(self, frame: bytearray, start: int, end: int) -> None:
        """Change the batch, which is `frame[start:end]`."""
        raise NotImplementedError


class FlipBit(Spoil):
    """Spoils a bit, so that the checksum no longer fits."""

    def spoil(self, frame: bytearray, start: int, end: int) -> None:
        del start
        frame[end - 1] ^= 1


class Foreign(Spoil):
    """Names a codec that nobody has invented yet; the checksum is right.

    Another format number would not do: aiokafka takes that of the first batch of a fetch for all.
    """

    def spoil(self, frame: bytearray, start: int, end: int) -> None:
        frame[start + CODEC_AT] |= UNKNOWN_CODEC
        checksum = calc_crc32c(frame[start + CHECKED_FROM : end])
        struct.pack_into(">I", frame, start + CHECKSUM_AT, checksum)


class Larger(Spoil):
    """Makes a batch claim more bytes than were sent, as one does that did not fit into a fetch."""

    def spoil(self, frame: bytearray, start: int, end: int) -> None:
        struct.pack_into(">i", frame, start + LENGTH_AT, end - start + 1_000_000)
