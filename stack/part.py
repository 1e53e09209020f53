"""Part: one server of a machine, as its clients see it."""

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from outbox.environment.postgres_address import PostgresAddress

PartName = Literal["postgres", "kafka", "graph", "qdrant"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part that answered at its `url` when this value was made.

    `url` may carry a password when it came from the environment, so `repr` leaves it out; show
    `address` instead. `pid` is the server's process, and None when the process is not ours or the
    part is a library. `stand_in` is True for something that speaks the protocol but is not the
    real product.
    """

    name: PartName
    provider: str
    url: str = field(repr=False)
    pid: int | None = None
    stand_in: bool = False

    @property
    def address(self) -> str:
        """Return the URL without user, password and query: it is safe to print."""
        if self.name == "postgres":
            return str(PostgresAddress.parse(self.url))
        parts = urlsplit(self.url)
        if not parts.hostname:
            return self.url  # host:port, or a folder: neither has a place for a secret
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(frozen=True, kw_only=True)
class GraphPart(Part):
    """The graph, which the official neo4j driver reaches with this user, password and database."""

    user: str
    password: SecretStr
    database: str


@dataclass(frozen=True, kw_only=True)
class VectorsPart(Part):
    """Qdrant. In local mode `url` is `file:` and a folder, or `:memory:` (see vectors.connect)."""

    api_key: SecretStr | None = None
