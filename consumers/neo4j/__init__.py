"""Neo4j as a projection: one node a key, fenced by version in the statement that writes it.

Start with `projection.py`; its docstring lists the weaknesses. `shape.py` says how an aggregate
looks in the graph and has the Cypher that locks, compares and writes; `node.py` refuses what a
graph cannot hold. `entries.py` reads nodes back, `constraints.py` makes the unique keys,
`generations.py` keeps graphs side by side, and `client.py` has the driver and its errors. It
promises what `consumers/projections/projection.py` says, with Neo4j 5.26 or newer and with ArcadeDB
over Bolt. It does not know what a service's events mean: a mapping says that.
"""
