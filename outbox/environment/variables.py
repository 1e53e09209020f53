"""EnvironmentSettings: settings that refuse a variable with our prefix that no program reads.

Otherwise a mistyped `AFTERCOMMIT_PROFIL=production` would be ignored, and the program would run
without the production profile. Variables are looked for in the environment and in `.env`, in upper
and lower case, because both are read.
"""

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from pydantic import ValidationError, field_validator
from pydantic_settings import BaseSettings

from outbox.environment.names import NAMES
from outbox.escape import escape

PREFIX = "AFTERCOMMIT_"
MOST = 2_147_483_647  # the limit of any number without a lower one: the kernel's, libpq's, Kafka's
SHOULD = re.compile(r"^(Input|String|Value) should ")


class SettingsRefused(ValueError):
    """A variable or a file that is refused.

    `lines` name each variable or file, where it is, and the rule that it breaks; never a value.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class EnvironmentSettings(BaseSettings):
    """Settings that are read from the environment, then from `.env`.

    SettingsRefused for an unknown name with our prefix in either, and for a `.env` that exists and
    cannot be read. Names of other programs are ignored. ValidationError of pydantic for a value
    that breaks a rule; `broken_rules` puts it in words.
    """

    def __init__(self, **values: Any) -> None:
        file = values.get("_env_file", self.model_config.get("env_file"))
        _require_known(known_names(type(self)), variables_of(file))
        super().__init__(**values)

    @field_validator("*")
    @classmethod
    def _limit_numbers(cls, value: Any) -> Any:
        """Refuse a number above MOST, so that no wait overflows a clock."""
        if isinstance(value, int | float) and not value <= MOST:
            raise ValueError(f"must be at most {MOST}")
        return value


def known_names(cls: type[BaseSettings]) -> frozenset[str]:
    """Return the variables that `cls`, or any other settings of ours, read."""
    return _read_field_names(cls) | NAMES


def _read_field_names(cls: type[BaseSettings]) -> frozenset[str]:
    prefix = cls.model_config.get("env_prefix", "")
    own = {f"{prefix}{name}".upper() for name in cls.model_fields}
    return frozenset(own | {str(field.validation_alias) for field in cls.model_fields.values()})


def variables_of(file: Any) -> dict[str, str]:
    """Return the names in the environment and in the file, each with "" or " (in .env)"."""
    found = {}
    if isinstance(file, str | os.PathLike) and Path(file).exists():
        found = dict.fromkeys(_read_names(Path(file)), f" (in {escape(str(file))})")
    return found | dict.fromkeys(os.environ, "")


def broken_rules(error: ValidationError, file: Any = ".env") -> list[str]:
    """Return a line for each broken rule: `AFTERCOMMIT_PAGE_BYTES: must be …`, without a value."""
    try:
        there = variables_of(file)
    except SettingsRefused:
        there = {}
    return [_describe(each["loc"], each["msg"], there) for each in error.errors()]


def _describe(path: tuple[int | str, ...], rule: str, there: Mapping[str, str]) -> str:
    rule = SHOULD.sub("must ", rule.removeprefix("Value error, "))
    if not path:
        return escape(rule)  # the rule names its variables itself
    field = ".".join(map(str, path))
    name = field if field.isupper() else f"{PREFIX}{field.upper()}"
    spelled = next((each for each in reversed(list(there)) if each.upper() == name), name)
    return f"{escape(spelled)}: {escape(rule)}{there.get(spelled, '')}"


def _require_known(known: frozenset[str], there: Mapping[str, str]) -> None:
    ours = [name for name in there if name.upper().startswith(PREFIX)]
    lines = [
        f"{escape(name)}: is no setting{_suggest(name, known)}{there[name]}"
        for name in ours
        if name.upper() not in known
    ]
    if lines:
        raise SettingsRefused(*lines)


def _suggest(name: str, known: frozenset[str]) -> str:
    """Suggest the known name that is most like this one, or to remove it."""
    parts = [each.removeprefix(PREFIX) for each in known if each.startswith(PREFIX)]
    near = get_close_matches(name.upper().removeprefix(PREFIX), parts, n=1)
    return f"; did you mean {PREFIX}{near[0]}?" if near else "; remove it"


def _read_names(file: Path) -> Iterator[str]:
    """Yield the names that a `.env` sets; SettingsRefused where the file is not of that form."""
    for binding in parse_stream(StringIO(_read_text(file))):
        if binding.error:
            line = binding.original.line
            raise SettingsRefused(f"{escape(str(file))}: line {line} must be NAME=value")
        if binding.key is not None:
            yield binding.key


def _read_text(file: Path) -> str:
    name = escape(str(file))
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise SettingsRefused(f"{name}: must be UTF-8 text (byte {error.start})") from None
    except IsADirectoryError:
        raise SettingsRefused(f"{name}: must be a file, and is a folder") from None
    except OSError as error:
        raise SettingsRefused(f"{name}: cannot be read: {error.strerror}") from None
    if "\x00" in text:
        raise SettingsRefused(f"{name}: must be UTF-8 text, and holds NUL (is it UTF-16?)")
    return text
