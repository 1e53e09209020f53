"""Projections: secondary stores that follow the stream heads, and all that such stores share.

Start with `projection.py`: it has the protocol `Projection`, and the `Change` that a store is
given. Whatever the order, the repeats and the lateness of its changes, a projection ends at the
highest version of each key, and a deleted key stays deleted. `divergence.py` finds two events that
claim one version, `isolate_refused.py` applies the rest of a batch that a store refuses, and
`generations.py` keeps whole copies of a store side by side. `testing` has
checks for a projection of your own. Nothing here talks to a server.
"""
