"""Caller: asks the HTTP service for one change after another, even while the service dies."""

import asyncio
from typing import Any

import httpx

CATALOG = {"catalog_id": "kills", "name": "Kills"}
ITEMS = 12
AGAIN_SECONDS = 0.02
PAUSE_SECONDS = 0.005

Answer = dict[str, Any]


class Caller:
    """Request 0 creates a catalog; each later one gives an item a form that it never had before.

    A request without an answer is repeated under the same Idempotency-Key until it has one.
    `answers` are in the order of the requests.
    """

    def __init__(self, url: str) -> None:
        self.answers: list[Answer] = []
        self._url = url
        self._stopping = False

    async def run(self) -> None:
        """Ask until `stop` is called; the last request is answered before it returns."""
        async with httpx.AsyncClient(base_url=self._url) as client:
            while not self._stopping:
                self.answers.append(await answered(client, len(self.answers)))
                await asyncio.sleep(PAUSE_SECONDS)

    def stop(self) -> None:
        self._stopping = True

    async def all_again(self) -> list[Answer]:
        """Repeat all requests of before, and return their answers."""
        async with httpx.AsyncClient(base_url=self._url) as client:
            return [await answered(client, number) for number in range(len(self.answers))]


async def answered(client: httpx.AsyncClient, number: int) -> Answer:
    """Ask until there is an answer; return its JSON. AssertionError where it is an error."""
    while True:
        try:
            response = await ask(client, number)
        except httpx.TransportError:
            await asyncio.sleep(AGAIN_SECONDS)
            continue
        assert response.is_success, response.text
        answer: Answer = response.json()
        return answer


async def ask(client: httpx.AsyncClient, number: int) -> httpx.Response:
    headers = {"Idempotency-Key": f"request-{number}"}
    if number == 0:
        return await client.post("/catalogs", json=CATALOG, headers=headers)
    item = {"item_id": f"item-{number % ITEMS}", "name": f"form {number}", "text": "A thing"}
    return await client.put("/catalogs/kills/items", json={"items": [item]}, headers=headers)
