-- A reply is kept as the text that was answered the first time: jsonb would sort its fields and write
-- its numbers in another way (1e23 as 24 digits, -0.0 as 0), and the second answer would differ.
ALTER TABLE outbox.receipts ALTER COLUMN reply TYPE json USING reply::json;
