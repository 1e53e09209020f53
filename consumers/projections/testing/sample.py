"""Sample: changes to try a projection with, drawn from a seed.

The same seed, key and version give the same change, so that a test can say what a store must show.
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
    """How an aggregate's events are made from a name.

    `state` must draw something from the chance that it is given, or `twin` never ends.
    """

    state: Callable[[str, random.Random], Event]
    gone: Callable[[str], Event]
    seed: int = 1

    def upserted(self, name: str, version: int) -> Change:
        """What the name is at this version."""
        return self._state(name, version, 0)

    def removed(self, name: str, version: int) -> Change:
        """The name is gone since this version."""
        return change_to(self.gone(name), version)

    def twin(self, name: str, version: int) -> Change:
        """Another event that claims this version, with another content."""
        first = self.upserted(name, version)
        others = (self._state(name, version, attempt) for attempt in count(1))
        other = next(each for each in others if each.digest != first.digest)
        return replace(other, event_id=f"{first.event_id} again")

    def history(self, names: Sequence[str], versions: int) -> list[Change]:
        """So many versions of each, some of them deletes; each twice, in any order."""
        chance = self.chance("history", *names)
        one = [
            self.removed(name, version) if chance.random() < 0.3 else self.upserted(name, version)
            for name in names
            for version in range(1, versions + 1)
        ]
        return chance.sample(one + one, 2 * len(one))

    def chance(self, *words: object) -> random.Random:
        """Always the same for the same words."""
        return random.Random(f"{self.seed}/{words}")  # noqa: S311 - repeatable, not a secret

    def _state(self, name: str, version: int, attempt: int) -> Change:
        return change_to(self.state(name, self.chance(name, version, attempt)), version)


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
    """The catalog's items, with words that a store may stumble over."""

    def state(name: str, chance: random.Random) -> Event:
        words = " ".join(chance.choices(WORDS, k=6))
        attributes: dict[str, str | bool | float] = {
            "colour": chance.choice(WORDS), "open": chance.random() < 0.5, "size": chance.random(),
        }  # fmt: skip
        return ItemUpserted(
            catalog_id="suite", item_id=name, name=name, text=words, attributes=attributes
        )

    return Sample(state, lambda name: ItemRemoved(catalog_id="suite", item_id=name), seed)
