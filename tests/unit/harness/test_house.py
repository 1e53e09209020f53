"""The script that counts lines, docstrings and names finds each broken rule, and no other."""

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scripts import house
from scripts.house import Module, count_body_lines, count_sentences, describe, find_problems

EXPLAINED = '"""What it is for. Where to start."""\n'
PACKAGE = Module("outbox/__init__.py", EXPLAINED)


def function(lines: int, name: str = "_work", docstring: str = "") -> str:
    """Return a function with so many lines of body, behind its docstring if there is one."""
    body = [docstring] if docstring else []
    return f"def {name}():\n" + "".join(f"    {line}\n" for line in [*body, *["pass"] * lines])


def problems(path: str, source: str) -> list[str]:
    """Return what is found in one module, in a package that says what it is for."""
    return find_problems([PACKAGE, Module(path, source)])


def many_functions(count: int, lines: int) -> str:
    return "".join(function(lines, f"_f{number}") for number in range(count))


def test_a_body_is_what_comes_behind_the_docstring() -> None:
    (plain, documented) = Module("x.py", function(3, "a") + function(3, "b", '"""B."""')).public
    assert [count_body_lines(plain), count_body_lines(documented)] == [3, 3]
    assert count_body_lines(Module("x.py", 'class A:\n    """Empty."""\n').public[0]) == 0


def test_a_long_body_is_named_with_its_place() -> None:
    others = many_functions(60, 1)
    assert problems("outbox/x.py", others + function(40)) == []
    (problem,) = problems("outbox/x.py", function(41) + others)
    assert problem == "outbox/x.py:1: _work: 41 lines of body; at most 40"


@pytest.mark.parametrize(("long", "found"), [(20, 0), (21, 1)])
def test_a_fifth_of_the_bodies_may_have_more_than_ten_lines(long: int, found: int) -> None:
    source = many_functions(100 - long, 1) + many_functions(long, 11)
    shares = [each for each in problems("tests/test_x.py", source) if "at most 10 lines" in each]
    assert len(shares) == found
    assert all(each.startswith("tests: 79.0 %") for each in shares)


@pytest.mark.parametrize(("long", "found"), [(2, 0), (3, 1)])
def test_one_body_in_fifty_may_have_more_than_25_lines(long: int, found: int) -> None:
    source = many_functions(100 - long, 1) + many_functions(long, 26)
    shares = [each for each in problems("bench/x.py", source) if "at most 25 lines" in each]
    assert len(shares) == found


@pytest.mark.parametrize(("path", "most"), [("outbox/x.py", 300), ("tests/test_x.py", 700)])
def test_a_long_file_is_named(path: str, most: int) -> None:
    assert problems(path, "#\n" * most) == []
    assert problems(path, "#\n" * (most + 1)) == [f"{path}: {most + 1} lines; at most {most}"]


def test_a_full_folder_is_named_and_its_package_file_does_not_count() -> None:
    modules = [PACKAGE, *(Module(f"outbox/m{number}.py", "") for number in range(15))]
    assert find_problems(modules) == []
    assert find_problems([*modules, Module("outbox/m.py", "")]) == [
        "outbox: 16 modules; at most 15"
    ]


@pytest.mark.parametrize("text", ["", '"""What it is for."""\n', '"""One: 1.5 of two"""\n'])
def test_a_folder_of_product_code_says_what_it_is_for(text: str) -> None:
    package = [Module("web/__init__.py", text)] if text else []
    found = find_problems([*package, Module("web/app.py", "")])
    assert found == ["web/__init__.py: needs a docstring of at least 2 sentences"]
    assert find_problems([Module("web/__init__.py", EXPLAINED), Module("web/app.py", "")]) == []
    assert find_problems([Module("tests/test_x.py", "")]) == []


def test_a_sentence_ends_with_a_full_stop_and_not_with_a_name() -> None:
    assert count_sentences("See outbox.kafka for 1.5 s. It is (as said.) Is it?") == 3


def test_a_long_public_function_or_class_of_product_code_needs_a_docstring() -> None:
    (problem,) = problems("outbox/x.py", function(6, "work"))
    assert problem == "outbox/x.py:1: work: needs a docstring"
    assert len(problems("outbox/x.py", "class Work:\n" + "    x = 1\n" * 6)) == 1
    for source in (function(5, "work"), function(6), function(6, "work", '"""Work."""')):
        assert problems("outbox/x.py", source) == []
    assert problems("bench/x.py", function(6, "work")) == []


