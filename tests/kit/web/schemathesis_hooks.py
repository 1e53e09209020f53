"""Hooks of schemathesis for three rules that an OpenAPI document cannot express.

Each holds between requests or between the parts of one, where JSON Schema has no word for it. Only
requests that are meant to be right are changed; the rules have tests of their own
(test_http_commands.py, test_search_filters.py, test_http_items.py).
"""

from collections.abc import Iterable
from itertools import count
from typing import Any

import schemathesis

KEY = "Idempotency-Key"
LONGEST_KEY = 200
numbers = count()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:  # noqa: ARG001 - its signature
    if not case.meta.generation.mode.is_positive:
        return
    if case.headers and (key := case.headers.get(KEY)):
        # A key names one command: with another body it is refused (id-reused).
        case.headers[KEY] = f"{next(numbers)}-{key}"[:LONGEST_KEY]
    if case.query and isinstance(where := case.query.get("where"), list):
        # All conditions hold, so an attribute that must be two things is a mistake.
        case.query["where"] = _distinct(where, lambda condition: condition.partition(":")[0])
    if isinstance(case.body, dict) and isinstance(items := case.body.get("items"), list):
        # An item has one state in a command.
        case.body["items"] = _distinct(items, lambda item: item["item_id"])


def _distinct(values: Iterable[Any], name: Any) -> list[Any]:
    return list({name(value): value for value in values}.values())
