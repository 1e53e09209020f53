"""Assignment: order, bounds and commits, whatever fails; store and broker are stand-ins."""

import asyncio
from collections import Counter
from random import Random

import pytest

from outbox.errors import AlreadyHandled, DependencyDown, build_rejection
from schemas.envelope import Envelope
from tests.kit.consumers.assignments import (
    ATTEMPTS,
    PARTITION,
    WITHIN_SECONDS,
    Bench,
    MemoryRedelivery,
    bench,
)
from tests.kit.consumers.work_items import TOPIC, broken_record, record_of, retried
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

AWAY = DependencyDown("store", "planted")
BROKEN = build_rejection("schema", "name", "must be text")


def is_of(envelope: Envelope, *keys: str) -> bool:
    return envelope.key in keys


async def test_what_is_committed_stays_below_what_still_runs() -> None:
    """I9: keys that run side by side end in any order."""
    async with bench() as made:
        made.script.fails = lambda each: AWAY if is_of(each, "a") else None
        made.accept(record_of("b", 5), record_of("a", 6), record_of("b", 7), record_of("b", 9))
        await until(lambda: applied(made, 3), WITHIN_SECONDS, 0.001)
        assert made.committable() == 6
        made.assignment.mark_committed({PARTITION: 6})
        assert made.committable() is None
        made.script.fails = lambda _: None
        await made.finished()
        assert made.committable() == 10


@pytest.mark.parametrize("batch", [1, 50])
async def test_a_key_whose_store_fails_waits_in_order_while_the_others_flow(batch: int) -> None:
    """C11, with a stand-in for the store; also if all keys come in one batch."""
    async with bench(batch) as made:
        made.script.fails = lambda each: AWAY if is_of(each, "k") else None
        for offset in range(0, 200, 2):
            made.accept(record_of("k", offset), record_of(f"other{offset % 7}", offset + 1))
        await until(lambda: applied(made, 100), WITHIN_SECONDS, 0.001)
        assert made.script.of_key("k") == []
        assert made.committable() is None or made.committable() == 0
        made.script.fails = lambda _: None
        await made.finished()
        assert made.script.of_key("k") == [f"k@{offset}" for offset in range(0, 200, 2)]
        assert made.letters.written == []


async def test_what_waits_for_one_key_is_bounded_and_pauses_its_partition() -> None:
    """C11: the partition is resumed when half of what it may hold is done."""
    async with bench(messages=50) as made:
        made.script.fails = lambda each: AWAY if is_of(each, "k") else None
        made.accept(*(record_of("k", offset) for offset in range(49)))
        assert made.paused == []
        made.accept(record_of("k", 49))
        assert (made.paused, made.resumed) == ([PARTITION], [])
        made.script.fails = lambda _: None
        await made.finished()
        assert made.resumed == [PARTITION]


async def test_in_an_outage_one_message_asks_for_all() -> None:
    """Hundreds of keys do not each call a store that is down."""
    async with bench(side_by_side=8) as made:
        made.script.fails = lambda _: AWAY
        made.accept(*(record_of(f"k{number}", number) for number in range(300)))
        await until(lambda: called(made, 40), WITHIN_SECONDS, 0.001)
        made.script.most_running = 0
        await until(lambda: called(made, 60), WITHIN_SECONDS, 0.001)
        assert made.script.most_running == 1
        made.script.fails = lambda _: None
        await made.finished()
        assert made.script.most_running == 8
        assert made.letters.written == []


@pytest.mark.parametrize("batch", [1, 50])
async def test_a_broken_message_suffers_alone_and_parks_its_key_in_order(batch: int) -> None:
    """C12: the policy that halts the key."""
    async with bench(batch) as made:
        made.script.fails = lambda each: BROKEN if each.id == "bad@1" else None
        made.accept(
            record_of("bad", 0), record_of("bad", 1), record_of("good", 2), record_of("bad", 3)
        )
        await made.finished()
        made.accept(record_of("bad", 4), record_of("good", 5))
        await made.finished()
        assert sorted(made.script.applied) == ["bad@0", "good@2", "good@5"]
        assert [(each.record.offset, each.waiting) for each in made.letters.written] == [
            (1, False), (3, True), (4, True),
        ]  # fmt: skip
        assert made.committable() == 6


