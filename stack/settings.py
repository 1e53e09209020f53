"""Settings: what the environment says about the parts, read once, checked and never changed."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from outbox.environment.bootstrap_servers import parse_bootstrap_servers
from outbox.environment.postgres_address import check_neo4j, check_postgres, check_qdrant
from outbox.environment.variables import EnvironmentSettings
from stack.errors import StackError


class StackSettings(EnvironmentSettings):
    """URLs of parts that exist already; a part without a URL is started from its wheel.

    An empty variable counts as absent. Two limits, in seconds, bound every start and stop.

    The providers say what stands behind a missing URL. `wheel`, `local`, `mock` and `arcadedb` need
    nothing more than wheels; `docker` is a container; `maven` is Apache Kafka, or Neo4j, from its
    artifacts, which `cache_folder()` keeps. `best` is the first real one that this machine can run,
    and the one of the wheel where it can run none. What is installed and fails is an error, and
    never a reason for another provider. `kafka_quick_start` and `graph_quick_start` start a server
    in half the time, and make it slower under load.
    """

    model_config = SettingsConfigDict(
        # A field is read by its own name, too: without a prefix it would be `CACHE`, which may be
        # another program's.
        env_prefix="STACK_",
        frozen=True,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    postgres_url: SecretStr | None = Field(default=None, validation_alias="POSTGRES_URL")
    postgres_bin: Path | None = Field(default=None, validation_alias="POSTGRES_BIN")
    kafka_url: Annotated[str, AfterValidator(parse_bootstrap_servers)] | None = Field(
        default=None, validation_alias="KAFKA_URL"
    )
    postgres_provider: Literal["wheel", "docker"] = Field(
        default="wheel", validation_alias="STACK_POSTGRES"
    )
    kafka_provider: Literal["mock", "maven", "docker", "best"] = Field(
        default="mock", validation_alias="STACK_KAFKA"
    )
    graph_provider: Literal["arcadedb", "maven", "docker", "best"] = Field(
        default="arcadedb", validation_alias="STACK_GRAPH"
    )
    qdrant_provider: Literal["local", "docker", "best"] = Field(
        default="local", validation_alias="STACK_QDRANT"
    )
    java_home: Path | None = Field(default=None, validation_alias="JAVA_HOME")
    kafka_quick_start: bool = Field(default=True, validation_alias="STACK_KAFKA_QUICK_START")
    graph_quick_start: bool = Field(default=True, validation_alias="STACK_GRAPH_QUICK_START")
    cache: Path | None = Field(default=None, validation_alias="AFTERCOMMIT_CACHE")
    xdg_cache_home: Path | None = Field(default=None, validation_alias="XDG_CACHE_HOME")
    neo4j_url: Annotated[str, AfterValidator(check_neo4j)] | None = Field(
        default=None, validation_alias="NEO4J_URL"
    )
    neo4j_user: str = Field(default="neo4j", validation_alias="NEO4J_USER")
    neo4j_password: SecretStr | None = Field(default=None, validation_alias="NEO4J_PASSWORD")
    neo4j_password_file: Path | None = Field(default=None, validation_alias="NEO4J_PASSWORD_FILE")
    neo4j_database: str = Field(default="neo4j", validation_alias="NEO4J_DATABASE")
    qdrant_url: Annotated[str, AfterValidator(check_qdrant)] | None = Field(
        default=None, validation_alias="QDRANT_URL"
    )
    qdrant_api_key: SecretStr | None = Field(default=None, validation_alias="QDRANT_API_KEY")
    ready_timeout_seconds: float = Field(
        default=180.0, gt=0, validation_alias="STACK_READY_TIMEOUT_SECONDS"
    )
    stop_timeout_seconds: float = Field(
        default=10.0, gt=0, validation_alias="STACK_STOP_TIMEOUT_SECONDS"
    )

    @field_validator("postgres_url")
    @classmethod
    def _postgres_url_is_an_address(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_postgres(url.get_secret_value())
        return url

    def cache_folder(self) -> Path:
        """Return where downloads are kept: AFTERCOMMIT_CACHE, else a folder in the user's cache."""
        if self.cache is not None:
            return self.cache.absolute()
        return (self.xdg_cache_home or _home() / ".cache").absolute() / "aftercommit"

    def graph_password(self) -> SecretStr:
        """Return the password for NEO4J_URL: from the variable, else the file, else empty."""
        if self.neo4j_password is not None:
            return self.neo4j_password
        if self.neo4j_password_file is not None:
            return SecretStr(_read(self.neo4j_password_file))
        return SecretStr("")


def _home() -> Path:
    """Raise StackError for a user id that has neither HOME nor an entry in the passwd file."""
    try:
        return Path.home()
    except RuntimeError:
        raise StackError("no home folder to keep downloads in: set AFTERCOMMIT_CACHE") from None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StackError(f"NEO4J_PASSWORD_FILE: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StackError("NEO4J_PASSWORD_FILE: must be UTF-8 text") from None
