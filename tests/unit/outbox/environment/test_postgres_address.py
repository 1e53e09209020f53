"""FC4, FC5: an address is read in every form that libpq takes, and never shows its password."""

import traceback
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from consumers.settings import Settings
from outbox.environment.postgres_address import PostgresAddress
from stack.part import Part
from stack.settings import StackSettings

CANARY = "cAn4ry"
ODD = st.text(st.sampled_from("@:/%#?&=[]',\\ +;!é\"1x"), max_size=6)
# Places of a password in an address; characters that ought to be encoded are put around it.
FORMS = (
    "postgresql://u:{}@h/d",
    "postgresql://u:{}@h:5432/d",
    "postgresql+psycopg://u:{}@h1,h2:5432/d",
    "postgres://{}@h/d",
    "postgresql://u:{}@/d?host=/tmp",
    "postgresql://h/d?user=u&password={}",
    "postgresql://h/d?sslmode=require&sslpassword={}",
    "host=h dbname=d user=u password={}",
    "password={} host=h",
    "u:{}@h/d",
    "mysql://u:{}@h/d",
    "{}",
)
OTHERS = (
    "{0}://u:{1}@h:1",
    "{0}://h:1?password={1}",
    "{0}://h:{1}",
    "u:{1}@h:1",
    "{0}:{1}@h",
    "{1}://h",
)


def outputs(make: Callable[[], object]) -> str:
    """Return every text that an operator could be shown of the settings, or of their error."""
    try:
        made = make()
    except ValidationError as error:
        told = [f"{each['loc']}: {each['msg']}" for each in error.errors()]
        return "\n".join(
            [str(error), repr(error), *told, "".join(traceback.format_exception(error))]
        )
    return f"{made!r} {made}"


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=30)
@given(before=ODD, after=ODD)
def test_no_form_of_a_postgres_url_shows_its_password(form: str, before: str, after: str) -> None:
    """A driver's error shows host, port and database, so no piece of a password may be there."""
    url = form.format(f"{before}{CANARY}{after}")
    for kind in (Settings, StackSettings):
        asked: dict[str, Any] = {"postgres_url": url}
        assert CANARY not in outputs(partial(kind, **asked))
    try:
        address = PostgresAddress.parse(url)
    except ValueError as error:
        assert CANARY not in "".join(traceback.format_exception(error))
        return
    shown = [address.values.get(name, "") for name in ("host", "hostaddr", "port", "dbname")]
    assert not any(CANARY in value for value in shown), address.values
    assert CANARY not in f"{address} {address!r}"
    assert CANARY not in Part(name="postgres", provider="given", url=url).address


@pytest.mark.parametrize(
    ("name", "scheme"), [("kafka_url", "kafka"), ("qdrant_url", "http"), ("neo4j_url", "bolt")]
)
@settings(max_examples=30)
@given(form=st.sampled_from(OTHERS), before=ODD, after=ODD)
def test_no_form_of_another_url_shows_its_password(
    name: str, scheme: str, form: str, before: str, after: str
) -> None:
    """These addresses have no place for a password: one that has it is refused, not repeated."""
    url = form.format(scheme, f"{before}{CANARY}{after}")
    for kind in (Settings, StackSettings):
        asked: dict[str, Any] = {name: url}
        assert CANARY not in outputs(partial(kind, **asked))


@given(st.text(st.characters(exclude_characters="\x00", codec="utf-8"), min_size=1))
def test_an_encoded_password_is_the_password(password: str) -> None:
    url = f"postgresql://u:{quote(password, safe='')}@h:5/d"
    address = PostgresAddress.parse(url)
    assert (address.values["password"], address.values["host"]) == (password, "h")
    assert PostgresAddress.parse(address.conninfo()).values == address.values


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@h1:1,h2:2/d", "postgresql://h1,h2:1,2/d"),
        ("postgresql+psycopg://u@h/d", "postgresql://h/d"),
        ("host=h1,h2 port=5 dbname=d password='a b'", "postgresql://h1,h2:5/d"),
        ("postgresql://%2Ftmp/d", "postgresql:///tmp/d"),
        ("postgresql://[::1]:5/d?sslmode=require", "postgresql://::1:5/d"),
        ("host=@abstract dbname=d", "postgresql://@abstract/d"),
        ("", "postgresql://localhost/"),
    ],
)
def test_every_form_that_libpq_reads_is_read(text: str, shown: str) -> None:
    assert str(PostgresAddress.parse(text)) == shown


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("qdrant_url", [":memory:", "file:/a/b", "http://h:1", "https://h/q", "http://[::1]:6333"]),
        ("neo4j_url", ["bolt://h", "neo4j+s://h:1", "neo4j://h?policy=eu", "bolt+ssc://h:1/"]),
    ],
)
def test_what_a_client_takes_is_taken(name: str, good: list[str]) -> None:
    for url in good:
        assert getattr(Settings(**{name: url}), name) == url  # type: ignore[arg-type] # by name


def test_a_broken_address_names_the_variable_and_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POSTGRES_URL", "KAFKA_URL", "QDRANT_URL", "NEO4J_URL"):
        monkeypatch.setenv(name, f"x://u:{CANARY}@h:1:2")
    with pytest.raises(ValidationError) as refused:
        Settings()
    told = {each["loc"][0]: each["msg"] for each in refused.value.errors()}
    assert set(told) == {"POSTGRES_URL", "KAFKA_URL", "QDRANT_URL", "NEO4J_URL"}
    assert all("must be" in words and CANARY not in words for words in told.values())
