"""FD3: a malformed address of a store is refused by variable and rule, and never shown."""

import pytest
from pydantic import ValidationError

from consumers.settings import Settings

SECRET = "s3cr3t"  # noqa: S105 - to be looked for
GOOD = {
    "QDRANT_URL": [":memory:", "file:folder", "file:/a b/c", "http://localhost", "http://h:6333",
                   "https://[::1]:6333", "https://h/prefix"],
    "NEO4J_URL": ["bolt://127.0.0.1:7687", "neo4j+s://h", "bolt+ssc://[::1]:1"],
}  # fmt: skip
ODD = ["", " ", "host:6333", "//host", "http:", "ftp://h", f"ftp://u:{SECRET}@h", "x://h:99999",
       f"{SECRET}", f"://{SECRET}"]  # fmt: skip
AFTER_SCHEME = ["", ":6333", "h:99999", "h:0", "h:-1", "h:port", "[::1", "h]:1", "h h", "h\n",
                f"u:{SECRET}@h", f"{SECRET}@h:1", "@h", f"h?key={SECRET}", "h#x", "h:1\x1b[0m",
                f"[{SECRET}"]  # fmt: skip
BAD = {
    "QDRANT_URL": [*ODD, "file:", "memory:", *(f"http://{rest}" for rest in AFTER_SCHEME)],
    "NEO4J_URL": [*ODD, "http://h", "neo4j+x://h", *(f"bolt://{rest}" for rest in AFTER_SCHEME)],
}


@pytest.mark.parametrize("name", GOOD)
def test_an_address_is_taken_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in GOOD[name]:
        monkeypatch.setenv(name, url)
        assert getattr(Settings(), name.lower()) == url


@pytest.mark.parametrize(("name", "url"), [(name, url) for name in BAD for url in BAD[name]])
def test_an_odd_address_is_refused_without_being_shown(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(ValidationError) as refused:
        Settings()
    (error,) = refused.value.errors(include_input=False)
    assert error["loc"] == (name,)
    assert "must" in error["msg"]
    assert SECRET not in f"{refused.value}{error['msg']}{error.get('ctx')}"
