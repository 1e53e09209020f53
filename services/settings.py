"""The settings of the services: the crossing's, and where the search store is."""

from pydantic import Field, SecretStr

from outbox.settings import Settings as OutboxSettings


class Settings(OutboxSettings):
    """What a service can be told; see outbox.settings for where it is read from."""

    qdrant_url: str = Field(default="http://127.0.0.1:6333", validation_alias="QDRANT_URL")
    qdrant_api_key: SecretStr | None = Field(default=None, validation_alias="QDRANT_API_KEY")
    qdrant_timeout_seconds: int = Field(default=10, ge=1)

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8000, ge=0, le=65_535)
    shutdown_timeout_seconds: int = Field(default=10, ge=1)
    wait_longest_seconds: float = Field(default=30.0, ge=0, le=3_600)
    waits_side_by_side: int = Field(default=100, ge=1)
