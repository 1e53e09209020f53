"""Examination: asks PostgreSQL and Kafka every question of doctor, one after another.

A question that is not answered becomes warnings, and does not keep others from being asked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import psycopg

from outbox.cursor.database_identity import read_identity
from outbox.doctor import (
    brokers,
    limits,
    progress,
    publications,
    schema,
    server,
    session,
    topics,
    transactions,
)
from outbox.doctor.diagnosis import Check, CheckResult, Diagnosis, SeverityPolicy, report_unanswered
from outbox.errors import OutboxError, translate_errors
from outbox.kafka import ClusterState, describe_cluster
from outbox.postgres.connection import connect
from outbox.relay.partition_counts import count_keys_without_topic, read_needed_topics, read_topics
from outbox.runtime.cancellation import wait_until_ended
from outbox.settings import Settings
from schemas.registry import REGISTRY

R = TypeVar("R")
T = TypeVar("T")
Connection = psycopg.AsyncConnection[Any]

# What becomes a finding; any other error is a defect of doctor itself, and may show as one.
REPORTED = (psycopg.Error, OutboxError, LookupError, TimeoutError)

REACHABLE = Check(
    "postgres-reachable",
    SeverityPolicy.FATAL,
    "PostgreSQL takes this role's connection: without it nothing can be written or published",
    "set POSTGRES_URL, and look whether the server is up and pg_hba.conf lets the role in",
)


@dataclass(frozen=True, slots=True)
class Question(Generic[R]):
    """The checks that one reading answers: how it is read, and how it is judged."""

    checks: tuple[Check, ...]
    read: Callable[[Connection], Coroutine[Any, Any, R]]
    judge: Callable[[R, Settings], Iterable[CheckResult]]

    async def ask(self, connection: Connection, settings: Settings) -> list[CheckResult]:
        """Return the findings; warnings where there is no answer: no rights, a lock, no table."""
        try:
            reading = await wait_within(settings.doctor_timeout_seconds, self.read(connection))
        except REPORTED as error:
            return report_unanswered(self.checks, describe_error(error))
        return list(self.judge(reading, settings))


QUESTIONS: tuple[Question[Any], ...] = (
    Question(server.CHECKS, server.read, server.judge),
    Question(session.CHECKS, session.read, session.judge),
    Question(transactions.CHECKS, transactions.read, transactions.judge),
    Question(limits.CHECKS, limits.read, limits.judge),
    Question(schema.CHECKS_OF_MIGRATIONS, schema.read_migrations, schema.judge_migrations),
    Question(schema.CHECKS_OF_RIGHTS, schema.read_rights, schema.judge_rights),
    Question(schema.CHECKS_OF_PARTITIONS, schema.read_partitions, schema.judge_partitions),
    Question(publications.CHECKS, publications.read, publications.judge),
    Question(progress.CHECKS_OF_IDENTITY, read_identity, progress.judge_database_identity),
    Question(progress.CHECKS, progress.read, progress.judge),
)
CHECKS: tuple[Check, ...] = (
    REACHABLE,
    *(check for question in QUESTIONS for check in question.checks),
    *brokers.CHECKS,
    *topics.CHECKS,
)


@dataclass(frozen=True, slots=True)
class PostgresExamination:
    """What PostgreSQL answered: its findings, and what it knows of topics (None: no answer).

    `recorded` are the partition counts of topics, `needed` the topics that messages go to, and
    `waiting` the number of keys that wait for a topic to be made.
    """

    findings: list[CheckResult]
    recorded: Mapping[str, int] | None = None
    needed: Set[str] | None = None
    waiting: Mapping[str, int] | None = None


async def diagnose(settings: Settings) -> Diagnosis:
    """Ask PostgreSQL and Kafka everything; it changes nothing, and raises no error of theirs."""
    postgres = await examine_postgres(settings)
    kafka = await examine_kafka(settings, postgres)
    return Diagnosis(settings.profile, [*postgres.findings, *kafka])


async def examine_postgres(settings: Settings) -> PostgresExamination:
    """Ask PostgreSQL every question, over a connection of its own."""
    try:
        connection = await wait_within(settings.doctor_timeout_seconds, _connect(settings))
    except REPORTED as error:
        return PostgresExamination([REACHABLE.failure(describe_error(error))])
    try:
        findings = [REACHABLE.ok(f"database {connection.info.dbname} as {connection.info.user}")]
        for question in QUESTIONS:
            findings += await question.ask(connection, settings)
        return PostgresExamination(
            findings,
            recorded=await _ask(settings, read_topics(connection)),
            needed=await _ask(settings, read_needed_topics(connection)),
            waiting=await _ask(settings, count_keys_without_topic(connection)),
        )
    finally:
        await connection.close()


async def examine_kafka(settings: Settings, postgres: PostgresExamination) -> list[CheckResult]:
    """Ask the brokers, and judge their topics by what PostgreSQL knows of them."""
    try:
        cluster = await describe_cluster(
            settings.kafka_url,
            {*REGISTRY.topics(), *(postgres.recorded or {}), *(postgres.needed or ())},
            topics.SETTINGS,
            brokers.SETTINGS,
            settings.doctor_timeout_seconds,
        )
    except OutboxError as error:
        return [
            brokers.REACHABLE.failure(describe_error(error)),
            *brokers.judge_plaintext([], settings),
        ]
    return list(_judge_cluster(cluster, postgres, settings))


def _judge_cluster(
    cluster: ClusterState, postgres: PostgresExamination, settings: Settings
) -> Iterable[CheckResult]:
    yield from brokers.judge_reachable(cluster)
    yield from brokers.judge_plaintext(cluster.brokers, settings)
    yield from brokers.judge_auto_create(cluster, settings)
    yield from topics.judge(cluster, postgres.recorded, settings, postgres.waiting)


async def _connect(settings: Settings) -> Connection:
    with translate_errors():
        return await connect(settings, "doctor")


async def _ask(settings: Settings, asking: Coroutine[Any, Any, T]) -> T | None:
    """Return the answer; None where there is none, which the checks that need it report."""
    with suppress(*REPORTED):
        return await wait_within(settings.doctor_timeout_seconds, asking)
    return None


async def wait_within(seconds: float, asking: Awaitable[T]) -> T:
    """Return the result, or raise TimeoutError; the work has ended in any case."""
    task = asyncio.ensure_future(asking)
    try:
        await asyncio.wait({task}, timeout=seconds)
        timed_out = not task.done()
    finally:
        await wait_until_ended(task, patience_seconds=0)
    if timed_out:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return task.result()


def describe_error(error: BaseException) -> str:
    """Return the first line of its text, or its class."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
