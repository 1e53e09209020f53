"""The errors of Qdrant's client, translated into ours in one place.

A request that Qdrant itself refuses becomes QdrantRefused. Who is at fault is not decided here: it
may be a point, the collection or the request. Everything else becomes DependencyDown. That includes
what a proxy answers in Qdrant's place: its pages look like answers, and say nothing of a message.

Weakness: only errors of REST are translated, not those of gRPC.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from json import JSONDecodeError

import orjson
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from outbox.errors import DependencyDown, StoreUnfit
from outbox.secret import without_secrets

MINIMUM = (1, 19)  # older servers may resurrect deleted points when they replay their log
MISSING, CONFLICT, TOO_LARGE = 404, 409, 413
REFUSALS = frozenset({400, MISSING, CONFLICT, TOO_LARGE, 422})


class QdrantRefused(Exception):
    """Qdrant refused a request, which cannot succeed as it is.

    `status` is the HTTP status, or None where no server was asked. `by_store` is false where a
    proxy before Qdrant found the request too large.
    """

    def __init__(self, said: str, status: int | None = None, *, by_store: bool = True) -> None:
        super().__init__(without_secrets(said))
        self.status = status
        self.by_store = by_store

    @property
    def may_be_a_point(self) -> bool:
        """Whether smaller requests could show that a single point is at fault."""
        return self.status not in (MISSING, CONFLICT)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise DependencyDown or QdrantRefused for the errors of the client."""
    try:
        yield
    except UnexpectedResponse as error:
        raise _translate_answer(error) from error
    except ResponseHandlingException as error:
        raise DependencyDown("qdrant", error.source) from error
    except (QdrantException, sqlite3.OperationalError, OSError) as error:
        raise DependencyDown("qdrant", error) from error
    except (
        JSONDecodeError,
        UnicodeDecodeError,
        AssertionError,
    ) as error:  # not an answer of Qdrant
        raise DependencyDown("qdrant", error) from error
    except ValueError as error:  # local mode says 4xx so; or the client cannot encode it
        raise QdrantRefused(str(error)) from error


def is_server(client: AsyncQdrantClient) -> bool:
    """Whether the client talks to a server, and not to local mode."""
    options = client.init_options
    return options.get("location") != ":memory:" and options.get("path") is None


async def require_version(client: AsyncQdrantClient) -> None:
    """Raise StoreUnfit where the server is older than MINIMUM, or does not say how old it is."""
    with translate_errors():
        version = (await client.info()).version
    try:
        known = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        known = ()
    if known < MINIMUM:
        least = ".".join(map(str, MINIMUM))
        raise StoreUnfit(f"qdrant is {version[:50]}: upgrade the server to {least} or newer")


def require_completed(results: Sequence[models.UpdateResult], operations: int) -> None:
    """Raise DependencyDown unless each operation has the result `completed`.

    A missing result, `acknowledged` and `wait_timeout` do not say that the write was done, so it
    must be repeated.
    """
    if len(results) != operations:
        raise DependencyDown("qdrant", f"{len(results)} results of {operations} writes")
    for result in results:
        if result.status != models.UpdateStatus.COMPLETED:
            raise DependencyDown("qdrant", f"a write is {result.status.value}, not completed")


def _translate_answer(error: UnexpectedResponse) -> Exception:
    reason = _read_reason(error.content)
    if error.status_code in REFUSALS and reason is not None:
        return QdrantRefused(
            f"{error.status_code} {without_secrets(reason)[:300]}", error.status_code
        )
    page = without_secrets(error.content.decode(errors="replace"))[:200]  # or half of one is left
    said = f"{error.status_code} {error.reason_phrase} {page}"
    if error.status_code == TOO_LARGE:
        return QdrantRefused(said, TOO_LARGE, by_store=False)
    return DependencyDown("qdrant", said)


def _read_reason(content: bytes) -> str | None:
    """The reason in Qdrant's refusal, `{"status": {"error": …}}`; None for any other page."""
    try:
        reason = orjson.loads(content)["status"]["error"]
    except (ValueError, TypeError, KeyError, IndexError):
        return None
    return reason if isinstance(reason, str) else None
