"""SQLSTATE: what an error of PostgreSQL is about, and so what happens next.

The codes are those of PostgreSQL's Appendix A. Only where the data or the statement itself is wrong
is it a DEFECT. What a server, an administrator or a limit did is the WORLD: to wait is right, and
no message is at fault. AGAIN is what another run of the transaction is likely to be spared.
"""

from enum import Enum

import psycopg


class Meaning(Enum):
    """What an error is about."""

    WORLD = "world"
    AGAIN = "again"
    DEFECT = "defect"


# Each class that PostgreSQL has, once. A class that is not here is somebody's own (RAISE ... USING
# ERRCODE), and a defect.
CLASSES: dict[str, Meaning] = {
    "02": Meaning.DEFECT,  # no data
    "03": Meaning.DEFECT,  # SQL statement not yet complete
    "08": Meaning.WORLD,  # connection
    "09": Meaning.DEFECT,  # triggered action
    "0A": Meaning.DEFECT,  # feature not supported
    "0B": Meaning.DEFECT,  # invalid transaction initiation
    "0F": Meaning.DEFECT,  # locator
    "0L": Meaning.DEFECT,  # invalid grantor
    "0P": Meaning.DEFECT,  # invalid role specification
    "0Z": Meaning.DEFECT,  # diagnostics
    "10": Meaning.DEFECT,  # XQuery
    "20": Meaning.DEFECT,  # case not found
    "21": Meaning.DEFECT,  # cardinality
    "22": Meaning.DEFECT,  # data
    "23": Meaning.DEFECT,  # integrity constraint
    "24": Meaning.DEFECT,  # invalid cursor state
    "25": Meaning.DEFECT,  # invalid transaction state
    "26": Meaning.AGAIN,  # a session without its prepared statements, as behind a pooler
    "27": Meaning.DEFECT,  # triggered data change
    "28": Meaning.WORLD,  # authorization: a password was changed, a role dropped
    "2B": Meaning.DEFECT,  # dependent privileges still exist
    "2D": Meaning.DEFECT,  # invalid transaction termination
    "2F": Meaning.DEFECT,  # SQL routine
    "34": Meaning.DEFECT,  # invalid cursor name
    "38": Meaning.DEFECT,  # external routine
    "39": Meaning.DEFECT,  # external routine invocation
    "3B": Meaning.DEFECT,  # savepoint
    "3D": Meaning.WORLD,  # the database is gone
    "3F": Meaning.WORLD,  # the schema is gone
    "40": Meaning.AGAIN,  # transaction rollback: serialization, deadlock
    "42": Meaning.DEFECT,  # syntax or access rule
    "44": Meaning.DEFECT,  # WITH CHECK OPTION
    "53": Meaning.WORLD,  # insufficient resources
    "54": Meaning.DEFECT,  # program limit exceeded: too deep, too wide
    "55": Meaning.WORLD,  # an object that is in use, or not in the state that it needs
    "57": Meaning.WORLD,  # operator intervention: cancelled, shut down, starting, dropped
    "58": Meaning.WORLD,  # system: I/O
    "72": Meaning.AGAIN,  # snapshot too old
    "F0": Meaning.WORLD,  # configuration file
    "HV": Meaning.DEFECT,  # foreign data wrapper
    "P0": Meaning.DEFECT,  # PL/pgSQL: what a trigger refuses
    "XX": Meaning.DEFECT,  # internal error: bounded attempts, for a message may be what provokes it
}
# Codes that mean something else than their class does.
CODES: dict[str, Meaning] = {
    "2200H": Meaning.WORLD,  # a sequence has no more numbers
    "25006": Meaning.WORLD,  # a read-only server: a standby, or one that an operator has locked
    "25P03": Meaning.WORLD,  # idle_in_transaction_session_timeout
    "25P04": Meaning.WORLD,  # transaction_timeout, PostgreSQL 17 and newer
    "40002": Meaning.DEFECT,  # an integrity constraint, found late
    "40003": Meaning.WORLD,  # nobody can tell whether it was committed
    "42501": Meaning.WORLD,  # rights that a person took away and will give back
    "42P05": Meaning.AGAIN,  # a session with another's prepared statements, as behind a pooler
    "55P03": Meaning.AGAIN,  # lock_timeout, NOWAIT
    "HV000": Meaning.WORLD,  # a foreign server fails
    "HV001": Meaning.WORLD,  # a foreign server: out of memory
    "HV00L": Meaning.WORLD,  # a foreign server: unable to create an execution
    "HV00N": Meaning.WORLD,  # a foreign server: unable to establish a connection
    "XX001": Meaning.WORLD,  # data are corrupted
    "XX002": Meaning.WORLD,  # an index is corrupted
}
# Where a code says too little, PostgreSQL's own function tells; its words are in the language of
# the server. A message's values reach none of these.
FUNCTIONS: dict[tuple[str, str], Meaning] = {
    # Somebody altered a table that a prepared statement reads; its next use plans anew.
    ("0A000", "RevalidateCachedQuery"): Meaning.AGAIN,
    # No partition takes the row: somebody has dropped the one for what has no day.
    ("23514", "ExecFindPartition"): Meaning.WORLD,
    # Transaction ids are kept back until somebody has vacuumed.
    ("54000", "GetNewTransactionId"): Meaning.WORLD,
    ("54000", "GetNewMultiXactId"): Meaning.WORLD,
}


def meaning_of(error: psycopg.Error) -> Meaning:
    """Without a SQLSTATE: the connection was lost, or was never there, unless we misused it."""
    state = error.sqlstate
    if state is None:
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        # libpq's own words in place of an answer have no class of their own.
        return Meaning.WORLD if lost or type(error) is psycopg.DatabaseError else Meaning.DEFECT
    told = FUNCTIONS.get((state, error.diag.source_function or ""))
    return told or CODES.get(state) or CLASSES.get(state[:2], Meaning.DEFECT)
