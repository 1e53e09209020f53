"""Statements: a connection through a proxy is cut at the n-th statement that it sends.

Every message that runs a statement counts, and so BEGIN, COMMIT and ROLLBACK count, too.
"""

from tests.kit.proxies.postgres_proxy import QUERY, CuttingProxy, PostgresWire
from tests.kit.proxies.proxy import Connection, Wire

BIND, READY = b"B", b"Z"


class StatementProxy(CuttingProxy):
    """A proxy in front of a PostgreSQL server; clients must not encrypt (`url_through`)."""

    def wire(self, connection: Connection) -> Wire:
        return StatementWire(self, connection)


class StatementWire(PostgresWire):
    """Takes one connection apart into messages; once it is cut, nothing passes any more."""

    def _counts(self, message: bytes) -> bool:
        return message[:1] in (QUERY, BIND)

    def _answers(self, message: bytes) -> bool:
        return message[:1] == READY
