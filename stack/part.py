"""One part of a machine, as its users see it."""

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from outbox.environment.postgres_address import PostgresAddress

PartName = Literal["postgres", "kafka", "graph", "qdrant"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part that answered at its `url` when this value was made.

    `url` may carry a password when it came from the environment: it is left out of `repr`; show
    `address` instead. `pid` is the server's process, None when it is not ours or is a library.
    `stand_in` is True for something that speaks the protocol but is not the real product.
    """

    name: PartName
    provider: str
    url: str = field(repr=False)
    pid: int | None = None
    stand_in: bool = False

    @property
    def address(self) -> str:
        """The URL without user, password and query: safe to print."""
        if self.name == "postgres":
            return str(PostgresAddress.parse(self.url))
        parts = urlsplit(self.url)
        if not parts.hostname:
            return self.url  # host:port, or a folder: neither has a place for a secret
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(frozen=True, kw_only=True)
class GraphPart(Part):
    """The graph: reached by the official neo4j driver with this user, password and database."""

    user: str
    password: SecretStr
    database: str


@dataclass(frozen=True, kw_only=True)
class VectorsPart(Part):
    """Qdrant. In local mode `url` is `file:` and a folder, or `:memory:` (see vectors.connect)."""

    api_key: SecretStr | None = None
