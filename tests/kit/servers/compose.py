"""Reads `compose.yaml` as tests need it: its anchors resolved, its variables filled in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[3] / "compose.yaml"
GIVEN = {"POSTGRES_PASSWORD": "given-postgres", "NEO4J_PASSWORD": "given-neo4j"}
ONE_SHOT = ("migrate", "topics")


@dataclass(frozen=True)
class Service:
    """One service of the file; what it does not set is empty."""

    name: str
    said: dict[str, Any]

    @property
    def ours(self) -> bool:
        """Whether we build its image."""
        return "build" in self.said

    @property
    def environment(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.said.get("environment", {}).items()}

    @property
    def needs(self) -> dict[str, str]:
        """The condition that it waits for, of each service that it depends on."""
        return {name: it["condition"] for name, it in self.said.get("depends_on", {}).items()}

    @property
    def health(self) -> list[str]:
        """The command of its health check."""
        test: list[str] = self.said.get("healthcheck", {}).get("test", [])
        return test

    @property
    def mounts(self) -> dict[str, str]:
        """The folder inside, of each volume."""
        return dict(mount.split(":", 1) for mount in self.said.get("volumes", ()))


def document(given: Mapping[str, str] = GIVEN) -> dict[str, Any]:
    """Return the whole file with these variables filled in; other variables stay as they are."""
    filled = re.sub(
        r"\$\{(\w+)[^}]*\}",
        lambda each: given.get(each[1], each[0]),
        FILE.read_text(encoding="utf-8"),
    )
    loaded: dict[str, Any] = yaml.safe_load(filled)
    return loaded


def services(given: Mapping[str, str] = GIVEN) -> dict[str, Service]:
    return {name: Service(name, said) for name, said in document(given)["services"].items()}
