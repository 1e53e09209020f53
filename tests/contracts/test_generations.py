"""What the generations of every store promise: side by side, one is live, a switch is at once."""

from collections.abc import Callable

import pytest
from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient, models

from consumers.mappings.catalog import catalog_graph_generations, catalog_vector_generations
from consumers.projections.generations import Generation, Generations, LiveProjection
from consumers.qdrant.generations import QdrantGenerations
from outbox.errors import Halted, StoreUnfit
from schemas.catalog import COLLECTION
from services.catalog.embedder import MODELS, WordLlamaEmbedder
from stack.part import GraphPart
from tests.kit.projections.projection_suite import (
    CountingEmbedder,
    assert_shows,
    read_all,
    removed,
    upserted,
)

pytestmark = pytest.mark.anyio

Make = Callable[[], Generations]

KINDS = ("qdrant", "neo4j")


class Embedders(dict[str, CountingEmbedder]):
    """Gives an embedder for every model but `unknown`; the same one for the same name."""

    def __call__(self, model: str) -> CountingEmbedder:
        if model == "unknown":
            raise StoreUnfit("no embedding model unknown here")
        return self.setdefault(model, CountingEmbedder(model))


@pytest.fixture(params=KINDS)
def make(
    request: pytest.FixtureRequest,
    client: AsyncQdrantClient,
    driver: AsyncDriver,
    graph_part: GraphPart,
) -> Make:
    """Makes generations as another process would.

    Qdrant is its stand-in, local mode; the report says which graph it is.
    """
    if request.param == "qdrant":
        return lambda: vectors(client)
    return lambda: catalog_graph_generations(driver, graph_part.database)


@pytest.fixture
def generations(make: Make) -> Generations:
    return make()


def vectors(client: AsyncQdrantClient, model: str = "hash-1") -> QdrantGenerations:
    return catalog_vector_generations(client, Embedders(), model)


async def test_the_first_one_is_made_and_live_and_kept(generations: Generations) -> None:
    store = LiveProjection(generations)
    for _ in range(2):
        await store.prepare()
        await store.apply([upserted("a", 1)])
        assert [(each.number, each.live) for each in await generations.list_generations()] == [
            (1, True)
        ]
        await assert_shows(store, [upserted("a", 1)])


async def test_what_is_written_goes_to_the_live_one_and_no_other(generations: Generations) -> None:
    store = LiveProjection(generations)
    await store.prepare()
    await store.apply([upserted("a", 1), upserted("b", 1), removed("c", 2)])
    second = await generations.create(2)
    await assert_shows(second, [])
    await second.apply([upserted("a", 3, state="new")])
    await assert_shows(store, [upserted("a", 1), upserted("b", 1), removed("c", 2)])
    await generations.switch(2)
    await assert_shows(store, [upserted("a", 3, state="new")])
    await store.apply([upserted("d", 1)])
    await generations.switch(1)
    await generations.switch(1)
    await assert_shows(store, [upserted("a", 1), upserted("b", 1), removed("c", 2)])
    await store.delete_if_unchanged(list((await read_all(store)).values()))
    await assert_shows(
        await generations.create(2), [upserted("a", 3, state="new"), upserted("d", 1)]
    )


async def test_another_process_finds_the_same_one_live(make: Make) -> None:
    generations, others = make(), make()
    await generations.prepare()
    await generations.create(2)
    await generations.switch(2)
    await others.prepare()
    assert [(each.number, each.live) for each in await others.list_generations()] == [
        (1, False),
        (2, True),
    ]


async def test_one_that_is_live_cannot_be_dropped_and_another_is_gone(
    generations: Generations,
) -> None:
    store = LiveProjection(generations)
    await store.prepare()
    await store.apply([upserted("a", 1, state="NY")])
    second = await generations.create(2)
    await second.apply([upserted("a", 1, state="NY")])
    with pytest.raises(Halted, match=r"generation 1 of .* is live"):
        await generations.drop(1)
    await generations.drop(2)
    assert [each.number for each in await generations.list_generations()] == [1]
    with pytest.raises((Halted, StoreUnfit)):
        await generations.switch(2)
    await assert_shows(store, [upserted("a", 1, state="NY")])
    await assert_shows(await generations.create(3), [])


