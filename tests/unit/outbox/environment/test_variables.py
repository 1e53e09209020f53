"""FD3: a mistake in the environment or in `.env` is one line that names the variable."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from consumers.settings import Settings as ConsumerSettings
from outbox.environment.names import NAMES
from outbox.environment.variables import PREFIX, SettingsRefused, _read_field_names
from outbox.settings import Settings
from services.settings import Settings as ServiceSettings
from stack.settings import StackSettings

ROOT = Path(__file__).parents[4]
ALL = (Settings, ServiceSettings, ConsumerSettings, StackSettings)
SECRET = "hunter2-secret"  # noqa: S105 - a value that no error may repeat


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder, in which `.env` is looked for."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(
    package: str = "outbox", command: str = "status", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends before it opens anything; nothing listens at its address."""
    nowhere = {"POSTGRES_URL": "postgresql://postgres@127.0.0.1:1/none"}
    return subprocess.run(
        [sys.executable, "-m", package, command], check=False, capture_output=True, text=True,
        env=os.environ | nowhere | {"PYTHONPATH": str(ROOT)} | variables,
    )  # fmt: skip


def test_the_names_that_programs_know_are_those_of_all_settings() -> None:
    """A setting that was added anywhere must be added to outbox/environment/names.py, too."""
    every = frozenset[str]().union(*(_read_field_names(cls) for cls in ALL))
    assert {name for name in every if name.startswith(PREFIX)} == NAMES


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_a_setting_of_any_program_of_ours_is_taken_by_all(
    cls: type[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PROFILE": "production", "HTTP_PORT": "1", "CACHE": "/c"}.items():
        monkeypatch.setenv(PREFIX + name, value)
    cls()


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("AFTERCOMMIT_PROFIL", "AFTERCOMMIT_PROFILE"),
        ("aftercommit_profil", "AFTERCOMMIT_PROFILE"),
        ("AFTERCOMMIT_LEASE_SECOND", "AFTERCOMMIT_LEASE_SECONDS"),
        ("AFTERCOMMIT_HTTPPORT", "AFTERCOMMIT_HTTP_PORT"),
        ("AFTERCOMMIT_CACHES", "AFTERCOMMIT_CACHE"),
    ],
)
def test_a_mistyped_name_is_refused_with_the_nearest(
    cls: type[Settings], name: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, SECRET)
    with pytest.raises(SettingsRefused) as refused:
        cls()
    assert refused.value.lines == (f"{name}: is no setting; did you mean {meant}?",)


def test_a_mistyped_name_in_a_file_is_refused_with_its_place(folder: Path) -> None:
    (folder / ".env").write_text(f"AFTERCOMMIT_PROFIL={SECRET}\n", encoding="utf-8")
    with pytest.raises(SettingsRefused, match=r"^AFTERCOMMIT_PROFIL: .*PROFILE\? \(in \.env\)$"):
        Settings()


def test_a_name_that_is_like_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCOMMIT_QQQQQQ", "1")
    with pytest.raises(SettingsRefused, match=r"^AFTERCOMMIT_QQQQQQ: is no setting; remove it$"):
        Settings()


def test_names_of_other_programs_are_not_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not read either: without a prefix, any program's `CACHE` set our download folder."""
    others = ("CACHE", "KAFKA_PROVIDER", "STOP_TIMEOUT_SECONDS", "AFTERCOMMITS_PROFIL")
    for name in others:
        monkeypatch.setenv(name, "-1")
    (folder / ".env").write_text("COMPOSE_PROJECT=x\nPOSTGRES_PASSWORD=y\n", encoding="utf-8")
    assert StackSettings() == StackSettings.model_validate({})
    assert StackSettings().cache is None
    Settings()


