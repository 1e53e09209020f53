"""FC8: what a text's vector is, and what it costs, does not depend on what stands beside it."""

import random

import numpy as np
import pytest

from outbox.errors import StoreUnfit
from services.catalog.embedder import BATCH_CHARACTERS, MODELS, WordLlamaEmbedder
from stack.process.memory_peak import peak

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
WORDS = ["airport", "runway", "tower", "city", "lamp", "漢字", "Zoë", "😀", "x1", "--", "3.14"]
LONG = ("an airport in the north of the city " * 600)[:20_000]


def texts(number: int) -> list[str]:
    chance = random.Random(8)
    return [" ".join(chance.choices(WORDS, k=chance.randint(1, 40))) for _ in range(number)]


@pytest.mark.parametrize("model", MODELS.values())
async def test_a_vector_is_the_same_to_the_bit_whatever_it_is_embedded_with(model: str) -> None:
    """The order of the texts, and longer or shorter texts beside it, do not matter."""
    embedder = WordLlamaEmbedder(model)
    some = [*texts(700), LONG, "a", *texts(3)]
    assert sum(map(len, some)) > 3 * BATCH_CHARACTERS
    together = await embedder.embed(some)
    assert together.shape == (len(some), embedder.dimension)
    for number in (0, 1, 350, 699, 700, 701, 704):
        assert (await embedder.embed([some[number]]))[0].tobytes() == together[number].tobytes()
    backwards = await embedder.embed(some[::-1])
    assert backwards[::-1].tobytes() == together.tobytes()


async def test_a_vector_is_the_mean_that_the_model_gives() -> None:
    """It has unit length, and is wordllama's own vector of the text but for the last bit."""
    embedder = WordLlamaEmbedder()
    some = [*texts(20), LONG]
    made = await embedder.embed(some)
    assert np.linalg.norm(made, axis=1) == pytest.approx(1.0, abs=1e-6)
    for text, vector in zip(some, made, strict=True):
        theirs = np.asarray(embedder._inference.embed([text], norm=True))[0]
        assert np.abs(vector - theirs).max() < 1e-5


async def test_every_word_of_a_long_text_counts() -> None:
    """Nothing is cut: the last word moves the vector."""
    embedder = WordLlamaEmbedder()
    one, other = await embedder.embed([f"{LONG[:19_990]} lamp", f"{LONG[:19_990]} tower"])
    assert one.tobytes() != other.tobytes()


async def test_no_text_and_an_empty_one_have_numbers() -> None:
    embedder = WordLlamaEmbedder()
    assert (await embedder.embed([])).shape == (0, embedder.dimension)
    assert np.isfinite(await embedder.embed(["", " ", "\u200b"])).all()


async def test_a_long_text_among_short_ones_takes_little_memory() -> None:
    """When the texts were padded to the longest one, these took 650 MB."""
    embedder = WordLlamaEmbedder()
    batch = [*texts(31), LONG, *texts(32)]
    await embedder.embed(batch[:2])
    with peak() as grown:
        await embedder.embed(batch)
        await embedder.embed([LONG] * 64)
    assert grown.growth_bytes < 100 * MIB


async def test_a_model_that_is_not_here_is_no_embedder() -> None:
    for ask in (WordLlamaEmbedder, WordLlamaEmbedder().named):
        with pytest.raises(StoreUnfit, match=r"^no embedding model word2vec here: one of "):
            ask("word2vec")
