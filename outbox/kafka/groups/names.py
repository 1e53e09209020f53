"""Names: how the consumer group of a consumer is called."""


def group_of(consumer: str) -> str:
    """Return the name of this consumer's group in Kafka."""
    return f"aftercommit.{consumer}"
