"""FD3: the forms of KAFKA_URL; an error names the rule and never repeats the value."""

import pytest
from pydantic import ValidationError

from outbox.environment.bootstrap_servers import parse_bootstrap_servers
from outbox.settings import Settings

SECRET = "hunter2"  # noqa: S105 - what must not be shown


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("127.0.0.1:9092", "127.0.0.1:9092"),
        ("kafka", "kafka:9092"),
        (" a:1 , b:65535 ", "a:1,b:65535"),
        ("[::1]:9092", "[::1]:9092"),
        ("[::1], broker_1.internal:19092", "[::1]:9092,broker_1.internal:19092"),
    ],
)
def test_servers_are_taken_with_their_port_and_without_spaces(given: str, meant: str) -> None:
    assert parse_bootstrap_servers(given) == meant
    assert Settings(kafka_url=given, _env_file=None).kafka_url == meant  # type: ignore[call-arg] # its init


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ("127.0.0.1:99999", "port of server 1 is no number from 1 to 65535"),
        ("127.0.0.1:0", "port of server 1"),
        ("a:1,b:-1", "port of server 2"),
        ("a:x", "port of server 1"),
        ("a:\u0661", "port of server 1"),
        ("a:" + "9" * 5_000, "port of server 1"),
        ("a:", "stands no port"),
        ("a:1:2", "stands no port"),
        ("::1", "no host"),
        ("[::1", "no IPv6 address in brackets"),
        ("[1.2.3.4]:1", "no IPv6 address in brackets"),
        ("[::1]9092", "stands no port"),
        ("[::1]:", "stands no port"),
        ("", "server 1 has no host"),
        (":9092", "server 1 has no host"),
        ("a:1,,b:1", "server 2 has no host"),
        ("a b:1", "server 1 has no host"),
        ("a:1 b:1", "server 1"),
        ("a\n:1", "server 1 has no host"),
        ("kafka://localhost:9092", "server 1 has a scheme or a user"),
        (f"SASL_SSL://user:{SECRET}@host:9092", "server 1 has a scheme or a user"),
        (f"user:{SECRET}@host", "server 1 has a scheme or a user"),
    ],
)
def test_what_is_no_list_of_servers_names_the_rule_and_the_place_and_shows_nothing(
    given: str, rule: str
) -> None:
    with pytest.raises(ValueError, match="must be host:port, or several") as told:
        parse_bootstrap_servers(given)
    assert rule in str(told.value)
    with pytest.raises(ValidationError) as refused:
        Settings(kafka_url=given, _env_file=None)  # type: ignore[call-arg] # its init
    for shown in (str(told.value), str(refused.value), repr(refused.value)):
        assert SECRET not in shown
