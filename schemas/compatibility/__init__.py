"""Whether a changed JSON Schema would break somebody who knows the old one.

Start with `check`: `find_event_breaks` and `find_command_breaks` name each such change by field and
rule. They ask `inclusion` whether all documents of one schema are documents of another;
`alternatives` takes schemas apart, `bounds` compares limits, `exclusion` tells arms of a union
apart, and `refusal` is the answer. Patterns and keywords that JSON Schema does not define are
compared by their text, so an equivalent pattern in other words counts as a break.
"""