async def test_a_reaction_that_parks_no_keys_goes_on_behind_a_dead_letter() -> None:
    """C12: the policy that skips the message."""
    async with bench() as made:
        made.script.parks_keys = False
        made.script.fails = lambda each: BROKEN if each.id == "bad@0" else None
        made.accept(record_of("bad", 0), record_of("bad", 1))
        await made.finished()
        assert made.script.applied == ["bad@1"]
        assert [each.stream for each in made.letters.written] == [None]


async def test_a_record_that_cannot_be_read_comes_after_what_its_key_said_before() -> None:
    """C9: a defect once parked its key while earlier messages of it waited for the store."""
    async with bench(50) as made:
        made.script.held.clear()
        made.accept(record_of("a", 0), record_of("a", 1), broken_record(b"a", 2))
        made.script.held.set()
        await made.finished()
        assert made.script.applied == ["a@0", "a@1"]
        assert [(each.record.offset, each.stream) for each in made.letters.written] == [
            (2, f"{TOPIC}/a")
        ]


async def test_a_surprise_has_its_attempts_and_then_is_a_dead_letter() -> None:
    async with bench(50) as made:
        made.script.fails = lambda each: ZeroDivisionError() if is_of(each, "odd") else None
        made.accept(record_of("odd", 0), record_of("even", 1))
        await made.finished()
        assert made.script.applied == ["even@1"]
        (letter,) = made.letters.written
        assert (letter.reason, letter.attempts) == ("ZeroDivisionError", ATTEMPTS)


async def test_what_was_handled_before_is_done() -> None:
    async with bench() as made:
        made.script.fails = lambda each: AlreadyHandled(each.id, None)
        made.accept(record_of("a", 0))
        await made.finished()
        assert (made.committable(), made.letters.written) == (1, [])


async def test_while_letters_cannot_be_written_nothing_is_committed_or_lost() -> None:
    """C10, with a stand-in for PostgreSQL."""
    async with bench() as made:
        made.letters.away = True
        made.script.fails = lambda _: BROKEN
        made.accept(record_of("a", 0))
        await until(lambda: refused(made, 5), WITHIN_SECONDS, 0.001)
        assert made.committable() == 0
        made.letters.away = False
        await made.finished()
        assert (made.committable(), len(made.letters.written)) == (1, 1)
        assert made.letters.written[0].attempts == 1, "an outage spends no attempt"


async def test_the_end_waits_for_what_runs_and_starts_nothing_more() -> None:
    """C5, with a stand-in for the group."""
    async with bench(side_by_side=1) as made:
        made.script.held.clear()
        made.accept(record_of("a", 0), record_of("b", 1))
        await until(lambda: called(made, 1), WITHIN_SECONDS, 0.001)
        ending = asyncio.create_task(made.assignment.end(WITHIN_SECONDS))
        await asyncio.sleep(0)
        assert not ending.done()
        made.script.held.set()
        await ending
        assert made.script.applied == ["a@0"]
        assert made.committable() == 1
        made.accept(record_of("c", 2))
        assert made.committable() == 1


async def test_the_end_gives_up_what_takes_too_long_and_commits_none_of_it() -> None:
    """C5, with a stand-in for the group."""
    async with bench() as made:
        made.script.held.clear()
        made.accept(record_of("a", 0))
        await until(lambda: called(made, 1), WITHIN_SECONDS, 0.001)
        await made.assignment.end(0.01)
        await made.assignment.wait_until_gone()
        assert made.committable() == 0
        assert (made.script.applied, made.script.running) == ([], 0)


async def dead_letter_two(made: Bench) -> None:
    """Let the first two records of key `a` fail for good, and nothing after them."""
    made.script.fails = lambda each: BROKEN if is_of(each, "a") else None
    made.accept(record_of("a", 0), record_of("a", 1))
    await made.finished()
    made.script.fails = lambda _: None


