"""FA3: what an error of PostgreSQL is about; a dependency failure never blames the message."""

import psycopg
import pytest
from psycopg.errors import lookup
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from consumers.runner.failures import Failure, classify
from outbox.errors import (
    Contention,
    DependencyDown,
    Halted,
    InvalidInput,
    OutboxError,
    SchemaBehind,
    StoreUnfit,
    build_rejection,
    to_outbox_error,
    translate_errors,
)
from outbox.sqlstate import CLASSES, CODES, Meaning, meaning_of


def codes(words: str) -> list[str]:
    return words.split()


# All codes of PostgreSQL's Appendix A that psycopg knows.
KNOWN = sorted({kind.sqlstate for kind in psycopg.errors._sqlcodes.values() if kind.sqlstate})
WORLD = codes("""
    08000 08001 08003 08004 08006 08007 08P01 2200H 25006 25P03 25P04 28000 28P01 3D000 3F000 40003
    42501 53000 53100 53200 53300 53400 55000 55006 55P02 57000 57014 57P01 57P02 57P03 57P04 57P05
    58000 58030 58P01 58P02 F0000 F0001 HV000 HV001 HV00L HV00N XX001 XX002
""")
AGAIN = codes("26000 40000 40001 40P01 42P05 55P03 72000")
DEFECTS = codes("""
    0A000 21000 22001 22003 22007 22012 22021 22023 22030 22P02 22P05 23502 23503 23505 23514 23P01
    25000 25001 25P01 25P02 34000 3B001 40002 42601 42703 42804 42883 42P01 42P07 44000 54000 54001
    54011 HV004 P0001 XX000
""")


def of(state: str) -> psycopg.Error:
    error = lookup(state)("as the server says it")
    assert error.sqlstate == state
    return error


@pytest.mark.parametrize(
    ("states", "meaning"),
    [(WORLD, Meaning.DEPENDENCY), (AGAIN, Meaning.AGAIN), (DEFECTS, Meaning.DEFECT)],
)
def test_each_code_means_the_world_another_run_or_a_defect(
    states: list[str], meaning: Meaning
) -> None:
    assert {state: meaning_of(of(state)) for state in states} == dict.fromkeys(states, meaning)


def test_each_class_that_postgresql_has_was_decided() -> None:
    assert {state[:2] for state in KNOWN} <= CLASSES.keys()
    assert {state[:2] for state in CODES} <= CLASSES.keys()


@pytest.mark.parametrize("state", WORLD)
def test_a_code_of_the_world_waits_and_spends_no_attempt(state: str) -> None:
    meant = to_outbox_error(DBAPIError("SELECT", {}, of(state)))
    assert isinstance(meant, DependencyDown)
    assert classify(meant) is Failure.DEPENDENCY


LOST: list[Exception] = [
    psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly"),
    psycopg.OperationalError("consuming input failed: SSL SYSCALL error: EOF detected"),
    psycopg.OperationalError("the connection was lost"),
    psycopg.errors.ConnectionTimeout("connection timeout expired"),
    psycopg.errors.CancellationTimeout("cancellation timeout expired"),
    psycopg.errors.PipelineAborted("pipeline aborted"),
    psycopg.InterfaceError("the connection is closed"),
    psycopg.DatabaseError("no result, and no code: libpq's own words"),
    OperationalError("COMMIT", {}, psycopg.OperationalError("the connection is closed")),
    PendingRollbackError("Can't reconnect until invalid transaction is rolled back.", code="8s2b"),
    PoolTimeout("QueuePool limit of size 10 overflow 0 reached"),
]


@pytest.mark.parametrize("error", LOST, ids=str)
def test_a_lost_connection_is_an_outage_whatever_has_noticed_it(error: Exception) -> None:
    with pytest.raises(DependencyDown), translate_errors():
        raise error


OURS: list[Exception] = [
    psycopg.ProgrammingError("cannot adapt type 'object'"),
    psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"),
    psycopg.NotSupportedError("not with this libpq"),
    PendingRollbackError("This Session's transaction has been rolled back", code="7s2a"),
    ValueError("a bug"),
    TimeoutError(),
]


@pytest.mark.parametrize("error", OURS, ids=str)
def test_what_is_no_error_of_the_servers_passes_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, translate_errors():
        raise error
    assert raised.value is error


def chained(first: Exception, *, explicitly: bool) -> Exception:
    """Return the error of a handler that has caught `first`."""
    try:
        try:
            raise first
        except Exception as error:
            if explicitly:
                raise KeyError("a handler's own word") from error
            raise KeyError("a handler's own word")  # noqa: B904 - like a careless handler
    except KeyError as error:
        return error


@pytest.mark.parametrize("explicitly", [True, False])
@pytest.mark.parametrize(
    ("state", "kind"), [("57014", DependencyDown), ("40001", Contention), ("55P03", Contention)]
)
def test_the_world_shows_through_what_a_handler_made_of_it(
    state: str, kind: type[OutboxError], explicitly: bool
) -> None:
    own = chained(of(state), explicitly=explicitly)
    assert type(to_outbox_error(own)) is kind
    assert type(to_outbox_error(ExceptionGroup("a task group", [ValueError(), own]))) is kind


def test_an_outage_counts_before_contention_and_keeps_its_name() -> None:
    both = ExceptionGroup("two", [of("40001"), DependencyDown("qdrant", "away")])
    meant = to_outbox_error(both)
    assert isinstance(meant, DependencyDown)
    assert meant.dependency == "qdrant"


@pytest.mark.parametrize(
    "error",
    [
        build_rejection("not-found", "item_id", "must be there"),
        Halted("an operator is needed"),
        InvalidInput("replay", "id", "must be that of a replay"),
        StoreUnfit("no collection"),
        SchemaBehind("a migration is missing"),
    ],
)
def test_what_was_decided_stays_as_it_was_decided(error: Exception) -> None:
    error.__cause__ = of("57014")
    assert to_outbox_error(error) is None
    assert to_outbox_error(chained(error, explicitly=True)) is None


def test_a_suppressed_cause_is_not_looked_at() -> None:
    try:
        try:
            raise of("57014")
        except psycopg.Error:
            raise KeyError("on purpose") from None
    except KeyError as error:
        assert to_outbox_error(error) is None


def test_errors_that_cause_each_other_come_to_an_end() -> None:
    one, other = ValueError(1), ValueError(2)
    one.__cause__, other.__cause__ = other, one
    assert to_outbox_error(one) is None
