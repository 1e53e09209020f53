"""A migration that has been applied anywhere is never edited: it is changed by a later one."""

from services.migrations import all_migrations

# The beginning of each file's SHA-256. A new migration adds its line; no line ever changes.
APPLIED = {
    "outbox 0001 messages": "301896f894a1f364",
    "outbox 0002 partitions": "8350a2c874dcf10c",
    "outbox 0003 streams": "b86b1661202b56d1",
    "outbox 0004 checks": "440a2e56e410f041",
    "outbox 0005 publish": "d95d8bf31042b226",
    "outbox 0006 receipts": "8dcf0d7c7faa95fd",
    "outbox 0007 relay": "1ad95bf12c0d60f3",
    "outbox 0008 database_identity": "40119e4ccca3dd47",
    "outbox 0009 parked": "a8fc261694f499e0",
    "outbox 0010 operations": "8cc23e3f0b07306e",
    "outbox 0011 dead_letters": "7e72e3eaf534bf5d",
    "outbox 0012 compacted": "faf0fe13fedc7398",
    "outbox 0013 replays": "8ded732501813d8f",
    "outbox 0014 rebuilds": "cbbb306fa193a767",
    "catalog 0001 catalog": "baf3a17bb86d3cd6",
}


def test_no_migration_that_was_applied_is_edited() -> None:
    found = {
        f"{each.component} {each.number:04d} {each.name}": each.digest[:16]
        for each in all_migrations()
    }
    assert found == APPLIED
