"""Conformance: what every projection promises, as checks for any implementation.

Each function of PROMISES takes a projection over an **empty, prepared** store and a Sample of the
events that it follows, and raises BrokenPromise where the projection does not keep that promise.
`consumers/projections/testing/__init__.py` shows how to run them with pytest.

Weakness: the checks see what `scan` and `versions` return, not what else a store makes of an event;
and they cannot take a server away (tests/faults does).
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
    """The projection does not do what Projection says; the text names what it did instead."""


def require(kept: bool, otherwise: str) -> None:
    """Raise BrokenPromise with the text `otherwise`, unless `kept`."""
    if not kept:
        raise BrokenPromise(otherwise)


def entry_of(change: Change) -> Entry:
    """The entry that a store holds after this change."""
    return Entry(change.stream, change.version, change.digest, change.deleted)


async def read_all(projection: Projection) -> dict[StreamKey, Entry]:
    """All that the store holds, by key; BrokenPromise for a key twice, or a foreign entry."""
    found = [entry async for entry in projection.scan()]
    entries = [entry for entry in found if isinstance(entry, Entry)]
    require(len(entries) == len(found), "scan() calls its own entries foreign")
    by_key = {entry.stream: entry for entry in entries}
    require(len(by_key) == len(entries), "scan() shows a key twice")
    return by_key


async def assert_shows(projection: Projection, expected: Iterable[Change]) -> None:
    """Require that the store holds exactly these changes, in its scan and when asked by key."""
    wanted = {change.stream: entry_of(change) for change in expected}
    _require_same("scan()", await read_all(projection), wanted)
    _require_same("versions()", await projection.versions(list(wanted)), wanted)


def _require_same(what: str, shown: dict[StreamKey, Entry], wanted: dict[StreamKey, Entry]) -> None:
    wrong = [key for key in shown.keys() | wanted.keys() if shown.get(key) != wanted.get(key)]
    first = min(wrong, default=None)
    require(
        first is None,
        f"{what} is wrong in {len(wrong)} of {len(wanted)} keys: "
        f"{first and shown.get(first)} instead of {first and wanted.get(first)}",
    )


async def assert_diverges(projection: Projection, batch: Sequence[Change], culprit: Change) -> None:
    """Require that the batch is rejected as `diverged`, and that the culprit's key is named."""
    try:
        await projection.apply(batch)
    except MessageRejected as error:
        require(error.reason == "diverged", f"a divergence is rejected as {error.reason}")
        require(culprit.stream.key in str(error), f"`{error}` does not name {culprit.stream.key}")
    else:
        raise BrokenPromise("another event of the same version is taken in silence")


async def assert_ends_at_the_highest(
    projection: Projection, batches: Iterable[Sequence[Change]]
) -> None:
    """Apply the batches in this order, and require each key to end at its highest version."""
    history = [list(batch) for batch in batches]
    for batch in history:
        await projection.apply(batch)
    await assert_shows(projection, keep_latest(change for batch in history for change in batch))


async def it_says_what_it_follows(projection: Projection, sample: Sample) -> None:
    """`name`, `aggregates` and `topics` are those of the sample's events."""
    event = sample.upserted("a", 1).event
    require(event.aggregate in projection.aggregates, f"aggregates lack {event.aggregate}")
    require(event.topic in projection.topics, f"topics lack {event.topic}")
    require(projection.name.isidentifier(), f"{projection.name!r} is not a word")


async def preparing_again_keeps_what_is_there(projection: Projection, sample: Sample) -> None:
    """A second `prepare` changes no entry."""
    await projection.apply([sample.upserted("a", 1)])
    await projection.prepare()
    await assert_shows(projection, [sample.upserted("a", 1)])


async def applying_again_changes_nothing(projection: Projection, sample: Sample) -> None:
    """The same batch twice is what it is once; an empty batch is nothing."""
    changes = [sample.upserted("a", 1), sample.upserted("b", 3), sample.removed("c", 2)]
    await projection.apply(changes)
    await projection.apply(changes)
    await projection.apply([])
    await assert_shows(projection, changes)


