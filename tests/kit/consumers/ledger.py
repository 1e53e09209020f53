"""Ledger: a consumer whose store is a file that records in what order messages were applied.

`python -m tests.kit.consumers.ledger FOLDER` runs it as a process, which a test can kill. It has no
fence by version, so a test sees whatever is applied early, late or twice.
"""

import asyncio
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.errors import build_rejection
from outbox.kafka import Record
from outbox.runtime.lifecycle import run_role
from schemas.catalog import ItemUpserted
from schemas.envelope import Envelope
from schemas.wire import encode

TOPIC = ItemUpserted.topic


class Ledger:
    """A reaction that appends one line a message: its key, its version and this process's id.

    It refuses the versions that the file `refused` names, and then applies nothing of the batch.
    Each call takes `pause_seconds` and then writes its lines.
    """

    name = "ledger"
    topics = (TOPIC,)
    parks_keys = True
    batch_messages = 10

    def __init__(self, folder: Path, pause_seconds: float = 0.0) -> None:
        self._applied, self._refused = folder / "applied", folder / "refused"
        self._pause_seconds = pause_seconds

    async def prepare(self) -> None:
        """Do nothing: there is nothing to create."""

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        await asyncio.sleep(self._pause_seconds)
        refused = self._read_refused()
        if any([envelope.key, envelope.sequence] in refused for envelope in envelopes):
            raise build_rejection("refused", "version", "must not be one that the test refuses")
        for envelope in envelopes:
            self._append(envelope)

    def refuse(self, *versions: tuple[str, int]) -> None:
        """Refuse just these versions from now on; without any, refuse nothing."""
        new = self._refused.with_suffix(".new")
        new.write_text(json.dumps(versions), encoding="utf-8")
        new.replace(self._refused)

    def lines(self) -> list[tuple[str, int, int]]:
        """Return key, version and process id of everything applied, in its order."""
        if not self._applied.exists():
            return []
        text = self._applied.read_text(encoding="utf-8")
        return [tuple(json.loads(line)) for line in text.splitlines()]

    def versions(self) -> dict[str, list[int]]:
        """Return the versions of each key, in the order in which they were applied."""
        by_key: dict[str, list[int]] = defaultdict(list)
        for key, version, _ in self.lines():
            by_key[key].append(version)
        return by_key

    def _read_refused(self) -> list[list[object]]:
        try:
            return list(json.loads(self._refused.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return []

    def _append(self, envelope: Envelope) -> None:
        """One write, so that lines of several processes never mix, and none is lost by a kill."""
        line = json.dumps([envelope.key, envelope.sequence, os.getpid()]) + "\n"
        with self._applied.open("ab", buffering=0) as file:
            file.write(line.encode())


def first_occurrences(versions: Iterable[int]) -> list[int]:
    """Return the versions without repetitions."""
    return list(dict.fromkeys(versions))


def event(key: str, version: int, payload: bytes = b"{}") -> Envelope:
    """Build the event of one version of a key; a ledger does not look at its payload."""
    return Envelope(
        id=f"{key}-{version}",
        source="/ledger",
        type=ItemUpserted.type,
        key=key,
        payload=payload,
        sequence=version,
    )


def record(key: str, version: int, payload: bytes = b"{}") -> Record:
    """Build the record of such an event as the relay sends it, as far as a consumer looks."""
    return Record(0, TOPIC, *encode(event(key, version, payload)))


def records(keys: Iterable[str], first: int, last: int) -> Iterator[Record]:
    """Yield records from the first to the last version, each version of all keys."""
    names = list(keys)
    return (record(key, version) for version in range(first, last + 1) for key in names)


def main() -> None:
    """Run as a role until SIGTERM, slowly enough that a test can kill it at a chosen place."""
    settings = Settings()
    runners: list[Runner] = []

    async def run() -> None:  # made here, its log lines go where a role's go
        runners.append(Runner(settings, Ledger(Path(sys.argv[1]), pause_seconds=0.05)))
        await runners[0].run()

    def stop() -> None:
        for runner in runners:
            runner.stop()

    run_role(settings, run, stop)


if __name__ == "__main__":
    main()
