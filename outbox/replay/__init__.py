"""Replay: published messages go to their topics once more, as duplicates, when an operator asks.

Start with `requests`: a replay is a row of outbox.replays that is started, paused, resumed and
cancelled. `replayer` runs one to its end, `source` selects and reads its messages, and `lease` lets
only one process at a time move its checkpoint.

It promises at-least-once delivery in the order of positions, a bounded rate, and that a message
which no broker has acknowledged before is never sent by a replay. It does not restore what a store
lacks by itself: each consumer decides what a duplicate changes.
"""