@pytest.mark.parametrize(
    ("path", "name", "found"),
    [
        ("services/orders/views.py", "OrderView", 0),
        ("services/orders/handlers.py", "OrderView", 1),
        ("outbox/doctor/disk.py", "judge_space", 0),
        ("outbox/doctor/disk.py", "read_space", 1),
    ],
)
def test_a_name_with_a_reason_needs_no_docstring(path: str, name: str, found: int) -> None:
    module = Module(path, function(6, name))
    packages = [Module(f"{folder}/__init__.py", EXPLAINED) for folder in ("outbox", module.folder)]
    assert len(find_problems([*packages, module])) == found


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("which is a fragment.", "which"),
        ("psycopg does so.", "psycopg"),
        ("é is a letter, too.", "é"),
        ("As in audit.", "As"),
        ("Like the other one.", "Like"),
    ],
)
@pytest.mark.parametrize("path", ["outbox/x.py", "tests/test_x.py"])
def test_a_docstring_that_begins_as_no_sentence_does_is_named(
    path: str, text: str, word: str
) -> None:
    wanted = f"its docstring begins with {word!r}"
    quoted = f'"""{text}"""\n'
    assert problems(path, quoted) == [f"{path}:1: the module: {wanted}"]
    method = f"class A:\n    def b(self):\n        {quoted}"
    assert problems(path, method) == [f"{path}:2: b: {wanted}"]
    assert problems(path, f"class _A:\n    {quoted}") == [f"{path}:1: _A: {wanted}"]
    assert problems("bench/x.py", quoted) == []


@pytest.mark.parametrize(
    "text",
    ["Return it.", "`kill -9` of it.", "'x' is it.", "“x” is it.", "FA3: it waits.", "3 rows.",
     "Likely so.", "As intended.", "\\n    Return it.", ""],
)  # fmt: skip
def test_a_docstring_may_begin_with_a_sentence_a_quoted_name_or_a_number(text: str) -> None:
    assert problems("outbox/x.py", f'"""{text}"""\n') == []


def test_a_docstring_that_has_a_reason_may_begin_with_any_word() -> None:
    package = Module("services/__init__.py", EXPLAINED)
    for name, found in (("Why", 0), ("What", 1)):
        module = Module("services/prefer_wait.py", f'class {name}:\n    """lag: on its way."""\n')
        assert len(find_problems([package, module])) == found


def test_one_name_for_two_public_classes_is_found_unless_it_has_a_reason() -> None:
    def named(name: str, path: str = "outbox/y.py") -> list[str]:
        source = f"class {name}: ...\n"
        return find_problems([PACKAGE, Module("outbox/x.py", source), Module(path, source)])

    assert named("Outcome") == [
        "Outcome: one name for several classes, in outbox/x.py, outbox/y.py",
    ]
    assert named("_Outcome") == named("Settings") == named("Outcome", "tests/y.py") == []


def test_the_table_has_a_figure_a_row_for_code_and_for_tests() -> None:
    rows = {
        name: (code, tests)
        for name, code, tests, _ in describe(
            [PACKAGE, Module("outbox/x.py", function(3)), Module("tests/x.py", function(11))]
        )
    }
    assert rows["functions"] == ("1", "1")
    assert rows["bodies of up to 10 lines"] == ("100.0 %", "0.0 %")
    assert rows["longest body"] == ("3", "11")


def test_the_command_reads_what_git_knows_and_names_what_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "__init__.py": EXPLAINED,
        "long.py": "#\n" * 301,
        "new.py": "#\n" * 999,
    }.items():
        (tmp_path / "web").mkdir(exist_ok=True)
        (tmp_path / "web" / name).write_text(text)
    monkeypatch.setattr(house, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))  # no checkout around it
    assert run("--check")[0] == 2
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "web/__init__.py", "web/long.py")
    assert run("--check") == (1, "", "web/long.py: 301 lines; at most 300\n")
    (tmp_path / "web" / "long.py").unlink()
    assert run("--check") == (0, "", "")
    code, table, errors = run()
    assert (code, errors) == (0, "")
    assert "longest file" in table


def git(folder: Path, *arguments: str) -> None:
    subprocess.run([shutil.which("git") or "git", *arguments], cwd=folder, check=True)


def run(*options: str) -> tuple[int, str, str]:
    """Return the exit code, the standard output and the standard error."""
    result = CliRunner().invoke(house.app, options)
    return result.exit_code, result.stdout, result.stderr
