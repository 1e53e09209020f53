"""Addresses: the forms of POSTGRES_URL, QDRANT_URL and NEO4J_URL.

Each is read once, at the start. An address that breaks a rule is refused with the rule and without
the value, since a password that was not percent-encoded may stand anywhere in it. The host, port
and database of an address that passes can be shown: no part of a password can be among them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from outbox.secret import keep_secret

POSTGRES_RULE = (
    "must be postgresql://user@host:port/database or host=… dbname=…, as libpq reads it; in a URL,"
    " @ : / ? # % and spaces in a user or a password are percent-encoded"
)
QDRANT_RULE = (
    "must be http://host:port or https://host:port, perhaps with a path, or file:FOLDER, or"
    " :memory:; a key belongs into QDRANT_API_KEY"
)
NEO4J_RULE = (
    "must be bolt://host:port or neo4j://host:port, or one of them with +s or +ssc; user and"
    " password belong into NEO4J_USER and NEO4J_PASSWORD"
)

HOST = re.compile(r"[\w.-]+|\[[0-9a-fA-F:.%\w]+\]")
SERVER = re.compile(r"[\w.:%-]+")  # a host of PostgreSQL: IPv6 addresses come without brackets
HIGHEST_PORT = 65_535
SECRETS = (
    "password",
    "sslpassword",
    "oauth_client_secret",
    "scram_client_key",
    "scram_server_key",
)
GRAPH_SCHEME = re.compile(r"(bolt|neo4j)(\+s|\+ssc)?")
MAY_HOLD_AN_AT = frozenset({"user", "options", "application_name", "passfile", "dbname", *SECRETS})


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """The address of a PostgreSQL as libpq's keywords and values, in whichever form it came."""

    values: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address; ValueError, with the rule alone, where libpq fails or misreads it."""
        text = to_libpq_form(text)
        try:
            values = {name: str(value) for name, value in conninfo_to_dict(text).items()}
        except (psycopg.Error, ValueError):  # its text would repeat the value
            raise ValueError(POSTGRES_RULE) from None
        if not _is_read_as_meant(text, values):
            raise ValueError(POSTGRES_RULE)
        return cls(values)

    def conninfo(self, **changes: str | int | None) -> str:
        """Return a connection string, with some values changed; it may hold a password."""
        return make_conninfo("", **{**self.values, **changes})

    def keep_secrets(self) -> None:
        """Register its secrets, so that no error shows them; call this before connecting."""
        for name in SECRETS:
            keep_secret(self.values.get(name))

    def __str__(self) -> str:
        """Return hosts, ports and database, which are safe to print."""
        hosts = self.values.get("host") or self.values.get("hostaddr") or "localhost"
        ports = self.values.get("port")
        return f"postgresql://{hosts}{f':{ports}' if ports else ''}/{self.values.get('dbname', '')}"


def to_libpq_form(text: str) -> str:
    """Return the address as libpq reads it, also when it was given in SQLAlchemy's form."""
    return text.replace("postgresql+psycopg://", "postgresql://", 1)


def check_postgres(text: str) -> str:
    """Return the same text; ValueError where it is no address of a PostgreSQL."""
    PostgresAddress.parse(text)
    return text


def check_qdrant(text: str) -> str:
    """Return the same text; ValueError where no client of Qdrant could be made from it."""
    if text == ":memory:" or (text.startswith("file:") and text != "file:" and "\0" not in text):
        return text
    parts = _split_url(text, QDRANT_RULE)
    if parts.scheme not in ("http", "https") or parts.query:
        raise ValueError(QDRANT_RULE)
    return text


def check_neo4j(text: str) -> str:
    """Return the same text; ValueError where no driver of Neo4j could be made from it."""
    parts = _split_url(text, NEO4J_RULE)
    scheme = GRAPH_SCHEME.fullmatch(parts.scheme)
    routed = scheme is not None and scheme[1] == "neo4j"  # only this scheme takes a routing context
    if scheme is None or parts.path not in ("", "/") or (parts.query and not routed):
        raise ValueError(NEO4J_RULE)
    return text


def _split_url(text: str, rule: str) -> SplitResult:
    """Split the URL of a host; ValueError with the rule where it has a user or a fragment.

    The rest of a password behind a stray @, # or ? would be taken for the path or the query.
    """
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError(rule)  # urlsplit would silently drop some of them
    try:
        parts = urlsplit(text)
        ok = HOST.fullmatch(parts.netloc.rpartition(":")[0] if _has_port(parts) else parts.netloc)
    except ValueError:
        raise ValueError(rule) from None
    if not ok or "@" in text or parts.fragment or "#" in text or parts.port == 0:
        raise ValueError(rule)
    return parts


def _has_port(parts: SplitResult) -> bool:
    return parts.port is not None


def _is_read_as_meant(text: str, values: Mapping[str, str]) -> bool:
    """Return whether no part of a password can have become a host, a port or a database.

    libpq ends the user and the password of a URL at the first / or @. One that is not encoded cuts
    the password in two, and an error of the connection would repeat the second half.
    """
    is_url = text.startswith(("postgresql://", "postgres://"))
    if is_url and "@" in text.partition("://")[2].partition("/")[2].partition("?")[0]:
        return False
    if any("@" in value for name, value in values.items() if name not in MAY_HOLD_AN_AT | {"host"}):
        return False
    hosts, ports = values.get("host", "").split(","), values.get("port", "").split(",")
    return (
        all(_is_server(host, is_url=is_url) for host in hosts)
        and all(SERVER.fullmatch(address) for address in _split_list(values.get("hostaddr")))
        and all(port == "" or _is_port(port) for port in ports)
        and len(ports) in (1, max(len(hosts), len(_split_list(values.get("hostaddr")))))
    )


def _is_server(host: str, *, is_url: bool) -> bool:
    """Return whether it is a name, an address, a socket's folder, an abstract socket, or ""."""
    if host.startswith("/"):
        return "@" not in host
    if host.startswith("@"):
        return not is_url
    return host == "" or SERVER.fullmatch(host) is not None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 1 <= int(text) <= HIGHEST_PORT


def _split_list(text: str | None) -> list[str]:
    return [each for each in (text or "").split(",") if each]
