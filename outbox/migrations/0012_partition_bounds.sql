-- The bounds of a day go through text inside this function. In a session with German or SQL dates
-- they carry the zone's abbreviation, which is read back as another zone: IST is written for
-- Kolkata, and means Israel. Whoever calls it, the days begin at midnight UTC.
ALTER FUNCTION outbox.create_partitions(integer) SET DateStyle = 'ISO, MDY';
ALTER FUNCTION outbox.create_partitions(integer) SET TimeZone = 'UTC';
