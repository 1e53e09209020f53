"""A graph: a server at a URL, Neo4j Community itself, or ArcadeDB over Bolt.

Start reading in `graph.py`, which chooses between them and opens one for the length of a block.
`neo4j.py` and `arcadedb.py` are one server each, `own_server.py` is what both share, and `bolt.py`
asks whether a server answers.
Whatever stands behind it, the part is reached by the official neo4j driver. ArcadeDB is a stand-in
that speaks Cypher with gaps, and none of the servers here is a cluster.
"""
