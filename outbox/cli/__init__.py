"""The commands of `python -m outbox`, a file a subject; `outbox/__main__.py` puts them together.

A command reads its settings, asks or changes something over a connection of its own, and prints a
table, or one line of JSON with `--json`. What commands share is in `console`, `number`, `times`,
`selection` and `progress_bar`; the commands of `consumers` use it, too. Only exit codes and JSON
are for programs: tables and other texts are for operators, and may change.
"""
