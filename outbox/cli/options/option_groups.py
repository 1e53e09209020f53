"""Option groups: options that several commands take together, written once.

A group is a function, or a class, whose parameters are options and which returns one value. A
command that is decorated by `group_options` has a parameter for that value; typer and `--help` show
the options of the group in its place. A group may be decorated, too, and so hold another group.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from inspect import Parameter, signature
from typing import Any, TypeVar

T = TypeVar("T")


def group_options(**groups: Callable[..., Any]) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Return a decorator that puts the options of each group in the place of a parameter.

    The names are those of the command's parameters. The group is called with the options that were
    given, before the command itself; so it may refuse them by BadParameter. An option that stands
    twice, in a group or in the command, raises ValueError.
    """

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        options = {name: _read_parameters(group) for name, group in groups.items()}

        @wraps(command)
        def run(**given: Any) -> T:
            values = {name: group(**_take(given, options[name])) for name, group in groups.items()}
            return command(**given, **values)

        shown: list[Parameter] = []
        for parameter in _read_parameters(command):
            shown += options.get(parameter.name, [parameter])
        # The signature is what typer reads; mypy knows no such attribute of a function.
        run.__signature__ = signature(command).replace(parameters=shown)  # type: ignore[attr-defined]
        run.__annotations__ = {option.name: option.annotation for option in shown}
        return run

    return decorate


def _take(given: dict[str, Any], options: Iterable[Parameter]) -> dict[str, Any]:
    """Remove these options from what was given, and return those that were there."""
    return {each.name: given.pop(each.name) for each in options if each.name in given}


def _read_parameters(function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters, all by keyword: an option without a default may stand behind one."""
    parameters = signature(function, eval_str=True).parameters.values()
    return [each.replace(kind=Parameter.KEYWORD_ONLY) for each in parameters]
