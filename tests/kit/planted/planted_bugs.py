"""Planted bugs: the usual ways to get an outbox wrong, and the tests that catch each by name.

An id, `M05`, also stands in the docstring of the code that plants the bug.
"""

from dataclasses import dataclass

SWEEP = "tests/faults/relay/test_interleavings.py"
ORDER = "tests/faults/relay/test_order.py"
BROKER = "tests/faults/relay/test_broker.py"
LEASE = "tests/faults/relay/test_availability.py"
GRAPH = "tests/faults/neo4j/test_neo4j_writers.py"
COMMITS = "tests/faults/neo4j/test_neo4j_commits.py"
PLANTED = "tests/faults/harness/test_planted.py"
CONSUMERS = "tests/faults/harness/test_planted_consumers.py"
STORES = "tests/faults/harness/test_planted_stores.py"


@dataclass(frozen=True, slots=True)
class Bug:
    """A planted bug, and the tests that show it.

    `seen_as` is what the verdict then says. `caught_by` are the tests that catch the bug, and
    `right` is a test that does the same without the bug, and finds nothing wrong.
    """

    id: str
    name: str
    seen_as: str
    caught_by: tuple[str, ...]
    right: str


EVERY = f"{SWEEP}::test_in_every_interleaving_nothing_is_lost_doubled_reordered_or_torn"
WRITERS = f"{ORDER}::test_eight_writers_beside_open_transactions_lose_double_and_reorder_nothing"

BUGS = (
    Bug(
        "M01",
        "a position for a cursor",
        "lost",
        (
            f"{SWEEP}::test_a_position_cursor_is_caught_losing",
            f"{ORDER}::test_a_cursor_on_position_is_caught_losing",
        ),
        WRITERS,
    ),
    Bug(
        "M02",
        "a transaction horizon",
        "reordered",
        (
            f"{SWEEP}::test_a_transaction_horizon_is_caught_reordering",
            f"{ORDER}::test_a_transaction_horizon_is_caught_reordering",
        ),
        WRITERS,
    ),
    Bug(
        "M03",
        "a commit before the effect",
        "lost",
        (f"{CONSUMERS}::test_an_offset_that_is_committed_before_its_effect_is_caught_losing",),
        f"{CONSUMERS}::test_what_a_dead_consumer_had_received_is_done_by_the_next",
    ),
    Bug(
        "M04",
        "a client that commits by itself",
        "lost",
        (f"{CONSUMERS}::test_a_client_that_commits_by_itself_is_caught_losing",),
        f"{CONSUMERS}::test_what_a_dead_consumer_had_received_is_done_by_the_next",
    ),
    Bug(
        "M05",
        "no version guard in the store",
        "regressing",
        (f"{STORES}::test_a_write_without_a_version_guard_is_caught_regressing",),
        f"{STORES}::test_writers_that_race_end_at_the_highest_version",
    ),
    Bug(
        "M06",
        "no tombstone",
        "resurrecting",
        (f"{STORES}::test_a_delete_without_a_tombstone_is_caught_resurrecting",),
        f"{STORES}::test_what_is_deleted_stays_deleted",
    ),
    Bug(
        "M07",
        "SKIP LOCKED a row",
        "reordered",
        (f"{SWEEP}::test_workers_that_skip_locked_rows_are_caught_reordering",),
        EVERY,
    ),
    Bug(
        "M08",
        "marked before acknowledged",
        "lost",
        (f"{PLANTED}::test_progress_that_is_marked_before_it_is_acknowledged_is_caught_losing",),
        f"{PLANTED}::test_what_the_broker_did_not_acknowledge_is_sent_again",
    ),
    Bug(
        "M09",
        "a producer reused after a timeout",
        "doubled",
        (f"{BROKER}::test_a_producer_that_is_used_again_is_caught_repeating_itself",),
        f"{BROKER}::test_what_was_never_sent_does_not_come_twice",
    ),
    Bug(
        "M10",
        "no check of the term after a pause",
        "stale",
        (f"{LEASE}::test_a_relay_without_a_lease_check_is_caught_publishing_after_its_term",),
        f"{LEASE}::test_a_relay_that_was_blocked_past_its_lease_publishes_nothing_after_it",
    ),
    Bug(
        "M11",
        "an outbox in a second transaction",
        "torn",
        (
            f"{SWEEP}::test_an_outbox_in_a_second_transaction_is_caught_torn",
            f"{PLANTED}::test_a_unit_that_commits_before_it_says_so_is_caught_silent",
        ),
        f"{PLANTED}::test_a_unit_that_ends_before_its_commit_leaves_neither_row_nor_event",
    ),
    Bug(
        "M12",
        "a receipt after the effect",
        "doubled",
        (f"{CONSUMERS}::test_a_receipt_that_is_written_after_the_effect_is_caught_doubling",),
        f"{CONSUMERS}::test_a_command_that_comes_again_is_not_done_again",
    ),
    Bug(
        "M13",
        "a dead letter that nobody waits for",
        "lost",
        (f"{CONSUMERS}::test_a_dead_letter_that_nobody_waits_for_is_caught_lost",),
        f"{CONSUMERS}::test_while_a_dead_letter_cannot_be_written_nothing_is_committed",
    ),
    Bug(
        "M14",
        "a write that is not waited for",
        "lost",
        (f"{STORES}::test_a_write_that_is_not_waited_for_is_caught_losing",),
        f"{STORES}::test_what_counts_as_applied_is_there",
    ),
    Bug(
        "M15",
        "a MERGE without the constraint",
        "duplicated",
        (f"{GRAPH}::test_a_merge_without_the_constraint_is_caught_making_duplicates",),
        f"{GRAPH}::test_writers_that_create_a_key_at_once_make_one_node",
    ),
    Bug(
        "M16",
        "a message inserted before the lock",
        "reordered",
        (
            f"{SWEEP}::test_a_message_that_is_inserted_before_the_lock_is_caught_reordering",
            f"{SWEEP}::test_a_position_that_is_drawn_before_the_lock_is_caught_reordering",
        ),
        f"{SWEEP}::test_what_has_waited_for_a_head_stands_behind_all_that_its_holder_has_said",
    ),
    Bug(
        "M18",
        "a record that is too large, swallowed",
        "lost",
        (f"{CONSUMERS}::test_a_record_whose_size_is_swallowed_is_caught_lost",),
        f"{CONSUMERS}::test_a_record_that_did_not_fit_once_is_not_passed_over",
    ),
    Bug(
        "M20",
        "a repeated commit that counts as a failure",
        "parked",
        (
            f"{COMMITS}::"
            "test_a_repeated_commit_that_counts_as_a_failure_is_caught_parking_what_was_applied",
        ),
        f"{COMMITS}::test_a_lost_answer_to_a_commit_is_an_outage_and_its_repetition_one_effect",
    ),
    Bug(
        "M21",
        "the order of creation",
        "reordered",
        (f"{SWEEP}::test_an_order_of_creation_is_caught_reordering",),
        EVERY,
    ),
)
