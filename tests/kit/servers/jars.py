"""Jars that a test needs: without them it is skipped, or fails where they were asked for.

STACK_KAFKA=maven, or STACK_GRAPH=maven for Neo4j's, asks for them; `best`, as in CI, asks for them
wherever Java and Maven are.
"""

import os
from pathlib import Path

import pytest

from stack.errors import PartMissing, StackError
from stack.servers.graph.neo4j import POM as NEO4J_POM
from stack.servers.jars import jars_of
from stack.servers.java import find_java
from stack.servers.kafka import OLDEST_JAVA
from stack.settings import StackSettings

KAFKA_PROVIDER = os.environ.get("STACK_KAFKA")
GRAPH_PROVIDER = os.environ.get("STACK_GRAPH")
ABSENT: dict[Path, str] = {}  # why the jars of a pom are not here; looked for once


async def required_jars(pom: Path, settings: StackSettings) -> Path:
    """Return the folder with the jars of `pom`; skip the test where they cannot be had."""
    if pom not in ABSENT:
        try:
            await find_java(settings.java_home, OLDEST_JAVA)
            return await jars_of(pom, settings)
        except StackError as absent:  # also where Maven is there and reaches no repository
            if meant(absent, GRAPH_PROVIDER if pom == NEO4J_POM else KAFKA_PROVIDER):
                raise
            ABSENT[pom] = str(absent)
    pytest.skip(ABSENT[pom])


def meant(absent: StackError, provider: str | None) -> bool:
    return provider == "maven" or (provider == "best" and not isinstance(absent, PartMissing))
