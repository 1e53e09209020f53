-- The relay's lease, which is in its row; lease.py says what it promises.

-- name: take
UPDATE outbox.relay
SET owner = %(owner)s, term = term + 1,
    expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE name = 'main' AND outbox.may_take_lease(owner, expires_at, %(owner)s, %(seconds)s)
RETURNING term, ctid::text

-- name: renew
UPDATE outbox.relay SET expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE {held}
RETURNING ctid::text

-- name: release
UPDATE outbox.relay SET owner = NULL, expires_at = NULL WHERE name = 'main' AND term = %s
