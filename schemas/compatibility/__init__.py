"""Whether a changed JSON Schema would break somebody who knows the old one.

Start with `check`: `breaks_of_event` and `breaks_of_command` name each change that would, by field
and rule. They ask `inclusion` whether all documents of one schema are documents of another;
`alternatives` takes schemas apart, `bounds` compares limits, `exclusion` tells arms of a union
apart, and `refusal` is the answer. Patterns and keywords that JSON Schema does not define are
compared by their text, so an equivalent pattern in other words counts as a break.
"""
