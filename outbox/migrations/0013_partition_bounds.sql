-- The bounds of a day go through text inside this function. In a session with German or SQL dates
-- they carry the abbreviation of a zone, which PostgreSQL reads back as another one (before 18): IST is written for
-- Kolkata, and means Israel. Whoever calls it, the days begin at midnight UTC.
ALTER FUNCTION outbox.create_partitions(integer) SET DateStyle = 'ISO, MDY';
ALTER FUNCTION outbox.create_partitions(integer) SET TimeZone = 'UTC';
