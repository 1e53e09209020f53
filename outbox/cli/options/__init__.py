"""Options that several commands share, with the checks of what an operator types.

Start with `option_groups`: it gives a command all options of a group by one decorator. `selection`
is the group that selects published messages; `number` and `times` are the bounds and forms of
single values. Nothing here opens a connection or changes anything.
"""
