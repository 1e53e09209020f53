"""House: whether the code keeps the sizes, docstrings and names that make it readable.

It reads every Python file that git knows, prints the figures as a table, and one line for each
broken rule. Exit code 1 says that a rule is broken; with --check only the broken rules are printed.

A body is every line of a function behind its docstring, blank lines included; a function inside
another one counts for both. Product code is what a user installs; `code` in the table is that, the
bench and the scripts.

Weaknesses: lines are counted, and not whether a reader understands them; of a docstring only its
first word is read; a file that git does not know yet is not read.
"""

import ast
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Annotated

import typer

from outbox.runtime.output import complain, print_table

ROOT = Path(__file__).parents[1]
PRODUCT = ("schemas", "outbox", "services", "consumers", "web", "stack")

MOST_BODY_LINES = 40
LEAST_PERCENT = {10: 80.0, 25: 98.0}  # of all bodies, by their number of lines
MOST_FILE_LINES = 300
MOST_TEST_FILE_LINES = 700
MOST_MODULES = 15  # of a folder, beside its __init__.py
UNDOCUMENTED_LINES = 5
LEAST_SENTENCES = 2

# Names of public classes that several modules of product code may define, each with its reason.
SHARED_NAMES = {
    "Settings": "each package reads its own part of the environment, and inherits the others'",
}
# Public names that need no docstring, as patterns of `path: name`, each with its reason.
OPENAPI = "its docstring would become a text of the OpenAPI document"
UNDOCUMENTED = {
    "services/*/routes.py: *": OPENAPI,
    "services/*/views.py: *": OPENAPI,
    "outbox/doctor/*.py: judge*": "the Check beside it says what it judges, and why",
}
# Docstrings that may begin with any word, as patterns of `path: name`, each with its reason.
ODDLY_BEGUN = {"services/prefer_wait.py: Why": "it is a text of the OpenAPI document"}
# What no docstring begins with, beside a word in lower case; a name may stand in quotes.
POINTERS = ("As in ", "Like ")

SENTENCE_END = re.compile(r"[.!?][)\"'`]*(?=\s|$)")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function
app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@dataclass(frozen=True)
class Module:
    """One Python file: its path below the root, with slashes, and its text."""

    path: str
    source: str

    @property
    def is_product(self) -> bool:
        return self.path.split("/")[0] in PRODUCT

    @property
    def is_test(self) -> bool:
        return self.path.startswith("tests/")

    @property
    def folder(self) -> str:
        return PurePosixPath(self.path).parent.as_posix()

    @property
    def is_package(self) -> bool:
        return PurePosixPath(self.path).name == "__init__.py"

    @property
    def lines(self) -> int:
        return len(self.source.splitlines())

    @property
    def most_lines(self) -> int:
        return MOST_TEST_FILE_LINES if self.is_test else MOST_FILE_LINES

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @cached_property
    def functions(self) -> list[Function]:
        """All of them, methods and functions inside functions included."""
        return [node for node in ast.walk(self.tree) if isinstance(node, Function)]

    @property
    def public(self) -> list[Function | ast.ClassDef]:
        """The public classes and functions at the top of the module."""
        named = [node for node in self.tree.body if isinstance(node, Function | ast.ClassDef)]
        return [node for node in named if not node.name.startswith("_")]


def count_body_lines(node: Function | ast.ClassDef) -> int:
    """Return the lines from the first statement behind the docstring to the last one."""
    body = node.body if ast.get_docstring(node) is None else node.body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def count_sentences(text: str) -> int:
    return len(SENTENCE_END.findall(text))


def count_modules(modules: Iterable[Module]) -> dict[str, int]:
    """Return how many modules each folder has, beside its `__init__.py`."""
    found: dict[str, int] = defaultdict(int)
    for module in modules:
        found[module.folder] += not module.is_package
    return found


def percent_within(lengths: Sequence[int], most: int) -> float:
    """Return how many percent of the lengths are at most so long; 100 without any."""
    return 100 * sum(length <= most for length in lengths) / len(lengths) if lengths else 100.0


def find_long_functions(modules: Sequence[Module]) -> Iterator[str]:
    for module in modules:
        for node in module.functions:
            if (lines := count_body_lines(node)) > MOST_BODY_LINES:
                where = f"{module.path}:{node.lineno}: {node.name}"
                yield f"{where}: {lines} lines of body; at most {MOST_BODY_LINES}"


def find_large_shares(modules: Sequence[Module]) -> Iterator[str]:
    """Name each group of files in which too few functions are short."""
    for group, members in group_modules(modules).items():
        lengths = body_lengths(members)
        for most, least in LEAST_PERCENT.items():
            if (percent := percent_within(lengths, most)) < least:
                share = f"{percent:.1f} % of the functions have at most {most} lines"
                yield f"{group}: {share}; at least {least:g} %"


def find_long_files(modules: Sequence[Module]) -> Iterator[str]:
    for module in modules:
        if module.lines > module.most_lines:
            yield f"{module.path}: {module.lines} lines; at most {module.most_lines}"


def find_full_folders(modules: Sequence[Module]) -> Iterator[str]:
    for folder, count in count_modules(modules).items():
        if count > MOST_MODULES:
            yield f"{folder}: {count} modules; at most {MOST_MODULES}"


