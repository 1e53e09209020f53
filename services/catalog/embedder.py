"""Embedder: from texts to vectors, offline, off the event loop."""

import asyncio
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outbox.errors import SchemaBehind
from services.catalog.word_vectors import wordllama

Vectors = NDArray[np.float32]

# The model's first numbers are a model themselves: a quarter of the memory, and a bit less exact.
WHOLE = 256
MODELS = {size: f"wordllama-l2-supercat-{size}" for size in (64, 128, WHOLE)}


class WordLlamaEmbedder:
    """Static word vectors from the wheel `wordllama`: about 30,000 short texts a second a core.

    Vectors have unit length. The model is loaded at the first use (0.2 s) and never downloaded.
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
            return np.asarray(self._inference.embed(texts, norm=True), dtype=np.float32)

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
