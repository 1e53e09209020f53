"""The settings of the services: those of the outbox, the search store, and the HTTP server."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from outbox.environment.postgres_address import check_qdrant
from outbox.settings import Settings as OutboxSettings


class Settings(OutboxSettings):
    """The settings of a service; outbox.settings says where they are read from."""

    qdrant_url: Annotated[str, AfterValidator(check_qdrant)] = Field(
        default="http://127.0.0.1:6333", validation_alias="QDRANT_URL"
    )
    qdrant_api_key: SecretStr | None = Field(default=None, validation_alias="QDRANT_API_KEY")
    qdrant_timeout_seconds: int = Field(default=10, ge=1)
    embedding_dimension: Literal[64, 128, 256] = 256  # of a first generation's vectors

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8000, ge=0, le=65_535)
    # From the first byte of a request on.
    request_headers_timeout_seconds: float = Field(default=10.0, gt=0)
    body_timeout_seconds: float = Field(default=10.0, gt=0)
    drain_seconds: float = Field(
        default=1.0, ge=0
    )  # it says that it is not ready, and still serves
    shutdown_timeout_seconds: int = Field(default=5, ge=1)  # for requests under way, after that
    wait_longest_seconds: float = Field(default=30.0, ge=0, le=3_600)
    waits_side_by_side: int = Field(default=100, ge=1)

    @model_validator(mode="after")
    def _ends_in_time(self) -> Self:
        if self.drain_seconds + self.shutdown_timeout_seconds > self.stop_timeout_seconds:
            raise ValueError(
                "AFTERCOMMIT_DRAIN_SECONDS + AFTERCOMMIT_SHUTDOWN_TIMEOUT_SECONDS: "
                "at most AFTERCOMMIT_STOP_TIMEOUT_SECONDS"
            )
        return self
