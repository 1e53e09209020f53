"""The commands of `python -m consumers`, one file a subject; `__main__` puts them together.

Start with `options.py`, which holds the options that several commands share.
The modules here parse options, ask the packages below and print the answer; they hold no logic of
their own. With `--json` a command prints one line of JSON instead of tables.
The exit codes stand in README.md and, if a command has its own, in its help.
"""
