"""Failpoints: they act only where armed, only the n-th time, and never in production."""

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from outbox.runtime.failpoints import Failpoint, ReachedError, arm, armed, failpoint, while_waiting
from outbox.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def test_nothing_happens_unless_armed() -> None:
    failpoint(Failpoint.LEASE_TAKEN)


def test_it_acts_at_the_nth_time_and_not_again() -> None:
    arm("relay-1=raise@3, write-1=raise")
    failpoint(Failpoint.LEASE_TAKEN)
    failpoint(Failpoint.LEASE_TAKEN)
    with pytest.raises(ReachedError):
        failpoint(Failpoint.LEASE_TAKEN)
    failpoint(Failpoint.LEASE_TAKEN)
    with pytest.raises(ReachedError):
        failpoint(Failpoint.BEFORE_DOMAIN_WRITE)


async def test_while_waiting_acts_after_the_request_was_sent_and_before_its_answer() -> None:
    happened, answer = [], asyncio.Event()

    async def request() -> None:
        await asyncio.sleep(0)  # like a driver that waits for its socket
        happened.append("sent")
        await answer.wait()
        happened.append("answered")

    arm("relay-4=raise")
    with pytest.raises(ReachedError):
        await while_waiting(Failpoint.BATCHES_SENT, request())
    assert happened == ["sent"]


def test_what_is_armed_can_be_asked() -> None:
    assert not armed(Failpoint.BEFORE_COMMIT)
    arm("write-3=raise")
    assert armed(Failpoint.BEFORE_COMMIT)


@pytest.mark.parametrize("text", ["relay-99=kill", "relay-1=explode", "relay-1", "=kill"])
def test_what_is_no_failpoint_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="FAILPOINTS"):
        arm(text)


def test_production_refuses_them() -> None:
    with pytest.raises(ValidationError, match="not in the production profile"):
        Settings(profile="production", failpoints="relay-1=kill")
