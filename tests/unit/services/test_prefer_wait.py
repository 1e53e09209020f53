"""Prefer: what of the header is a wait, by the grammar of RFC 7240; the rest is ignored."""

import pytest

from services.catalog.routes import routes
from services.prefer_wait import read_preferred_seconds
from web.app import Mounted, create_app

FIELDS = [
    (["wait=5"], 5),
    (["WAIT = 5"], 5),
    (['wait="5"'], 5),
    (["respond-async, wait=10"], 10),
    (["return=minimal; foo=bar, wait=3; x"], 3),
    (["respond-async", "wait=7"], 7),
    (["wait=1, wait=9"], 1),
    (["wait=0"], 0),
    (["wait=" + "9" * 5_000], float("inf")),
    ([], None),
    ([""], None),
    (["wait"], None),
    (["wait=-1"], None),
    (["wait=1.5"], None),
    (["wait=soon"], None),
    (["wait=\u0665"], None),
    (["await=5"], None),
    (["wait=5s"], None),
    (['note="a, wait=5"'], None),
    (['note="a \\", wait=5"'], None),
    (["note; wait=5"], None),
]


@pytest.mark.parametrize(("fields", "seconds"), FIELDS)
def test_the_first_wait_that_is_a_number_of_seconds_counts(
    fields: list[str], seconds: float | None
) -> None:
    assert read_preferred_seconds(fields) == seconds


def test_every_write_is_described_with_its_wait() -> None:
    paths = create_app([Mounted("catalog", routes, None)], {}).openapi()["paths"]
    writes = [
        described
        for methods in paths.values()
        for method, described in methods.items()
        if method in {"post", "put", "patch", "delete"}
    ]
    assert len(writes) == 3
    for described in writes:
        assert "prefer" in {each["name"] for each in described["parameters"]}
        assert "202" in described["responses"]
