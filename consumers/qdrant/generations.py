"""Generations in Qdrant: collections `NAME-1`, `NAME-2`, … and the alias NAME on the live one.

A collection keeps the name of the model that made its vectors, and searches and writes embed with
that model. One request moves the alias; the server carries it out as a whole.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from qdrant_client import AsyncQdrantClient, models

from consumers.projections.generations import Generation
from consumers.projections.projection import Change, Projection
from consumers.qdrant.collection import MODEL, describe_collection
from consumers.qdrant.embedding import Embedder
from consumers.qdrant.errors import QdrantRefused, is_server, require_version, translate_errors
from consumers.qdrant.projection import QdrantProjection
from outbox.errors import DependencyDown, Halted, StoreUnfit

NUMBER = re.compile(r"[1-9][0-9]{0,8}")

MakeProjection = Callable[[str, Embedder], QdrantProjection]
Embedders = Callable[[str], Embedder]


class QdrantGenerations:
    """The Generations of a projection in Qdrant.

    `make_projection` makes the projection over a collection. `embedders` gives the embedder of a
    model's name, or raises StoreUnfit. `model` is the model of a first generation.
    """

    name = QdrantProjection.name

    def __init__(
        self,
        client: AsyncQdrantClient,
        alias: str,
        make_projection: MakeProjection,
        embedders: Embedders,
        model: str,
    ) -> None:
        self.alias = alias
        self._client = client
        self._make_projection = make_projection
        self._embedders = embedders
        self._model = model
        self._opened: dict[str, QdrantProjection] = {}
        made = make_projection(alias, embedders(model))
        self.aggregates, self.topics = made.aggregates, made.topics

    async def prepare(self) -> None:
        """Make the first generation where there is none, and prepare the live one.

        Raises StoreUnfit where a collection has the alias's own name.
        """
        if is_server(self._client):
            await require_version(self._client)
        if await self._read_live_name() is None:
            await self._require_free_name()
            await self.create(1, self._model)
            await self._move_alias(1)
        await (await self.live()).prepare()

    async def list_generations(self) -> list[Generation]:
        """All collections with a generation's name, in the order of their numbers."""
        live = await self._read_live_name()
        with _translate_refusals():
            collections = (await self._client.get_collections()).collections
        numbers = sorted(n for each in collections if (n := self._number_of(each.name)))
        return [await self._describe(number, live) for number in numbers]

    async def _describe(self, number: int, live: str | None) -> Generation:
        name = self._name(number)
        try:
            return Generation(number, name == live, await self._read_model(name))
        except StoreUnfit as error:
            return Generation(number, name == live, foreign=str(error))

    async def live(self) -> QdrantProjection:
        """The projection over the live collection, with the embedder of its model.

        Raises StoreUnfit where no collection is live.
        """
        name = await self._read_live_name()
        if name is None:
            raise StoreUnfit(
                f"qdrant has no collection {self.alias}: restore it, or start this consumer anew, "
                "which creates it, and repair the drift"
            )
        return await self._open(name)

    async def apply(self, changes: Sequence[Change]) -> None:
        """Apply the changes to the live generation."""
        await (await self.live()).apply(changes)

    async def create(self, number: int, model: str | None = None) -> Projection:
        """Make this generation, or take it as it is, and prepare it. It does not become live."""
        name = self._name(number)
        with _translate_refusals():
            there = await self._client.collection_exists(name)
        if not there:
            wanted = model or (await self._read_model((await self.live()).collection))
            await self._make_projection(name, self._embedders(wanted)).prepare()
        projection = await self._open(name)
        await projection.prepare()
        return projection

    def require_model(self, model: str | None) -> None:
        """Raise StoreUnfit where there is no embedder of this model."""
        if model is not None:
            self._embedders(model)

    async def switch(self, number: int) -> None:
        """Move the alias to this generation, in one request, which takes effect as a whole."""
        await self._open(self._name(number))
        await self._move_alias(number)

    async def drop(self, number: int) -> None:
        """Delete this generation's collection; Halted where it is the live one."""
        name = self._name(number)
        if name == await self._read_live_name():
            raise Halted(f"generation {number} of {self.name} is live: switch to another one first")
        self._opened.pop(name, None)
        with _translate_refusals():
            await self._client.delete_collection(name)

    async def _move_alias(self, number: int) -> None:
        there = await self._read_live_name() is not None
        delete = models.DeleteAlias(alias_name=self.alias)
        create = models.CreateAlias(collection_name=self._name(number), alias_name=self.alias)
        operations: list[models.DeleteAliasOperation | models.CreateAliasOperation] = [
            *([models.DeleteAliasOperation(delete_alias=delete)] if there else []),
            models.CreateAliasOperation(create_alias=create),
        ]
        with _translate_refusals():
            await self._client.update_collection_aliases(operations)

    async def _read_live_name(self) -> str | None:
        with _translate_refusals():
            aliases = (await self._client.get_aliases()).aliases
        return next((a.collection_name for a in aliases if a.alias_name == self.alias), None)

    async def _require_free_name(self) -> None:
        with _translate_refusals():
            collections = (await self._client.get_collections()).collections
        if any(each.name == self.alias for each in collections):
            raise StoreUnfit(
                f"qdrant has a collection {self.alias}, which must be an alias: delete it, start "
                "this consumer anew, and repair the drift"
            )

    async def _open(self, name: str) -> QdrantProjection:
        if name not in self._opened:
            self._opened[name] = self._make_projection(
                name, self._embedders(await self._read_model(name))
            )
        return self._opened[name]

    async def _read_model(self, name: str) -> str:
        if name in self._opened:
            return self._opened[name].model
        model = ((await describe_collection(self._client, name)).config.metadata or {}).get(MODEL)
        if not isinstance(model, str):
            raise StoreUnfit(f"qdrant collection {name} names no model: it is not of our making")
        return model

    def _name(self, number: int) -> str:
        return f"{self.alias}-{number}"

    def _number_of(self, collection: str) -> int | None:
        """The number in a collection's name.

        None for a name that we would not give, such as NAME-007, or NAME-1 in other digits.
        """
        number = collection.rpartition("-")[2]
        if not NUMBER.fullmatch(number) or collection != self._name(int(number)):
            return None
        return int(number)


@contextmanager
def _translate_refusals() -> Iterator[None]:
    """DependencyDown for a refusal, too: here it says that the server is not as it should be."""
    try:
        with translate_errors():
            yield
    except QdrantRefused as error:
        raise DependencyDown("qdrant", f"refused: {error}") from error
