"""How an envelope becomes a Kafka record, and a Kafka record an envelope: CloudEvents 1.0.2.

Start with `codec`: it has `encode` and `decode`, which is all that other rooms usually need, and so
they stand here too. `attributes` reads headers, `media_type` content types, and `rfc3339` times.
The promise: what `encode` writes, `decode` reads as the same envelope, and a record that cannot be
read raises MessageRejected and nothing else. What is in a payload is not looked at: see
`schemas.registry`.
"""

from schemas.wire.codec import Headers, decode, encode

__all__ = ["Headers", "decode", "encode"]
