"""Sample: changes to try a projection with, drawn from a seed.

The same seed, key and version give the same change, so that a test can say what a store must hold.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

from consumers.projections.projection import Change, StreamKey
from schemas.catalog import ItemRemoved, ItemUpserted
from schemas.envelope import Event, digest

WORDS = ("runway", "tower", "Ärger", "滑走路", "🛬", "'", '"', "\\", "`", "}) //", "NULL", "0")


@dataclass(frozen=True, slots=True)
class Sample:
    """Makes changes of one aggregate from names; a name is one key.

    `build_upsert` makes an event that carries a key's whole state. It must draw something from the
    `random.Random` that it is given, or `twin` never ends. `build_delete` makes the event that
    deletes a key.
    """

    build_upsert: Callable[[str, random.Random], Event]
    build_delete: Callable[[str], Event]
    seed: int = 1

    def upserted(self, name: str, version: int) -> Change:
        """The change that gives this key its state at this version."""
        return self._build(name, version, 0)

    def removed(self, name: str, version: int) -> Change:
        """The change that deletes this key at this version."""
        return change_to(self.build_delete(name), version)

    def twin(self, name: str, version: int) -> Change:
        """Another event that claims this version, with another content."""
        first = self.upserted(name, version)
        others = (self._build(name, version, attempt) for attempt in count(1))
        other = next(each for each in others if each.digest != first.digest)
        return replace(other, event_id=f"{first.event_id} again")

    def history(self, names: Sequence[str], versions: int) -> list[Change]:
        """`versions` changes of each name, about a third of them deletes; each twice, shuffled."""
        rng = self.make_random("history", *names)
        one = [
            self.removed(name, version) if rng.random() < 0.3 else self.upserted(name, version)
            for name in names
            for version in range(1, versions + 1)
        ]
        return rng.sample(one + one, 2 * len(one))

    def make_random(self, *words: object) -> random.Random:
        """A generator of random numbers, which draws the same for the same seed and words."""
        return random.Random(f"{self.seed}/{words}")  # noqa: S311 - repeatable, not a secret

    def _build(self, name: str, version: int, attempt: int) -> Change:
        rng = self.make_random(name, version, attempt)
        return change_to(self.build_upsert(name, rng), version)


def change_to(event: Event, version: int) -> Change:
    """The change of a key to this event at this version."""
    return Change(
        stream=StreamKey(event.aggregate, event.key()),
        version=version,
        event_id=f"{event.key()}@{version}",
        digest=digest(event.payload()),
        deleted=event.deletes,
        event=event,
    )


def catalog_items(seed: int = 1) -> Sample:
    """A sample of the catalog's items, with words that a store may stumble over."""

    def build_upsert(name: str, rng: random.Random) -> Event:
        words = " ".join(rng.choices(WORDS, k=6))
        attributes: dict[str, str | bool | float] = {
            "colour": rng.choice(WORDS), "open": rng.random() < 0.5, "size": rng.random(),
        }  # fmt: skip
        return ItemUpserted(
            catalog_id="suite", item_id=name, name=name, text=words, attributes=attributes
        )

    return Sample(build_upsert, lambda name: ItemRemoved(catalog_id="suite", item_id=name), seed)
