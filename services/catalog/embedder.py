"""Embedder: from texts to vectors, offline, off the event loop."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outbox.errors import SchemaBehind
from services.catalog.word_vectors import wordllama

Vectors = NDArray[np.float32]

BATCH_CHARACTERS = 20_000  # whose tokens are in memory at once; one longer text is alone
PIECE_TOKENS = 1_024  # whose vectors are: 1 MiB

# The model's first numbers are a model themselves: a quarter of the memory, and a bit less exact.
WHOLE = 256
MODELS = {size: f"wordllama-l2-supercat-{size}" for size in (64, 128, WHOLE)}


class WordLlamaEmbedder:
    """Static word vectors from the wheel `wordllama`: about 30,000 short texts a second a core.

    Vectors have unit length, and a text's is the same to the bit whatever it is embedded with. The
    model is loaded at the first use (0.2 s) and never downloaded. A text is read whole, none is
    cut: of 20,000 characters, every word counts. It takes some MiB beside the model, however many
    texts there are.
    Weakness: word order does not count, and rare names are split into pieces.
    """

    def __init__(self, model: str = MODELS[256]) -> None:
        """SchemaBehind where it is none of MODELS."""
        if model not in MODELS.values():
            raise SchemaBehind(
                f"no embedding model {model} here: one of {', '.join(MODELS.values())}, or install "
                "the version that knows it"
            )
        self.model = model
        self.dimension = next(size for size, name in MODELS.items() if name == model)
        self._siblings: dict[str, WordLlamaEmbedder] = {model: self}
        self._lock = Lock()  # the tokenizer is not said to be safe for two threads

    def named(self, model: str) -> "WordLlamaEmbedder":
        """The embedder of another model, or this one; SchemaBehind as above."""
        if model not in self._siblings:
            sibling = WordLlamaEmbedder(model)
            sibling._siblings = self._siblings
            self._siblings[model] = sibling
        return self._siblings[model]

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One row a text."""
        return await asyncio.to_thread(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> Vectors:
        with self._lock:
            rows = [self._vector(each) for each in self._tokens_of(texts)]
        return np.asarray(rows, dtype=np.float32).reshape(len(texts), self.dimension)

    def _tokens_of(self, texts: list[str]) -> Iterator[Sequence[int]]:
        """Of each text, a bounded part of all texts at a time."""
        for batch in _parts(texts):
            for encoded in self._tokenizer.encode_batch(batch, add_special_tokens=False):
                yield encoded.ids

    def _vector(self, tokens: Sequence[int]) -> Vectors:
        """The mean of the tokens' vectors, at unit length.

        A text at a time, without padding: what stands beside it in a batch neither costs memory nor
        moves a bit. A long one is summed piece by piece.
        """
        table: Vectors = self._inference.embedding
        ids = np.clip(np.asarray(tokens, dtype=np.int64), 0, len(table) - 1)
        total = np.zeros(self.dimension, dtype=np.float32)
        for start in range(0, len(ids), PIECE_TOKENS):
            total += table[ids[start : start + PIECE_TOKENS]].sum(axis=0, dtype=np.float32)
        mean = total / np.float32(max(1, len(ids)))
        length = np.linalg.norm(mean)
        return mean / length if length else mean

    @cached_property
    def _tokenizer(self) -> Any:
        """Neither pads nor cuts."""
        tokenizer = self._inference.tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _inference(self) -> Any:
        # The wheel keeps its tokenizer where only a cache folder is looked for.
        folder = Path(wordllama.__file__).parent
        return wordllama.WordLlama.load(
            cache_dir=folder,
            dim=WHOLE,
            trunc_dim=self.dimension if self.dimension < WHOLE else None,
            disable_download=True,
        )


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in their order, as many at a time as have so many characters together."""
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and characters + len(text) > BATCH_CHARACTERS:
            yield part
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    if part:
        yield part
