"""`python -m outbox …`, a file a subject; `outbox/__main__.py` puts them together."""
