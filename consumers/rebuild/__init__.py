"""Rebuild: a new generation of a store is made beside the live one, and then takes its place.

Start with `rebuild.py`: it has the phases, and the reason why no message is lost. `follower.py`
applies new messages to the generation that is not live, `serialized.py` lets the two writers of one
process take turns, and `journal.py` has the row of each rebuild and its lock.
A rebuild that was killed goes on when the same command runs again, and readers see the old or the
new generation, whole. It does not begin a rebuild of its own accord: an operator does.
"""
