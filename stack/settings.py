"""What the environment says about the parts: read once, checked, frozen, passed down."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from outbox.address import checked_kafka, checked_neo4j, checked_postgres, checked_qdrant


class StackSettings(BaseSettings):
    """URLs of parts that exist already; a part without one is started from its wheel.

    An empty variable counts as absent. Two limits, in seconds, bound every start and stop.
    The providers say what stands behind a missing URL: `wheel`, `local`, `mock` and `arcadedb` need
    nothing more than wheels; `docker` is a container; `maven` is Apache Kafka, or Neo4j, from its
    artifacts, kept in `cache_folder()`; `best` is the first real one that this machine has the
    means for, and the light one where it has none. Means that are there and fail are an error,
    never a reason for another provider. `kafka_quick_start` and `graph_quick_start` trade a
    server's speed under load for a start in half the time.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    postgres_url: SecretStr | None = None
    postgres_bin: Path | None = None
    kafka_url: Annotated[str, AfterValidator(checked_kafka)] | None = None
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
    java_home: Path | None = None
    kafka_quick_start: bool = Field(default=True, validation_alias="STACK_KAFKA_QUICK_START")
    graph_quick_start: bool = Field(default=True, validation_alias="STACK_GRAPH_QUICK_START")
    cache: Path | None = Field(default=None, validation_alias="AFTERCOMMIT_CACHE")
    xdg_cache_home: Path | None = None
    neo4j_url: Annotated[str, AfterValidator(checked_neo4j)] | None = None
    neo4j_user: str = "neo4j"
    neo4j_password: SecretStr | None = None
    neo4j_password_file: Path | None = None
    neo4j_database: str = "neo4j"
    qdrant_url: Annotated[str, AfterValidator(checked_qdrant)] | None = None
    qdrant_api_key: SecretStr | None = None
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
            checked_postgres(url.get_secret_value())
        return url

    def cache_folder(self) -> Path:
        """Where downloads are kept: AFTERCOMMIT_CACHE, else a folder in the user's cache."""
        if self.cache is not None:
            return self.cache.absolute()
        return (self.xdg_cache_home or Path.home() / ".cache").absolute() / "aftercommit"

    def graph_password(self) -> SecretStr:
        """The password for NEO4J_URL: from the variable, else the file, else empty."""
        if self.neo4j_password is not None:
            return self.neo4j_password
        if self.neo4j_password_file is not None:
            return SecretStr(self.neo4j_password_file.read_text(encoding="utf-8").strip())
        return SecretStr("")
