"""Bootstrap servers: the form of KAFKA_URL, checked before anything connects."""

import re
from ipaddress import IPv6Address

PORT = 9092
PORTS = range(1, 65_536)
HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253}[A-Za-z0-9_.])?")
FORM = "must be host:port, or several separated by commas, with IPv6 addresses in brackets"


def parse_bootstrap_servers(url: str) -> str:
    """Return the same servers, each with its port and without spaces around it.

    ValueError names the rule, and the place in the list of the server that breaks it. It does not
    repeat what was given, since somebody may have put a password there.
    """
    return ",".join(
        _parse_server(server.strip(), f"server {place}")
        for place, server in enumerate(url.split(","), 1)
    )


def _parse_server(server: str, place: str) -> str:
    if "://" in server or "@" in server:
        raise ValueError(f"{FORM}; {place} has a scheme or a user, and there is no such thing here")
    host, port = _split_port(server, place)
    if port and not (port.isascii() and port.isdigit() and int(port[:6]) in PORTS):
        raise ValueError(f"{FORM}; the port of {place} is no number from 1 to 65535")
    return f"{host}:{port or PORT}"


def _split_port(server: str, place: str) -> tuple[str, str]:
    """Return the host, and the port or "" where there is none; ValueError names the rule."""
    if server.startswith("["):
        inside, bracket, behind = server[1:].partition("]")
        try:
            IPv6Address(inside if bracket else "")
        except ValueError:
            raise ValueError(f"{FORM}; {place} is no IPv6 address in brackets") from None
        if behind and (behind[0] != ":" or not behind[1:]):
            raise ValueError(f"{FORM}; behind the address of {place} stands no port")
        return f"[{inside}]", behind[1:]
    host, colon, port = server.partition(":")
    if not HOST.fullmatch(host):
        raise ValueError(f"{FORM}; {place} has no host, or one with characters that no host has")
    if ":" in port or (colon and not port):
        raise ValueError(f"{FORM}; behind the host of {place} stands no port")
    return host, port
