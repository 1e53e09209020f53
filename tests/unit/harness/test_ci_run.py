"""FD9: .ci/run installs what its machine offers, and says what it goes on without."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[3] / ".ci" / "run"
PACKAGES = "pgbouncer libfaketime"
# What stands in for the machine's own programs; each says that it was called.
MAKE = 'echo "make $* with ${INSTALLED-nothing} strict=$STRICT_SKIPS"'
STUBS = {
    "make": MAKE,
    "id": 'echo "$AS_USER"',
    "sudo": '[ "$SUDO" = yes ] && shift && exec "$@"',
    "sleep": "true",
    "dpkg": '[ -e "$THERE" ]',
    "apt-get": 'echo "apt-get $1"; case $1 in'
    ' update) [ "$ARCHIVE" = yes ];; install) [ "$PACKAGE" = yes ] && : > "$THERE";; esac',
}
MACHINE = {"AS_USER": "0", "SUDO": "no", "ARCHIVE": "yes", "PACKAGE": "yes"}
TESTED = [f"make {what} with %s strict=1" for what in ("check", "test", "test-defaults SHORT=1")]


def run(folder: Path, without: str = "", **machine: str) -> subprocess.CompletedProcess[str]:
    """Run the script on a machine that has only these programs and the few that it needs."""
    for name, body in STUBS.items():
        if name != without:
            (folder / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
            (folder / name).chmod(0o755)
    for name in ("bash", "env", "dirname", "true"):
        (folder / name).symlink_to(shutil.which(name) or "")
    environment = MACHINE | machine | {"PATH": str(folder), "THERE": str(folder / "there")}
    return subprocess.run(
        [shutil.which("bash") or "", RUN],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def all_is_tested(ran: subprocess.CompletedProcess[str], installed: str) -> bool:
    made = [line for line in ran.stdout.splitlines() if line.startswith("make")]
    return ran.returncode == 0 and made == [line % installed for line in TESTED]


@pytest.mark.parametrize(
    "machine",
    [{}, {"AS_USER": "5", "SUDO": "yes"}, {"ARCHIVE": "no"}],
    ids=["as root", "by sudo", "one archive of several is away"],
)
def test_what_can_be_installed_is_installed_and_must_be_used(
    tmp_path: Path, machine: dict[str, str]
) -> None:
    ran = run(tmp_path, **machine)
    assert "apt-get install" in ran.stdout
    assert all_is_tested(ran, PACKAGES), ran.stderr


def test_what_is_there_is_not_installed_again(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    ran = run(tmp_path)
    assert "apt-get" not in ran.stdout
    assert all_is_tested(ran, PACKAGES)


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        ({"AS_USER": "5"}, "no apt-get that may be used"),
        ({"without": "apt-get"}, "no apt-get that may be used"),
        ({"ARCHIVE": "no", "PACKAGE": "no"}, "no package archive answers"),
    ],
    ids=["no rights", "another system", "no network"],
)
def test_a_machine_that_can_give_nothing_says_so_and_goes_on(
    tmp_path: Path, machine: dict[str, str], why: str
) -> None:
    ran = run(tmp_path, **machine)
    assert (
        ran.stderr.splitlines()[-1] == f".ci/run: {why}; going on with what of {PACKAGES} is here"
    )
    assert all_is_tested(ran, "nothing")


def test_an_archive_that_answers_and_does_not_give_fails_the_run(tmp_path: Path) -> None:
    ran = run(tmp_path, PACKAGE="no")
    assert ran.returncode == 1
    assert "apt-get cannot install" in ran.stderr
    assert "make" not in ran.stdout


@pytest.mark.parametrize("failing", ["check", "test", "test-defaults"])
def test_whatever_fails_fails_the_run(
    tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STUBS, "make", f"{MAKE}; [ $1 != {failing} ]")
    assert run(tmp_path).returncode != 0


def test_the_script_may_be_executed() -> None:
    assert os.access(RUN, os.X_OK)