async def any_order_ends_at_the_highest(projection: Projection, sample: Sample) -> None:
    """Shuffled histories with repeats and deletes, cut into batches anywhere."""
    batches: list[list[Change]] = []
    for turn in range(ROUNDS):
        history = sample.history([f"{name}{turn}" for name in "abc"], 4)
        size = sample.make_random("cut", turn).randint(1, len(history))
        batches += [history[start : start + size] for start in range(0, len(history), size)]
    await assert_ends_at_the_highest(projection, batches)


async def batches_equal_singles(projection: Projection, sample: Sample) -> None:
    """A batch with several versions of a key ends where its changes end one by one."""
    versions = (2, 3, 1)
    batch = [sample.upserted("a", version) for version in versions]
    batch += [sample.removed("b", 2), sample.upserted("b", 1)]
    singles = [sample.upserted("a-single", version) for version in versions]
    await projection.apply(batch)
    for change in singles:
        await projection.apply([change])
    await assert_shows(projection, [*keep_latest(batch), *keep_latest(singles)])


async def scan_equals_what_was_applied(projection: Projection, sample: Sample) -> None:
    """A scan of several pages finds all of a large batch, tombstones included."""
    changes = [sample.upserted(f"i{n:04}", n + 1) for n in range(KEYS)]
    changes += [sample.removed(f"r{n:04}", n + 2) for n in range(TOMBSTONES)]
    await projection.apply(changes)
    await assert_shows(projection, changes)


async def a_late_write_does_not_resurrect(projection: Projection, sample: Sample) -> None:
    """A deleted key stays deleted when an older version comes after the delete."""
    await projection.apply([sample.upserted("a", 1)])
    await projection.apply([sample.removed("a", 5)])
    for version in (4, 1):
        await projection.apply([sample.upserted("a", version)])
    await assert_shows(projection, [sample.removed("a", 5)])


async def a_delete_can_come_first_and_be_outlived(projection: Projection, sample: Sample) -> None:
    """A delete counts for a key that was never there, and a higher version brings it back."""
    await projection.apply([sample.removed("a", 2)])
    await projection.apply([sample.upserted("a", 1)])
    await assert_shows(projection, [sample.removed("a", 2)])
    await projection.apply([sample.upserted("a", 3)])
    await assert_shows(projection, [sample.upserted("a", 3)])


async def unknown_keys_have_no_version(projection: Projection, sample: Sample) -> None:
    """`versions` leaves out a key that the store does not have."""
    await projection.apply([sample.upserted("a", 1)])
    unknown = sample.upserted("none", 1).stream
    require(await projection.versions([unknown]) == {}, "versions() shows a key that is not there")
    require(await projection.versions([]) == {}, "versions() of nothing shows something")


async def concurrent_writers_end_at_the_highest(projection: Projection, sample: Sample) -> None:
    """All versions of a key at once: a writer that read first and writes later must lose."""
    names = [f"a{turn}" for turn in range(RACES)]
    for name in names:
        async with asyncio.TaskGroup() as group:
            for version in _highest_early(sample.make_random("race", name)):
                group.create_task(projection.apply([sample.upserted(name, version)]))
    await assert_shows(projection, [sample.upserted(name, HIGHEST) for name in names])


def _highest_early(rng: random.Random) -> list[int]:
    """The highest version is never last: a store where the last writer wins surely ends lower."""
    order = rng.sample(range(1, HIGHEST), HIGHEST - 1)
    order.insert(rng.randrange(len(order)), HIGHEST)
    return order


async def a_divergence_is_loud_and_overwrites_nothing(
    projection: Projection, sample: Sample
) -> None:
    """The other event has another content, or the same one, or is a delete, or follows a delete."""
    alive, gone = sample.upserted("a", 2), sample.removed("b", 2)
    await projection.apply([alive, gone])
    others = [sample.twin("a", 2), replace(alive, event_id="another"), sample.removed("a", 2)]
    for other in (*others, sample.upserted("b", 2)):
        await assert_diverges(projection, [other], other)
    await assert_shows(projection, [alive, gone])


