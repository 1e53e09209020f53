"""How far consumer groups are, asked from outside: nothing here joins a group.

Start with `offsets` (what a topic holds, and what a group has not committed yet). `progress` tells
for each partition how far behind a group is and why its next record cannot be read; `lost_records`
finds what the broker removed before a group read it, and moves the group past it. Asking changes
nothing; only `skip_lost_records` commits offsets, and only while the group has no members. Answers
are those of one moment: a group that runs may have gone on by the time they are read.
"""
