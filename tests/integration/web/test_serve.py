"""Serve (FD3): an unusable address is one line that names the settings to change, exit code 2."""

import os
import socket
import subprocess
import sys

import pytest

from stack.servers.port import LOOPBACK
from web.server import CannotListen, listen


def serve(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "web", "serve"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_port_in_use_is_one_line_and_exit_code_2() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        ended = serve(AFTERCOMMIT_HTTP_PORT=str(port))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"cannot listen at {LOOPBACK}:{port} (Address already in use); "
        "set AFTERCOMMIT_HTTP_HOST and AFTERCOMMIT_HTTP_PORT to a free address of this machine\n"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "not a host", "::ffff:z"])
def test_a_host_that_is_not_ours_is_one_line_and_exit_code_2(host: str) -> None:
    ended = serve(AFTERCOMMIT_HTTP_HOST=host, AFTERCOMMIT_HTTP_PORT="0")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"cannot listen at {host}:0 (")
    assert ended.stderr.count("\n") == 1


@pytest.mark.anyio
async def test_nothing_stays_open_of_an_address_that_cannot_be_had() -> None:
    """A socket that is left open is a ResourceWarning, which is an error in these tests."""
    with (
        socket.create_server((LOOPBACK, 0)) as taken,
        pytest.raises(CannotListen, match="already in use"),
    ):
        await listen(LOOPBACK, taken.getsockname()[1], 10)
    for each in await listen("localhost", 0, 10):
        assert each.getsockname()[1] > 0
        each.close()
