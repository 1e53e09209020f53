"""The servers of a machine: one module for each, and those that choose between several.

Start reading in `server.py`, which says what all servers have in common, and then in `broker.py`
(Kafka), `graph/graph.py`, `postgres.py` or `vectors.py`: each of these opens one part for the
length of a block, from a URL, from a container or from a process of our own. A part that is open
has answered. Servers listen on the loopback interface only. They are for development and tests,
and nothing here is meant for production; what each one lacks stands in its class's docstring.
"""
