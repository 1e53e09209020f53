"""Option groups: a command shows the options of its groups and gets their values."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner
from typer.utils import get_params_from_function

from outbox.cli.options.option_groups import group_options
from outbox.runtime.output import say

Size = Annotated[int, typer.Option("--size", help="How large.")]
Colour = Annotated[str | None, typer.Option("--colour", help="Which colour.")]
All = Annotated[bool, typer.Option("--all", help="Any shape.")]


@dataclass(frozen=True)
class Shape:
    """A group that is a class."""

    size: Size = 1
    colour: Colour = None


@group_options(shape=Shape)
def choose_shape(shape: Shape, *, everything: All = False) -> Shape:
    """Hold another group."""
    if shape == Shape() and not everything:
        raise typer.BadParameter("say which")
    return shape


def build_app() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @group_options(shape=choose_shape)
    def draw(name: str, shape: Shape, rounds: int = 1) -> None:
        """Draw a shape."""
        say(f"{name}: {shape.size} {shape.colour} {rounds}")

    return app


def test_a_command_gets_the_value_of_its_group() -> None:
    drawn = CliRunner().invoke(build_app(), ["a", "--size", "3", "--colour", "red"])
    assert (drawn.exit_code, drawn.output) == (0, "a: 3 red 1\n")
    assert (
        CliRunner().invoke(build_app(), ["a", "--all", "--rounds", "2"]).output == "a: 1 None 2\n"
    )


def test_help_shows_the_options_of_a_group_in_its_place() -> None:
    (draw,) = build_app().registered_commands
    assert draw.callback is not None
    names = [each.name for each in get_params_from_function(draw.callback).values()]
    assert names == ["name", "size", "colour", "everything", "rounds"]
    shown = CliRunner().invoke(build_app(), ["--help"]).output
    assert all(text in shown for text in ("Draw a shape", "How large", "Which colour", "Any shape"))


def test_a_group_refuses_its_options() -> None:
    refused = CliRunner().invoke(build_app(), ["a"])
    assert refused.exit_code == 2
    assert "say which" in refused.output


def test_an_option_stands_once() -> None:
    with pytest.raises(ValueError, match="duplicate parameter name"):

        @group_options(shape=Shape)
        def draw(shape: Shape, size: int) -> None:
            """Have `size` twice."""