async def test_what_is_retried_frees_its_key_when_nothing_of_it_is_left() -> None:
    redelivery = MemoryRedelivery()
    async with bench(redelivery=redelivery) as made:
        await dead_letter_two(made)
        made.assignment.redeliver(redelivery.opens(retried("a", 0), retried("a", 1)))
        made.assignment.redeliver([retried("a", 0)])
        made.accept(record_of("a", 2))
        await made.finished()
        assert made.script.applied == ["a@0", "a@1", "a@2"]
        assert redelivery.done == [0, 1]


async def test_letters_are_redone_before_a_live_message_of_their_key() -> None:
    """C12: also if they were not handed to the assignment."""
    redelivery = MemoryRedelivery()
    async with bench(redelivery=redelivery) as made:
        await dead_letter_two(made)
        redelivery.opens(retried("a", 0), retried("a", 1))
        made.accept(record_of("a", 2), record_of("b", 3))
        await made.finished()
        assert made.script.of_key("a") == ["a@0", "a@1", "a@2"]


async def test_what_is_retried_and_fails_again_stays_parked() -> None:
    redelivery = MemoryRedelivery()
    async with bench(redelivery=redelivery) as made:
        made.script.fails = lambda _: BROKEN
        made.assignment.redeliver(redelivery.opens(retried("a", 0), retried("a", 1)))
        await until(lambda: settled(redelivery, 1), WITHIN_SECONDS, 0.001)
        made.script.fails = lambda _: None
        made.accept(record_of("a", 5))
        await made.finished()
        assert (redelivery.dead, redelivery.done, made.script.applied) == ([0], [], [])
        assert [each.waiting for each in made.letters.written] == [True]


async def test_a_bug_beside_the_reaction_is_told_and_commits_nothing() -> None:
    async with bench() as made:
        made.letters.write = None  # type: ignore[assignment, method-assign] # a bug
        made.accept(broken_record(b"a", 0))
        await until(lambda: has_error(made), WITHIN_SECONDS, 0.001)
        assert made.committable() == 0
        made.errors.clear()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("batch", [1, 5])
async def test_each_key_is_applied_in_order_and_once_through_any_failures(
    seed: int, batch: int
) -> None:
    """C11, C12, C13, with a stand-in: the store fails at random, and one key is parked."""
    rng = Random(seed)
    async with bench(batch, side_by_side=3) as made:
        made.script.fails = lambda each: (
            BROKEN if each.id.startswith("bad@1") else rng.choice([AWAY, None, None])
        )
        keys = [rng.choice(["a", "b", "c", "bad"]) for _ in range(60)]
        for offset, key in enumerate(keys):
            made.accept(record_of(key, offset))
        await made.finished()
        assert made.committable() == 60
        assert max(Counter(made.script.applied).values(), default=1) == 1
        letters = [each.record.offset for each in made.letters.written]
        applied = [int(each.partition("@")[2]) for each in made.script.applied]
        assert sorted(applied + letters) == list(range(60))
        for key in "abc":
            offsets = [offset for offset, its in enumerate(keys) if its == key]
            assert made.script.of_key(key) == [f"{key}@{offset}" for offset in offsets]
        assert letters == sorted(letters)


async def applied(made: Bench, count: int) -> bool:
    return len(made.script.applied) >= count


async def called(made: Bench, count: int) -> bool:
    return len(made.script.calls) >= count


async def refused(made: Bench, count: int) -> bool:
    return made.letters.refused >= count


async def settled(redelivery: MemoryRedelivery, count: int) -> bool:
    return len(redelivery.done) + len(redelivery.dead) >= count


async def has_error(made: Bench) -> bool:
    return bool(made.errors)


async def test_a_gap_is_counted_and_the_later_version_applied_all_the_same() -> None:
    """C15: an event carries the whole state."""
    async with bench() as made:
        made.accept(record_of("a", 0, version=1), record_of("a", 1, version=5))
        await made.finished()
        assert made.script.applied == ["a@0", "a@1"]
        assert made.applier.counts.gaps == 1
