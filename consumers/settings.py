"""The settings of the consumers: those of the services, of the graph, the runner and drift."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from outbox.environment.postgres_address import check_neo4j
from services.settings import Settings as ServiceSettings


class Settings(ServiceSettings):
    """Everything that configures a consumer; see outbox.settings for where it is read from."""

    neo4j_url: Annotated[str, AfterValidator(check_neo4j)] = Field(
        default="bolt://127.0.0.1:7687", validation_alias="NEO4J_URL"
    )
    neo4j_user: str = Field(default="neo4j", validation_alias="NEO4J_USER")
    neo4j_password: SecretStr = Field(default=SecretStr(""), validation_alias="NEO4J_PASSWORD")
    neo4j_database: str = Field(default="neo4j", validation_alias="NEO4J_DATABASE")
    neo4j_answer_seconds: float = Field(default=30.0, gt=0)  # of one call with its repetitions

    session_timeout_milliseconds: int = Field(default=10_000, ge=1_000)
    rebalance_timeout_milliseconds: int = Field(default=10_000, ge=1_000)
    max_fetch_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    fetch_wait_milliseconds: int = Field(default=500, ge=1)  # at the broker, if nothing is new
    receive_messages: int = Field(default=1_000, ge=1)
    receive_wait_milliseconds: int = Field(default=200, ge=1)
    in_flight_messages: int = Field(default=20_000, ge=1)  # in memory, of all partitions
    in_flight_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    gap_keys: int = Field(default=100_000, ge=0)  # whose versions are remembered
    keys_side_by_side: int = Field(default=8, ge=1)
    unexpected_error_attempts: int = Field(default=5, ge=1)
    retry_poll_seconds: float = Field(default=1.0, gt=0)
    backoff_first_seconds: float = Field(default=0.1, gt=0)
    backoff_longest_seconds: float = Field(default=10.0, gt=0)

    drift_patience_seconds: float = Field(default=10.0, ge=0)
    drift_keys_per_second: float = Field(default=1_000.0, gt=0)  # of `drift watch`
    drift_pause_seconds: float = Field(default=60.0, ge=0)  # between its rounds
    drift_run_keys: int = Field(default=20_000, ge=1)  # held in memory; the rest is on disk
    repair_keys_per_second: float = Field(default=500.0, gt=0)
    repair_max_share: float = Field(
        default=0.1, ge=0, le=1
    )  # of all keys; an operator must allow more
    repair_free_keys: int = Field(default=10, ge=0)  # so many may always be repaired
