"""Operations: helpers of the tests of commands, audits, replays, doctor and dead letters.

`command_line` runs a command as a process. `auditing` leaves a right history, and `planted_rows`
and `planted_records` add what an audit must find. `replaying` records and runs replays and reads
what they add to a topic. `doctor_readings` has the readings of sound servers, which a test makes
sick one by one.
"""
