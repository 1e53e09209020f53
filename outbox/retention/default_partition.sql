-- Rows of the default partition that are past retention.

-- name: delete
-- The message is published, not parked, and not the latest of its key unless it is copied to
-- outbox.compacted. One snapshot shows all of that, and none of it can change back: only this
-- statement changes such a row, so no lock is needed.
DELETE FROM outbox.messages_default AS message
WHERE position > %(behind)s AND position <= %(upto)s AND created_at < %(before)s
  AND transaction_id < %(xmax)s::xid8 AND transaction_id <> ALL (%(running)s::xid8[])
  AND NOT EXISTS (SELECT FROM outbox.parked_messages AS waiting
                  WHERE waiting.aggregatetype = message.aggregatetype
                    AND waiting.aggregateid = message.aggregateid
                    AND waiting.position = message.position)
  AND NOT EXISTS (
      SELECT FROM outbox.streams AS head
      WHERE head.aggregatetype = message.aggregatetype AND head.aggregateid = message.aggregateid
        AND head.position = message.position
        AND NOT EXISTS (SELECT FROM outbox.compacted AS compacted
                        WHERE compacted.aggregatetype = head.aggregatetype
                          AND compacted.aggregateid = head.aggregateid
                          AND compacted.position = head.position))

-- name: count
SELECT count(*), min(created_at) FROM outbox.messages_default
WHERE position > %(behind)s AND position <= %(upto)s AND created_at < %(before)s
