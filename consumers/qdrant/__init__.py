"""Qdrant as a projection: one point a key, fenced by version in the store itself.

Start with `projection.py`; its docstring lists the weaknesses. `points.py` says what a point holds
and how the fence works, `collection.py` makes the collection, `embedding.py` makes the vectors,
`generations.py` keeps collections side by side, and `errors.py` translates the client's errors
once. It promises what `consumers/projections/projection.py` says, over REST and in local mode. It
does not speak gRPC, and it does not know what a service's events mean: a mapping says that.
"""
