"""The runner applies the messages of Kafka topics to one reaction, as a member of a consumer group.

Start with `runner.py`, then `membership.py` (one stay in the group), `assignment.py` (the work
between two rebalances) and `applier.py` (one attempt and what its failure means).
It promises that the messages of a key are applied in order and that an offset is committed only
once every message below it is applied or is a dead letter in PostgreSQL.
It does not promise that a message is applied only once: reactions must be idempotent.
"""
