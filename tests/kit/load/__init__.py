"""Load: roles of ours as processes or tasks, and writers that go on while a test disturbs them.

Start with `role` (a process to kill or stop) and `roles` (the same in the test's own process).
`writer`, `stream`, `load` and `commander` make traffic; `kills` chooses the moment of a death;
`units`, `schedules` and `interleavings` run two writers in every order of their steps. How long and
how often is decided in `length`, and `seed` makes a random test repeatable.
"""
