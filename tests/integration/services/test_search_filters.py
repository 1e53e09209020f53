"""Filters of a search (FB4): each finds the texts, numbers and truths that read like it.

The search store is the local mode of qdrant-client; the filters are asked of Qdrant's own engine,
too.
"""

from pathlib import Path
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, models

from services.catalog.where import build_conditions, parse_where
from tests.kit.qdrant.engine import EdgeEngine
from tests.kit.web.lamps import SEARCH, Client, Connection, project, put, search

pytestmark = pytest.mark.anyio

VALUES: dict[str, Any] = {
    "one": 1.0, "text_one": "1", "yes": True, "text_yes": "true", "no": False, "text_no": "false",
    "zero": 0.0, "half": 0.5, "large": 1e23, "thousand": 1000.0, "third": 1 / 3, "minus": -2.5,
    "colon": "a:b", "empty": "", "exact": 9007199254740992.0, "word": "north",
}  # fmt: skip


ASKED: dict[str, list[str]] = {
    "1": ["one", "text_one"], "1.0": ["one"], "1e0": ["one"], "01": [], "+1": [],
    "true": ["text_yes", "yes"], "false": ["no", "text_no"], "True": [], "0": ["zero"],
    "-0": ["zero"], "-0.0": ["zero"], "0.5": ["half"], "5e-1": ["half"], ".5": [],
    "1e3": ["thousand"], "1000": ["thousand"], "1_000": [], "1e23": ["large"], "1E+23": ["large"],
    "0.3333333333333333": ["third"], "0.333333333333333": [], "-2.5": ["minus"], "a:b": ["colon"],
    "": ["empty"], "9007199254740992": ["exact"], "9007199254740993": [], "north": ["word"],
    "100000000000000000000000": ["large"], "99999999999999991611392": [],
    "1.00000000000000000001": [], "nan": [], "inf": [], "1e999": [], "\u0661": [], "null": [],
}  # fmt: skip


async def test_a_filter_finds_texts_numbers_and_truths_that_read_like_it(
    lamps: Client, store: AsyncQdrantClient, postgres: Connection
) -> None:
    """FB4: over HTTP, with one attribute of every kind."""
    await put(lamps, **{name: {"a": value} for name, value in VALUES.items()})
    await put(lamps, lit={"lit": True, "price": 1}, dark={"lit": False, "price": 2.5})
    await project(store, postgres)
    for text, expected in ASKED.items():
        assert await search(lamps, f"a:{text}") == expected, text
    assert await search(lamps, "lit:true", "price:1") == ["lit"]
    assert await search(lamps, "lit:true", "price:2.5") == []


async def test_a_filter_finds_the_same_in_qdrants_own_engine(tmp_path: Path) -> None:
    """FB4"""
    pytest.importorskip("qdrant_edge", reason="qdrant-edge-py is not installed")
    engine = EdgeEngine(tmp_path)
    await engine.create("c", 2)
    points = [
        {"id": number, "vector": [1.0, 0.0],
         "payload": {"name": name, "fields": {"attributes": {"a": value}}}}
        for number, (name, value) in enumerate(VALUES.items())
    ]  # fmt: skip
    await engine.upsert("c", points, None)
    for text, expected in ASKED.items():
        wanted = models.Filter(must=[*build_conditions(parse_where([f"a:{text}"]))])
        records = await engine.filtered("c", wanted.model_dump(exclude_none=True))
        assert sorted(payload["name"] for _, payload, _ in records) == expected, text
    await engine.close()


@pytest.mark.parametrize(
    "where",
    ["", "a", ":b", "A:b", "1a:b", "a.b:c", "a[]:c", "a b:c", "\u00e4:b", "a" * 51 + ":b"],
    ids=lambda where: where[:6],
)
async def test_a_filter_that_is_none_is_refused_by_field_and_rule(
    lamps: Client, where: str
) -> None:
    """FB4"""
    response = await lamps.get(SEARCH, params={"q": "lamp", "where": where})
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["query.where"]


async def test_an_attribute_is_asked_for_once(lamps: Client) -> None:
    """FB4"""
    response = await lamps.get(SEARCH, params={"q": "lamp", "where": ["a:1", "a:2"]})
    assert response.status_code == 422
    assert "at most once" in response.json()["errors"][0]["rule"]
