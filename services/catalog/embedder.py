"""Embedder: from texts to vectors, offline, off the event loop."""

import asyncio
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import wordllama
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class WordLlamaEmbedder:
    """Static word vectors from the wheel `wordllama`: about 30,000 short texts a second a core.

    Vectors have unit length. The model is loaded at the first use (0.2 s) and never downloaded.
    Weakness: word order does not count, and rare names are split into pieces.
    """

    model = "wordllama-l2-supercat-256"
    dimension = 256

    def __init__(self) -> None:
        self._lock = Lock()  # the tokenizer is not said to be safe for two threads

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
        return wordllama.WordLlama.load(cache_dir=folder, dim=self.dimension, disable_download=True)