def test_broken_rules_are_named_as_in_the_environment_one_a_line(folder: Path) -> None:
    (folder / ".env").write_text("AFTERCOMMIT_PAGE_BYTES=none\n", encoding="utf-8")
    ran = run_command(
        AFTERCOMMIT_POOL_CONNECTIONS=SECRET, aftercommit_lease_seconds="-1",
        AFTERCOMMIT_LOG_FORMAT=SECRET, AFTERCOMMIT_PROFILE=SECRET,
    )  # fmt: skip
    assert ran.returncode == 2
    lines = dict(line.split(": ", 1) for line in ran.stderr.splitlines())
    assert lines.keys() == {
        "AFTERCOMMIT_PROFILE", "AFTERCOMMIT_POOL_CONNECTIONS", "aftercommit_lease_seconds",
        "AFTERCOMMIT_PAGE_BYTES", "AFTERCOMMIT_LOG_FORMAT",
    }  # fmt: skip
    assert lines["aftercommit_lease_seconds"] == "must be greater than or equal to 1"
    assert lines["AFTERCOMMIT_PAGE_BYTES"].endswith("(in .env)")
    assert SECRET not in ran.stderr


def test_rules_that_join_two_settings_name_both() -> None:
    ran = run_command("services", "migrate", AFTERCOMMIT_DRAIN_SECONDS="9")
    assert ran.stderr.startswith("AFTERCOMMIT_DRAIN_SECONDS + AFTERCOMMIT_SHUTDOWN_TIMEOUT_SECONDS")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize("value", ["inf", "nan", "1e400", "1" * 5_000, "99999999999", "-0"])
def test_no_number_is_beyond_what_a_clock_or_a_server_takes(value: str) -> None:
    ran = run_command(
        AFTERCOMMIT_POOL_TIMEOUT_SECONDS=value, AFTERCOMMIT_CONNECT_TIMEOUT_SECONDS=value
    )
    assert ran.returncode == 2
    names = [line.split(":")[0] for line in ran.stderr.splitlines()]
    assert names == ["AFTERCOMMIT_POOL_TIMEOUT_SECONDS", "AFTERCOMMIT_CONNECT_TIMEOUT_SECONDS"]
    assert value not in ran.stderr or value == "-0"


def test_bytes_that_are_no_text_are_named() -> None:
    ran = run_command(AFTERCOMMIT_OPERATOR="a\udcff")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
    assert ran.stderr.startswith("AFTERCOMMIT_OPERATOR: must be a valid string")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("AFTERCOMMIT_PROFILE=development\n".encode("utf-16"), "must be UTF-8 text (byte 0)"),
        ("AFTERCOMMIT_PROFILE=development\n".encode("utf-16-le"), "holds NUL (is it UTF-16?)"),
        (
            "# Zoë\nAFTERCOMMIT_PROFILE=development\n".encode("latin-1"),
            "must be UTF-8 text (byte 4)",
        ),
        (b"AFTERCOMMIT_PROFILE=development\n'half a line\n", "line 2 must be NAME=value"),
    ],
    ids=["UTF-16", "UTF-16 without a mark", "Latin-1", "no assignment"],
)
def test_a_file_that_cannot_be_read_is_named_with_the_rule(
    folder: Path, content: bytes, rule: str
) -> None:
    (folder / ".env").write_bytes(content)
    for package, command in (("outbox", "status"), ("consumers", "qdrant"), ("web", "serve")):
        ran = run_command(package, command)
        assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1), ran.stderr
        assert ran.stderr.startswith(".env: ")
        assert rule in ran.stderr


def test_a_folder_in_its_place_is_named(folder: Path) -> None:
    """Docker creates a folder where the file to mount is missing; it used to be ignored."""
    (folder / ".env").mkdir()
    assert run_command().stderr == ".env: must be a file, and is a folder\n"


def test_a_mark_of_byte_order_does_not_hide_the_first_name(folder: Path) -> None:
    (folder / ".env").write_bytes(b"\xef\xbb\xbfAFTERCOMMIT_PROFILE=production\n")
    assert Settings().profile == "production"


def test_arguments_that_are_no_text_are_one_line() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "outbox", "parked", "list", "--key", b"\xff"], check=False,
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (2, "argument 4: must be UTF-8\n")
