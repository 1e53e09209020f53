"""The settings of the outbox: read once at the start, checked, frozen, and passed down.

The addresses of servers have the names that everybody uses (POSTGRES_URL, KAFKA_URL); every other
variable starts with AFTERCOMMIT_. Each limit carries its unit in its name.
"""

from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from outbox.environment.bootstrap_servers import parse_bootstrap_servers
from outbox.environment.operator import name_operator
from outbox.environment.postgres_address import PostgresAddress, check_postgres, to_libpq_form
from outbox.environment.variables import EnvironmentSettings

DEFAULT_SEARCH_PATH = '"$user", public'  # PostgreSQL's own default
# Schema names separated by commas, each plain or in double quotes; nothing that ends a statement.
SEARCH_PATH = r'^\s*(\w+|"[^"\x00]+")(\s*,\s*(\w+|"[^"\x00]+"))*\s*$'


class Settings(EnvironmentSettings):
    """The settings of the outbox, which those of services and consumers extend.

    SettingsRefused for a variable that no program of ours reads; ValidationError for a value that
    breaks a rule.
    """

    model_config = SettingsConfigDict(
        env_prefix="AFTERCOMMIT_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    postgres_url: SecretStr = Field(
        default=SecretStr("postgresql://postgres@127.0.0.1:5432/aftercommit"),
        validation_alias="POSTGRES_URL",
    )
    kafka_url: str = Field(default="127.0.0.1:9092", validation_alias="KAFKA_URL")

    profile: Literal["development", "production"] = "development"
    failpoints: str = Field(default="", validation_alias="FAILPOINTS")
    operator: str = Field(default_factory=name_operator, min_length=1, max_length=255)

    pool_connections: int = Field(default=10, ge=1, le=1_000)
    pool_timeout_seconds: float = Field(default=5.0, gt=0)
    connect_timeout_seconds: int = Field(default=5, ge=1)
    # Where a service's own unqualified tables are looked for, whatever the role's default is.
    search_path: str = Field(default=DEFAULT_SEARCH_PATH, pattern=SEARCH_PATH)
    prepared_statements: bool = True  # False behind a transaction pooler that cannot follow them
    contention_attempts: int = Field(default=6, ge=1)
    unit_timeout_seconds: float = Field(default=15.0, gt=0)  # a unit of work, connection to commit
    ready_timeout_seconds: float = Field(default=3.0, gt=0)  # the answer of PostgreSQL to /readyz

    lease_seconds: float = Field(default=10.0, ge=1)
    page_messages: int = Field(default=2_000, ge=1, le=100_000)
    page_bytes: int = Field(default=16 * 1024 * 1024, ge=1)
    poll_at_rest_milliseconds: int = Field(default=55, ge=1, le=10_000)
    publish_timeout_seconds: float = Field(default=5.0, gt=0)
    read_timeout_seconds: float = Field(default=30.0, gt=0)  # how long a broker may be silent
    inflated_batch_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)  # of one compressed batch
    partitions_ahead_days: int = Field(default=3, ge=1, le=60)
    partitions_check_seconds: float = Field(default=600.0, gt=0)

    retention_days: int = Field(default=7, ge=1, le=3_650)
    prune_check_seconds: float = Field(default=3_600.0, ge=0)  # 0: relays do not prune
    prune_lock_timeout_milliseconds: int = Field(default=500, ge=1, le=60_000)
    prune_chunk_messages: int = Field(default=10_000, ge=1, le=1_000_000)

    replay_messages_per_second: float = Field(default=1_000.0, gt=0)

    retry_messages: int = Field(default=200, ge=1, le=10_000)  # dead letters redelivered at once
    retry_bytes: int = Field(default=8 * 1024 * 1024, ge=1)

    stop_timeout_seconds: float = Field(default=8.0, gt=0)

    # The limits from which on doctor reports something as too long, too old or too short.
    doctor_timeout_seconds: float = Field(default=10.0, gt=0)  # of each question
    doctor_transaction_seconds: float = Field(default=60.0, gt=0)
    doctor_backlog_seconds: float = Field(default=60.0, gt=0)
    doctor_clock_seconds: float = Field(default=5.0, gt=0)
    doctor_short_seconds: float = Field(default=5.0, gt=0)  # of the server's timeouts
    doctor_retention_hours: float = Field(default=24.0, gt=0)

    log_format: str = Field(default="console", pattern="^(json|console)$")
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    log_queue_bytes: int = Field(default=1024 * 1024, ge=4096)  # lines beyond it are dropped

    @field_validator("kafka_url")
    @classmethod
    def _check_kafka_url(cls, url: str) -> str:
        return parse_bootstrap_servers(url)

    @field_validator("postgres_url")
    @classmethod
    def _check_postgres_url(cls, url: SecretStr) -> SecretStr:
        return SecretStr(check_postgres(url.get_secret_value()))

    @model_validator(mode="after")
    def _refuse_failpoints_in_production(self) -> Self:
        if self.failpoints and self.profile == "production":
            raise ValueError("FAILPOINTS: not in the production profile")
        return self

    def libpq_url(self) -> str:
        """Return the address as libpq reads it, also when it was given in SQLAlchemy's form.

        It may hold a password.
        """
        return to_libpq_form(self.postgres_url.get_secret_value())

    def postgres_address(self) -> PostgresAddress:
        """Return the address in its parts."""
        return PostgresAddress.parse(self.postgres_url.get_secret_value())
