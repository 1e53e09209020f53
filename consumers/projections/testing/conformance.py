"""Conformance: what every projection promises, as checks that any implementation can be given to.

A promise takes a projection over an **empty, prepared** store, and a sample of what it follows. It
raises BrokenPromise where the projection does not keep it. With pytest:

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    async def test_mine_keeps(promise: Promise) -> None:
        async with my_empty_store() as projection:
            await promise(projection, catalog_items())

Weakness: it sees what `scan` and `versions` show, not what else a store makes of an event; and it
cannot take a server away (see tests/faults).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from consumers.projections.projection import Change, Entry, Projection, StreamKey, keep_latest
from consumers.projections.testing.sample import Sample
from outbox.errors import MessageRejected

Promise = Callable[[Projection, Sample], Awaitable[None]]

KEYS = 1100
TOMBSTONES = 50
RACES = 5
HIGHEST = 6
ROUNDS = 8


class BrokenPromise(AssertionError):
    """The projection does not do what Projection says; the text names what it showed instead."""


def require(kept: bool, otherwise: str) -> None:
    if not kept:
        raise BrokenPromise(otherwise)


def entry(change: Change) -> Entry:
    """What a store shows after this change."""
    return Entry(change.stream, change.version, change.digest, change.deleted)


async def scanned(projection: Projection) -> dict[StreamKey, Entry]:
    """All that the store shows; a key that comes twice, or what is foreign, is a broken promise."""
    held = [entry async for entry in projection.scan()]
    found = [entry for entry in held if isinstance(entry, Entry)]
    require(len(found) == len(held), "scan() calls its own entries foreign")
    by_key = {entry.stream: entry for entry in found}
    require(len(by_key) == len(found), "scan() shows a key twice")
    return by_key


async def assert_shows(projection: Projection, expected: Iterable[Change]) -> None:
    """The store shows exactly these heads, in its scan and when asked by key."""
    wanted = {change.stream: entry(change) for change in expected}
    _same("scan()", await scanned(projection), wanted)
    _same("versions()", await projection.versions(list(wanted)), wanted)


def _same(what: str, shown: dict[StreamKey, Entry], wanted: dict[StreamKey, Entry]) -> None:
    wrong = [key for key in shown.keys() | wanted.keys() if shown.get(key) != wanted.get(key)]
    first = min(wrong, default=None)
    require(
        first is None,
        f"{what} is wrong in {len(wrong)} of {len(wanted)} keys: "
        f"{first and shown.get(first)} instead of {first and wanted.get(first)}",
    )


async def assert_diverges(projection: Projection, batch: Sequence[Change], culprit: Change) -> None:
    """The batch is rejected as `diverged`, and the key is named."""
    try:
        await projection.apply(batch)
    except MessageRejected as error:
        require(error.reason == "diverged", f"a divergence is rejected as {error.reason}")
        require(culprit.stream.key in str(error), f"`{error}` does not name {culprit.stream.key}")
    else:
        raise BrokenPromise("another event of the same version is taken in silence")


async def ends_at_the_highest(projection: Projection, batches: Iterable[Sequence[Change]]) -> None:
    """Whatever the order, the repeats and the cuts: each key ends at its highest version."""
    history = [list(batch) for batch in batches]
    for batch in history:
        await projection.apply(batch)
    await assert_shows(projection, keep_latest(change for batch in history for change in batch))


async def it_says_what_it_follows(projection: Projection, sample: Sample) -> None:
    event = sample.upserted("a", 1).event
    require(event.aggregate in projection.aggregates, f"aggregates lack {event.aggregate}")
    require(event.topic in projection.topics, f"topics lack {event.topic}")
    require(projection.name.isidentifier(), f"{projection.name!r} is not a word")


async def preparing_again_keeps_what_is_there(projection: Projection, sample: Sample) -> None:
    await projection.apply([sample.upserted("a", 1)])
    await projection.prepare()
    await assert_shows(projection, [sample.upserted("a", 1)])


async def applying_again_changes_nothing(projection: Projection, sample: Sample) -> None:
    changes = [sample.upserted("a", 1), sample.upserted("b", 3), sample.removed("c", 2)]
    await projection.apply(changes)
    await projection.apply(changes)
    await projection.apply([])
    await assert_shows(projection, changes)


async def any_order_ends_at_the_highest(projection: Projection, sample: Sample) -> None:
    """Shuffled histories with repeats and deletes, cut anywhere."""
    batches: list[list[Change]] = []
    for turn in range(ROUNDS):
        history = sample.history([f"{name}{turn}" for name in "abc"], 4)
        size = sample.chance("cut", turn).randint(1, len(history))
        batches += [history[start : start + size] for start in range(0, len(history), size)]
    await ends_at_the_highest(projection, batches)


async def batches_equal_singles(projection: Projection, sample: Sample) -> None:
    """A batch with several versions of a key, in any order, is what its singles are."""
    versions = (2, 3, 1)
    batch = [sample.upserted("a", version) for version in versions]
    batch += [sample.removed("b", 2), sample.upserted("b", 1)]
    singles = [sample.upserted("a-single", version) for version in versions]
    await projection.apply(batch)
    for change in singles:
        await projection.apply([change])
    await assert_shows(projection, [*keep_latest(batch), *keep_latest(singles)])


async def scan_equals_what_was_applied(projection: Projection, sample: Sample) -> None:
    """Across the pages of a scan and the chunks of an apply, tombstones included."""
    changes = [sample.upserted(f"i{n:04}", n + 1) for n in range(KEYS)]
    changes += [sample.removed(f"r{n:04}", n + 2) for n in range(TOMBSTONES)]
    await projection.apply(changes)
    await assert_shows(projection, changes)


async def a_late_write_does_not_resurrect(projection: Projection, sample: Sample) -> None:
    await projection.apply([sample.upserted("a", 1)])
    await projection.apply([sample.removed("a", 5)])
    for version in (4, 1):
        await projection.apply([sample.upserted("a", version)])
    await assert_shows(projection, [sample.removed("a", 5)])


async def a_delete_can_come_first_and_be_outlived(projection: Projection, sample: Sample) -> None:
    """A tombstone without a predecessor counts, and a higher version brings the key back."""
    await projection.apply([sample.removed("a", 2)])
    await projection.apply([sample.upserted("a", 1)])
    await assert_shows(projection, [sample.removed("a", 2)])
    await projection.apply([sample.upserted("a", 3)])
    await assert_shows(projection, [sample.upserted("a", 3)])


async def unknown_keys_have_no_version(projection: Projection, sample: Sample) -> None:
    await projection.apply([sample.upserted("a", 1)])
    unknown = sample.upserted("none", 1).stream
    require(await projection.versions([unknown]) == {}, "versions() shows a key that is not there")
    require(await projection.versions([]) == {}, "versions() of nothing shows something")


async def concurrent_writers_end_at_the_highest(projection: Projection, sample: Sample) -> None:
    """All versions of a key at once, key after key: who reads first and writes later must lose."""
    names = [f"a{turn}" for turn in range(RACES)]
    for name in names:
        async with asyncio.TaskGroup() as group:
            for version in _highest_early(sample.chance("race", name)):
                group.create_task(projection.apply([sample.upserted(name, version)]))
    await assert_shows(projection, [sample.upserted(name, HIGHEST) for name in names])


def _highest_early(chance: random.Random) -> list[int]:
    """Never last: a store where the last one wins surely ends lower."""
    order = chance.sample(range(1, HIGHEST), HIGHEST - 1)
    order.insert(chance.randrange(len(order)), HIGHEST)
    return order


async def a_divergence_is_loud_and_overwrites_nothing(
    projection: Projection, sample: Sample
) -> None:
    """Another content, the same content from another event, a delete, and over a delete (I13)."""
    alive, gone = sample.upserted("a", 2), sample.removed("b", 2)
    await projection.apply([alive, gone])
    others = [sample.twin("a", 2), replace(alive, event_id="another"), sample.removed("a", 2)]
    for other in (*others, sample.upserted("b", 2)):
        await assert_diverges(projection, [other], other)
    await assert_shows(projection, [alive, gone])


async def a_divergence_stops_its_key_and_no_other(projection: Projection, sample: Sample) -> None:
    """Nothing of its key is applied after it, not even a higher version of the same batch (I13)."""
    await projection.apply([sample.upserted("b", 1)])
    twin = sample.twin("b", 1)
    batch = [sample.upserted("a", 1), twin, sample.upserted("b", 2), sample.upserted("c", 1)]
    await assert_diverges(projection, batch, twin)
    await assert_shows(projection, [sample.upserted(name, 1) for name in "abc"])


async def a_divergence_inside_a_batch_is_loud(projection: Projection, sample: Sample) -> None:
    """The first of the two is applied, as it were without the batch, and no other (I13)."""
    twin = sample.twin("a", 1)
    batch = [sample.upserted("a", 1), twin, sample.upserted("a", 2), sample.upserted("b", 1)]
    await assert_diverges(projection, batch, twin)
    await assert_shows(projection, [sample.upserted("a", 1), sample.upserted("b", 1)])
    await assert_diverges(projection, [twin], twin)


async def a_late_event_of_a_version_that_is_past_changes_nothing(
    projection: Projection, sample: Sample
) -> None:
    """Whether it diverged cannot be known any more; the higher version stays."""
    await projection.apply([sample.upserted("a", 3)])
    with suppress(MessageRejected):
        await projection.apply([sample.twin("a", 2)])
    await assert_shows(projection, [sample.upserted("a", 3)])


async def forgetting_takes_exactly_what_was_seen(projection: Projection, sample: Sample) -> None:
    """Whatever differs from that in version, content or deletedness stays; so do other keys."""
    kept = [sample.upserted("a", 3), sample.removed("b", 2), sample.upserted("c", 1)]
    await projection.apply(kept)
    a, b, _ = map(entry, kept)
    unlike = [replace(a, version=2), replace(a, digest="another"), replace(a, deleted=True)]
    none = entry(sample.upserted("none", 1))
    await projection.delete_if_unchanged([*unlike, replace(b, deleted=False), none])
    await projection.delete_if_unchanged([])
    await assert_shows(projection, kept)
    await projection.delete_if_unchanged([a, b, none])
    await projection.delete_if_unchanged([a])
    await assert_shows(projection, kept[2:])
    require(await projection.versions([a.stream]) == {}, "a forgotten key has a version")


async def a_forgotten_key_takes_any_version(projection: Projection, sample: Sample) -> None:
    """Also one below what was forgotten, and the same with another content."""
    wrong = [sample.twin("a", 3), sample.upserted("b", 9), sample.removed("c", 2)]
    right = [sample.upserted("a", 3), sample.removed("b", 4), sample.upserted("c", 1)]
    await projection.apply(wrong)
    await projection.delete_if_unchanged(list(map(entry, wrong)))
    await projection.apply(right)
    await assert_shows(projection, right)


async def forgetting_never_takes_what_came_since(projection: Projection, sample: Sample) -> None:
    """What is forgotten again and again beside writers are the versions before the highest."""
    past = [entry(sample.upserted("a", version)) for version in range(1, HIGHEST)]

    async def delete_if_unchanged() -> None:
        for _ in range(ROUNDS):
            await projection.delete_if_unchanged(past)

    async with asyncio.TaskGroup() as group:
        for version in _highest_early(sample.chance("forget")):
            group.create_task(projection.apply([sample.upserted("a", version)]))
        group.create_task(delete_if_unchanged())
    await projection.delete_if_unchanged(past)
    await assert_shows(projection, [sample.upserted("a", HIGHEST)])


PROMISES: tuple[Promise, ...] = (
    it_says_what_it_follows,
    preparing_again_keeps_what_is_there,
    applying_again_changes_nothing,
    any_order_ends_at_the_highest,
    batches_equal_singles,
    scan_equals_what_was_applied,
    a_late_write_does_not_resurrect,
    a_delete_can_come_first_and_be_outlived,
    unknown_keys_have_no_version,
    concurrent_writers_end_at_the_highest,
    a_divergence_is_loud_and_overwrites_nothing,
    a_divergence_stops_its_key_and_no_other,
    a_divergence_inside_a_batch_is_loud,
    a_late_event_of_a_version_that_is_past_changes_nothing,
    forgetting_takes_exactly_what_was_seen,
    a_forgotten_key_takes_any_version,
    forgetting_never_takes_what_came_since,
)
