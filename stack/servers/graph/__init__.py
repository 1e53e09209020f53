"""A graph database: a server at a URL, Neo4j Community itself, or ArcadeDB over Bolt.

Start reading in `graph.py`, which chooses between them by the settings and opens one for the length
of a block. Each of `neo4j.py` and `arcadedb.py` is one server; `bolt.py` asks whether a server
answers. Whatever stands behind it, the part is reached by the official neo4j driver. ArcadeDB is a
stand-in with gaps in its Cypher, and none of the servers here is a cluster.
"""
