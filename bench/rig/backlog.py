"""Backlog: messages as many transactions would have left them; PostgreSQL itself makes them."""

from outbox.postgres.connection import connect
from outbox.settings import Settings

KEYS = 10_000
PAYLOAD_BYTES = 250
TRANSACTIONS = 100

# Over 10,000 keys, with their versions.
FILL = """
INSERT INTO outbox.messages
    (position, id, aggregatetype, aggregateid, type, version, topic, payload)
SELECT nextval('outbox.positions'), gen_random_uuid(), 'bench.sample', 'sample-' || n %% %(keys)s,
       'bench.happened.v1', n / %(keys)s + 1, 'bench.sample.events',
       '{"text":"' || repeat('x', %(bytes)s) || '"}'
FROM generate_series(%(first)s::int, %(last)s::int) AS n
"""


async def fill(settings: Settings, messages: int, payload_bytes: int = PAYLOAD_BYTES) -> None:
    """Add so many messages, in some TRANSACTIONS transactions."""
    async with await connect(settings) as connection:
        step = max(1, messages // TRANSACTIONS)
        for first in range(0, messages, step):
            last = min(first + step, messages) - 1
            parameters = {"keys": KEYS, "bytes": payload_bytes, "first": first, "last": last}
            await connection.execute(FILL, parameters)
        await connection.execute("CHECKPOINT")
