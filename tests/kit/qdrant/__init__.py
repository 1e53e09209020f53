"""A stand-in for Qdrant's REST interface that a test can script, over an engine that stores points.

Start with `server`. The engine is Qdrant's own from a wheel (`engine`), or the local mode of
qdrant-client (`local`); `twists` are the wrong answers that a test can order. It serves the routes
that our projection needs, and no others: a real server is tested in tests/contracts.
"""