def find_unexplained_folders(modules: Sequence[Module]) -> Iterator[str]:
    """Name each folder of product code whose `__init__.py` does not say what it is for."""
    product = [module for module in modules if module.is_product]
    packages = {module.folder: module for module in product if module.is_package}
    for folder in sorted({module.folder for module in product}):
        package = packages.get(folder)
        text = (ast.get_docstring(package.tree) if package else None) or ""
        if count_sentences(text) < LEAST_SENTENCES:
            wanted = f"a docstring of at least {LEAST_SENTENCES} sentences"
            yield f"{folder}/__init__.py: needs {wanted}"


def find_undocumented(modules: Sequence[Module]) -> Iterator[str]:
    """Name each public class and function of product code that is long and has no docstring."""
    for module in modules:
        for node in module.public if module.is_product else ():
            bare = count_body_lines(node) > UNDOCUMENTED_LINES and ast.get_docstring(node) is None
            if bare and not is_listed(UNDOCUMENTED, module, node.name):
                yield f"{module.path}:{node.lineno}: {node.name}: needs a docstring"


def is_listed(patterns: Iterable[str], module: Module, name: str) -> bool:
    """Return whether one of the patterns of `path: name` has this name of this module."""
    return any(fnmatchcase(f"{module.path}: {name}", pattern) for pattern in patterns)


def find_odd_beginnings(modules: Sequence[Module]) -> Iterator[str]:
    """Name each docstring of product code and tests that does not begin as a sentence does."""
    for module in modules:
        for node in ast.walk(module.tree) if module.is_product or module.is_test else ():
            text = (ast.get_docstring(node) if isinstance(node, Documented) else None) or ""
            name, line = getattr(node, "name", "the module"), getattr(node, "lineno", 1)
            odd = text[:1].islower() or text.startswith(POINTERS)
            if odd and not is_listed(ODDLY_BEGUN, module, name):
                yield f"{module.path}:{line}: {name}: its docstring begins with {text.split()[0]!r}"


def find_shared_names(modules: Sequence[Module]) -> Iterator[str]:
    """Name each public class that several modules of product code define."""
    defined: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        for node in module.public if module.is_product else ():
            if isinstance(node, ast.ClassDef):
                defined[node.name].append(module.path)
    for name, paths in defined.items():
        if len(paths) > 1 and name not in SHARED_NAMES:
            yield f"{name}: one name for several classes, in {', '.join(paths)}"


RULES: tuple[Callable[[Sequence[Module]], Iterator[str]], ...] = (
    find_long_functions,
    find_large_shares,
    find_long_files,
    find_full_folders,
    find_unexplained_folders,
    find_undocumented,
    find_odd_beginnings,
    find_shared_names,
)


def find_problems(modules: Sequence[Module]) -> list[str]:
    """Return one line for each broken rule, in the order of RULES."""
    return [problem for rule in RULES for problem in rule(modules)]


def group_modules(modules: Iterable[Module]) -> dict[str, list[Module]]:
    """Return the modules by the table's columns: what we run, and what tests it."""
    groups: dict[str, list[Module]] = {"code": [], "tests": []}
    for module in modules:
        groups["tests" if module.is_test else "code"].append(module)
    return groups


def body_lengths(modules: Iterable[Module]) -> list[int]:
    return [count_body_lines(node) for module in modules for node in module.functions]


def describe(modules: Sequence[Module]) -> list[tuple[str, ...]]:
    """Return the rows of the table: a figure, its value in each group, and what is allowed."""
    columns = [_describe_group(members) for members in group_modules(modules).values()]
    rows = [
        ("functions", ""),
        ("median body, in lines", ""),
        *(
            (f"bodies of up to {most} lines", f"at least {least:g} %")
            for most, least in LEAST_PERCENT.items()
        ),
        ("longest body", f"at most {MOST_BODY_LINES}"),
        ("longest file", f"at most {MOST_FILE_LINES}; {MOST_TEST_FILE_LINES} in tests"),
        ("modules of the fullest folder", f"at most {MOST_MODULES}"),
    ]
    return [
        (name, *figures, allowed) for (name, allowed), *figures in zip(rows, *columns, strict=True)
    ]


def _describe_group(modules: Sequence[Module]) -> list[str]:
    lengths = body_lengths(modules)
    return [
        f"{len(lengths):,}",
        f"{median(lengths or [0]):g}",
        *(f"{percent_within(lengths, most):.1f} %" for most in LEAST_PERCENT),
        f"{max(lengths, default=0)}",
        f"{max((module.lines for module in modules), default=0)}",
        f"{max(count_modules(modules).values(), default=0)}",
    ]


def read_modules(root: Path) -> list[Module]:
    """Return every Python file that git knows below `root` and that is still there."""
    command = [shutil.which("git") or "git", "ls-files", "-z", "*.py"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout  # noqa: S603 - a constant command
    paths = [path for path in listed.split("\0") if path and (root / path).is_file()]
    return [Module(path, (root / path).read_text(encoding="utf-8")) for path in sorted(paths)]


@app.command()
def main(
    check: Annotated[bool, typer.Option("--check", help="Print only what is broken.")] = False,
) -> None:
    """Count functions, files and folders; exit code 1 where a rule is broken."""
    try:
        modules = read_modules(ROOT)
    except (OSError, subprocess.CalledProcessError) as error:
        complain(f"git cannot list the files of {ROOT}: {error}")
        raise typer.Exit(2) from error
    if not check:
        print_table(("figure", "code", "tests", "allowed"), describe(modules))
    problems = find_problems(modules)
    for problem in problems:
        complain(problem)
    raise typer.Exit(1 if problems else 0)


if __name__ == "__main__":
    app()
