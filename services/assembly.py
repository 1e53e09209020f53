"""Assembly: puts the services together from settings; the roles and the tests start here."""

from collections.abc import Callable

from qdrant_client import AsyncQdrantClient

from outbox.write.database import Database
from schemas.catalog import CatalogCommandRejected
from services.catalog.embedder import MODELS, WordLlamaEmbedder
from services.catalog.handlers import HANDLERS, Context
from services.catalog.routes import Api
from services.catalog.search import Search
from services.dispatcher import Dispatcher
from services.prefer_wait import AwaitedStores
from services.qdrant import connect
from services.settings import Settings

Connect = Callable[[], AsyncQdrantClient]


def qdrant(settings: Settings) -> AsyncQdrantClient:
    """A client of the search store; DependencyDown where a local folder cannot be opened."""
    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    return connect(settings.qdrant_url, key, settings.qdrant_timeout_seconds)


def embedder_of(settings: Settings) -> WordLlamaEmbedder:
    """The embedder of the model that the settings choose; it knows the other models too."""
    return WordLlamaEmbedder(MODELS[settings.embedding_dimension])


def catalog(
    database: Database,
    connect_qdrant: Connect,
    embedder: WordLlamaEmbedder,
    stores: AwaitedStores | None = None,
) -> Api:
    """The catalog service over this database and search store; a write can wait for `stores`."""
    search = Search(connect_qdrant, embedder)
    dispatcher = Dispatcher(
        database, Context(database, search), HANDLERS, rejection=CatalogCommandRejected
    )
    return Api(dispatcher, search, stores)
