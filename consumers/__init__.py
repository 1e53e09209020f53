"""The consumers: everything that follows a committed message on its way out of Kafka.

Start with `runner` (receives, applies and commits), then `projections` (what the stores share) and
`assembly.py` (how the pieces are put together); `python -m consumers` runs them.
Every reaction here is idempotent, so each message may be delivered and replayed any number of
times. The package does not promise that a store shows a write at once; `read_your_writes.py` waits
for that, and `drift` checks it.
"""
