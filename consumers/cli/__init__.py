"""The commands of `python -m consumers`, a file a subject; `__main__` puts them together."""