async def a_divergence_stops_its_key_and_no_other(projection: Projection, sample: Sample) -> None:
    """Nothing of its key is applied after it, not even a higher version of the same batch."""
    await projection.apply([sample.upserted("b", 1)])
    twin = sample.twin("b", 1)
    batch = [sample.upserted("a", 1), twin, sample.upserted("b", 2), sample.upserted("c", 1)]
    await assert_diverges(projection, batch, twin)
    await assert_shows(projection, [sample.upserted(name, 1) for name in "abc"])


async def a_divergence_inside_a_batch_is_loud(projection: Projection, sample: Sample) -> None:
    """The first of the two events is applied, as it would be alone, and nothing after it."""
    twin = sample.twin("a", 1)
    batch = [sample.upserted("a", 1), twin, sample.upserted("a", 2), sample.upserted("b", 1)]
    await assert_diverges(projection, batch, twin)
    await assert_shows(projection, [sample.upserted("a", 1), sample.upserted("b", 1)])
    await assert_diverges(projection, [twin], twin)


async def a_late_event_of_a_version_that_is_past_changes_nothing(
    projection: Projection, sample: Sample
) -> None:
    """Nobody can know any more whether it diverged; the higher version stays."""
    await projection.apply([sample.upserted("a", 3)])
    with suppress(MessageRejected):
        await projection.apply([sample.twin("a", 2)])
    await assert_shows(projection, [sample.upserted("a", 3)])


async def delete_if_unchanged_takes_exactly_what_was_seen(
    projection: Projection, sample: Sample
) -> None:
    """An entry stays if its version, its digest or its deletion differs; so do other keys."""
    kept = [sample.upserted("a", 3), sample.removed("b", 2), sample.upserted("c", 1)]
    await projection.apply(kept)
    a, b, _ = map(entry_of, kept)
    unlike = [replace(a, version=2), replace(a, digest="another"), replace(a, deleted=True)]
    none = entry_of(sample.upserted("none", 1))
    await projection.delete_if_unchanged([*unlike, replace(b, deleted=False), none])
    await projection.delete_if_unchanged([])
    await assert_shows(projection, kept)
    await projection.delete_if_unchanged([a, b, none])
    await projection.delete_if_unchanged([a])
    await assert_shows(projection, kept[2:])
    require(
        await projection.versions([a.stream]) == {}, "a key whose entry was deleted has a version"
    )


async def a_key_whose_entry_was_deleted_takes_any_version(
    projection: Projection, sample: Sample
) -> None:
    """A lower version is taken too, and the same version with another content."""
    wrong = [sample.twin("a", 3), sample.upserted("b", 9), sample.removed("c", 2)]
    right = [sample.upserted("a", 3), sample.removed("b", 4), sample.upserted("c", 1)]
    await projection.apply(wrong)
    await projection.delete_if_unchanged(list(map(entry_of, wrong)))
    await projection.apply(right)
    await assert_shows(projection, right)


async def delete_if_unchanged_never_takes_what_came_since(
    projection: Projection, sample: Sample
) -> None:
    """Deleting older versions again and again, beside writers, never takes the highest one."""
    past = [entry_of(sample.upserted("a", version)) for version in range(1, HIGHEST)]

    async def delete_past() -> None:
        for _ in range(ROUNDS):
            await projection.delete_if_unchanged(past)

    async with asyncio.TaskGroup() as group:
        for version in _highest_early(sample.make_random("forget")):
            group.create_task(projection.apply([sample.upserted("a", version)]))
        group.create_task(delete_past())
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
    delete_if_unchanged_takes_exactly_what_was_seen,
    a_key_whose_entry_was_deleted_takes_any_version,
    delete_if_unchanged_never_takes_what_came_since,
)
