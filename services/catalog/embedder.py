"""Embedder: turns texts into vectors, offline and off the event loop."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outbox.errors import StoreUnfit
from services.catalog.word_vectors import wordllama

Vectors = NDArray[np.float32]

BATCH_CHARACTERS = 20_000  # of texts whose tokens are in memory at once; a longer text is alone
PIECE_TOKENS = 1_024  # tokens whose vectors are in memory at once: 1 MiB

# The first 64 or 128 numbers of each vector are a model, too: 64 take a quarter of the memory,
# and are a bit less exact.
WHOLE = 256
MODELS = {size: f"wordllama-l2-supercat-{size}" for size in (64, 128, WHOLE)}


class WordLlamaEmbedder:
    """Static word vectors from the wheel `wordllama`: about 30,000 short texts a second a core.

    Vectors have unit length. A text's vector is the same to the bit whatever other texts it is
    embedded with. The model is loaded at the first use (0.2 s) and never downloaded. No text is
    cut: of 20,000 characters, every word counts. Beside the model it takes some MiB of memory,
    however many texts there are.

    Weakness: word order does not count, and rare names are split into pieces.
    """

    def __init__(self, model: str = MODELS[256]) -> None:
        """Raise StoreUnfit where `model` is none of MODELS."""
        if model not in MODELS.values():
            raise StoreUnfit(
                f"no embedding model {model} here: one of {', '.join(MODELS.values())}, or install "
                "the version that knows it"
            )
        self.model = model
        self.dimension = next(size for size, name in MODELS.items() if name == model)
        self._siblings: dict[str, WordLlamaEmbedder] = {model: self}
        self._lock = Lock()  # its documentation does not say that the tokenizer is thread-safe

    def named(self, model: str) -> "WordLlamaEmbedder":
        """The embedder of this or another model; StoreUnfit where there is no such model."""
        if model not in self._siblings:
            sibling = WordLlamaEmbedder(model)
            sibling._siblings = self._siblings
            self._siblings[model] = sibling
        return self._siblings[model]

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One vector for each text, as the rows of an array."""
        return await asyncio.to_thread(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> Vectors:
        with self._lock:
            rows = [self._average(each) for each in self._tokenize(texts)]
        return np.asarray(rows, dtype=np.float32).reshape(len(texts), self.dimension)

    def _tokenize(self, texts: list[str]) -> Iterator[Sequence[int]]:
        """The tokens of each text; a bounded part of the texts is encoded at a time."""
        for batch in _split(texts):
            for encoded in self._tokenizer.encode_batch(batch, add_special_tokens=False):
                yield encoded.ids

    def _average(self, tokens: Sequence[int]) -> Vectors:
        """The mean of the tokens' vectors, at unit length.

        It is computed for one text at a time and without padding, so the other texts of a batch
        neither cost memory nor change a bit. A long text is summed piece by piece.
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
        """A tokenizer that neither pads nor cuts."""
        tokenizer = self._inference.tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _inference(self) -> Any:
        # The wheel has its tokenizer in its own folder, and looks for it only in a cache folder.
        folder = Path(wordllama.__file__).parent
        return wordllama.WordLlama.load(
            cache_dir=folder,
            dim=WHOLE,
            trunc_dim=self.dimension if self.dimension < WHOLE else None,
            disable_download=True,
        )


def _split(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in their order, in lists of at most BATCH_CHARACTERS; a longer text is alone."""
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
