"""Checks of sessions: whether one has what ours fix, and which defaults reach other programs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from outbox.doctor.diagnosis import Check, CheckResult, SeverityPolicy, judge_each
from outbox.postgres.connection import FIXED
from outbox.settings import Settings

SESSION = Check(
    "postgres-session",
    SeverityPolicy.FATAL,
    "a session of ours has the encoding, date style, time zone and isolation level that it fixes,"
    " whatever the defaults are: others would alter what is published, or how it is read",
    "look at what stands between us and PostgreSQL: it changes what a client asks for",
)
DEFAULTS = Check(
    "postgres-session-defaults",
    SeverityPolicy.MILD,
    "no role and not this database has a default that alters what other programs write here, or"
    " keeps writers out: our own sessions do not follow it, but for default_transaction_read_only",
    "ALTER ROLE ... RESET <setting>, or ALTER DATABASE ... RESET <setting>",
)
CHECKS = (SESSION, DEFAULTS)

# Date style and time zone are left out: a program that reads either as text knows what it wants.
USUAL = {
    "client_encoding": ("utf8", "unicode", "utf-8"),
    "standard_conforming_strings": ("on", "true", "yes", "1"),
    "default_transaction_isolation": ("read committed",),
    "default_transaction_read_only": ("off", "false", "no", "0"),
}
# The search path is not asked: POSTGRES_URL may name another one on purpose.
ASKED = [name for name in FIXED if name != "search_path"]
READ = "SELECT name, current_setting(name) FROM unnest(%(names)s::text[]) AS name"
READ_DEFAULTS = """
SELECT coalesce('role ' || rolname, 'every role') || ' in '
           || coalesce('database ' || datname, 'every database'),
       split_part(entry, '=', 1), substr(entry, strpos(entry, '=') + 1)
FROM pg_db_role_setting
CROSS JOIN unnest(setconfig) AS entry
LEFT JOIN pg_roles ON pg_roles.oid = setrole
LEFT JOIN pg_database ON pg_database.oid = setdatabase
WHERE split_part(entry, '=', 1) = ANY (%(names)s)
  AND coalesce(datname, current_database()) = current_database()
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Defaults:
    """`here` has the values of this session; `given` are triples of whose default, name, value."""

    here: dict[str, str]
    given: list[tuple[str, str, str]]


async def read(connection: psycopg.AsyncConnection[Any]) -> Defaults:
    here = await (await connection.execute(READ, {"names": ASKED})).fetchall()
    given = await (await connection.execute(READ_DEFAULTS, {"names": list(USUAL)})).fetchall()
    return Defaults(dict(here), given)


def judge(defaults: Defaults, settings: Settings) -> Iterator[CheckResult]:
    other = [
        (name, f"{defaults.here.get(name)}, and not {FIXED[name]}")
        for name in ASKED
        if defaults.here.get(name) != FIXED[name]
    ]
    yield from judge_each(SESSION, settings, other, "it has what it fixes")
    odd = [
        (whose, f"{name} = {value}")
        for whose, name, value in defaults.given
        if value.strip("'\"").lower() not in USUAL[name]
    ]
    yield from judge_each(DEFAULTS, settings, odd, "none that reaches other programs")
