"""Odd defaults that an administrator may give a database, and that must change nothing for us.

With TEST_DATABASE_DEFAULTS=odd each database and cluster of a test has them (`make test-defaults`).
The sessions of the product fix what they need in outbox.postgres.connection. Sessions that a test
opens with psycopg itself keep the usual values, as in any other run.
"""

import os
from functools import partial
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from outbox.postgres.connection import Session

ODD = {
    "client_encoding": "LATIN1",
    "datestyle": "German",
    "timezone": "Asia/Kathmandu",
    "default_transaction_isolation": "serializable",
}
USUAL = (
    r"-c client_encoding=UTF8 -c datestyle=ISO,MDY -c timezone=UTC"
    r" -c default_transaction_isolation=read\ committed"
)


def are_odd() -> bool:
    return os.environ.get("TEST_DATABASE_DEFAULTS") == "odd"


def odd() -> dict[str, str]:
    """Return the odd settings of a server, if this run wants them."""
    return ODD if are_odd() else {}


def alter(connection: psycopg.Connection, database: str) -> None:
    for name, value in odd().items():
        connection.execute(f"ALTER DATABASE {database} SET {name} = '{value}'".encode())


def keep_the_tests_own_sessions_usual() -> None:
    """Patch psycopg's own connection classes so that their sessions keep the usual values."""
    for kind in (psycopg.Connection, psycopg.AsyncConnection):
        original = kind.__dict__["connect"].__func__
        setattr(kind, "connect", classmethod(partial(_connect, original)))  # noqa: B010 - a method
    psycopg.connect = psycopg.Connection.connect


def _connect(original: Any, kind: Any, conninfo: str = "", **options: Any) -> Any:
    if (
        issubclass(kind, Session)
        or "options" in options
        or conninfo_to_dict(conninfo).get("options")
    ):
        return original(kind, conninfo, **options)
    return original(kind, conninfo, options=USUAL, **options)