async def test_a_model_that_nobody_can_embed_with_is_refused(generations: Generations) -> None:
    generations.require_model(None)
    with pytest.raises((Halted, StoreUnfit), match="embedding model"):
        generations.require_model("unknown")


# Tests of Qdrant's generations only.


async def test_a_generation_remembers_its_model_and_is_written_with_it(
    client: AsyncQdrantClient,
) -> None:
    """The settings of the writer do not matter; a process that does not know the model stops."""
    made = vectors(client, "hash-1")
    await made.prepare()
    await made.create(2, "hash-2")
    await made.switch(2)
    store = LiveProjection(vectors(client, "hash-1"))
    await store.prepare()
    await store.apply([upserted("a", 1)])
    (record,) = (await client.scroll(COLLECTION))[0]
    assert (record.payload or {})["model"] == "hash-2"
    assert await made.list_generations() == [
        Generation(1, False, "hash-1"),
        Generation(2, True, "hash-2"),
    ]
    await made.create(3)
    assert (await made.list_generations())[2] == Generation(3, False, "hash-2"), "the live one's"
    with pytest.raises(StoreUnfit, match="unknown"):
        await made.create(4, "unknown")


async def test_without_any_generation_nobody_can_read(client: AsyncQdrantClient) -> None:
    with pytest.raises(StoreUnfit, match="start this consumer anew"):
        await vectors(client).live()


async def test_a_collection_of_the_alias_s_name_is_refused(client: AsyncQdrantClient) -> None:
    size = models.VectorParams(size=8, distance=models.Distance.COSINE)
    await client.create_collection(COLLECTION, vectors_config=size)
    with pytest.raises(StoreUnfit, match="which must be an alias"):
        await vectors(client).prepare()


async def test_a_collection_that_names_no_model_is_not_ours(client: AsyncQdrantClient) -> None:
    made = vectors(client)
    await made.prepare()
    size = models.VectorParams(size=8, distance=models.Distance.COSINE)
    await client.create_collection(f"{COLLECTION}-2", vectors_config=size)
    with pytest.raises(StoreUnfit, match="names no model"):
        await made.switch(2)


async def test_the_models_of_one_embedder_are_as_long_as_their_names_say() -> None:
    embedder = WordLlamaEmbedder()
    for size, name in MODELS.items():
        sibling = embedder.named(name)
        assert (sibling.model, sibling.dimension) == (name, size)
        assert (await sibling.embed(["tower"])).shape == (1, size)
        assert sibling.named(embedder.model) is embedder
    with pytest.raises(StoreUnfit, match="no embedding model word2vec"):
        embedder.named("word2vec")


async def test_collections_of_another_program_are_told_and_no_generations(
    client: AsyncQdrantClient,
) -> None:
    """FB3: they have our name and no model, or a number as we would not write it."""
    generations = vectors(client)
    await generations.prepare()
    config = models.VectorParams(size=4, distance=models.Distance.COSINE)
    for name in (f"{COLLECTION}-7", f"{COLLECTION}-007", f"{COLLECTION}-\u0663", f"{COLLECTION}-0"):
        await client.create_collection(name, vectors_config=config)
    first, other = await generations.list_generations()
    assert (first.number, first.live, first.foreign) == (1, True, None)
    assert (other.number, other.live, other.model) == (7, False, None)
    assert "names no model" in str(other.foreign)


@pytest.mark.parametrize(
    "change",
    ["g.live = 'x'", "g.live = 1.5", "g.live = true", "g.numbers = 'x'", "g.numbers = ['1']",
     "g.numbers = null", "g.live = null"],
)  # fmt: skip
async def test_a_node_of_generations_that_was_altered_is_one_line(
    driver: AsyncDriver, graph_part: GraphPart, change: str
) -> None:
    """FB3: the error says what to set; no reader guesses."""
    generations = catalog_graph_generations(driver, graph_part.database)
    await generations.prepare()
    statement = f"MATCH (g:Generation) SET {change}"
    await driver.execute_query(statement, database_=graph_part.database)
    for asked in (generations.list_generations(), generations.live()):
        with pytest.raises(StoreUnfit, match="set live to the number"):
            await asked
