"""SQLSTATE: what an error of PostgreSQL is about, and so what happens next.

The codes are those of PostgreSQL's Appendix A. An error is a DEFECT only where the data or the
statement itself is wrong. An error that a server, an administrator or a limit caused is about the
DEPENDENCY: waiting is right, and no message is at fault. AGAIN marks an error that another run of
the transaction is likely not to meet.
"""

from enum import Enum

import psycopg


class Meaning(Enum):
    """What an error is about; it decides what happens next."""

    DEPENDENCY = "dependency"
    AGAIN = "again"
    DEFECT = "defect"


# Each class of codes that PostgreSQL has. A class that is missing here was made up by somebody
# (RAISE ... USING ERRCODE) and is a defect.
CLASSES: dict[str, Meaning] = {
    "02": Meaning.DEFECT,  # no data
    "03": Meaning.DEFECT,  # SQL statement not yet complete
    "08": Meaning.DEPENDENCY,  # connection
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
    "26": Meaning.AGAIN,  # a session without its prepared statements, behind a pooler
    "27": Meaning.DEFECT,  # triggered data change
    "28": Meaning.DEPENDENCY,  # authorization: a password was changed, a role dropped
    "2B": Meaning.DEFECT,  # dependent privileges still exist
    "2D": Meaning.DEFECT,  # invalid transaction termination
    "2F": Meaning.DEFECT,  # SQL routine
    "34": Meaning.DEFECT,  # invalid cursor name
    "38": Meaning.DEFECT,  # external routine
    "39": Meaning.DEFECT,  # external routine invocation
    "3B": Meaning.DEFECT,  # savepoint
    "3D": Meaning.DEPENDENCY,  # the database is gone
    "3F": Meaning.DEPENDENCY,  # the schema is gone
    "40": Meaning.AGAIN,  # transaction rollback: serialization, deadlock
    "42": Meaning.DEFECT,  # syntax or access rule
    "44": Meaning.DEFECT,  # WITH CHECK OPTION
    "53": Meaning.DEPENDENCY,  # insufficient resources
    "54": Meaning.DEFECT,  # program limit exceeded: too deep, too wide
    "55": Meaning.DEPENDENCY,  # an object that is in use, or not in the state that it needs
    "57": Meaning.DEPENDENCY,  # operator intervention: cancelled, shut down, starting, dropped
    "58": Meaning.DEPENDENCY,  # system: I/O
    "72": Meaning.AGAIN,  # snapshot too old
    "F0": Meaning.DEPENDENCY,  # configuration file
    "HV": Meaning.DEFECT,  # foreign data wrapper
    "P0": Meaning.DEFECT,  # PL/pgSQL: what a trigger refuses
    "XX": Meaning.DEFECT,  # internal error: bounded attempts, for a message may be what provokes it
}
# Codes that mean something else than their class.
CODES: dict[str, Meaning] = {
    "2200H": Meaning.DEPENDENCY,  # a sequence has no more numbers
    "25006": Meaning.DEPENDENCY,  # a read-only server: a standby, or one that an operator locked
    "25P03": Meaning.DEPENDENCY,  # idle_in_transaction_session_timeout
    "25P04": Meaning.DEPENDENCY,  # transaction_timeout, PostgreSQL 17 and newer
    "40002": Meaning.DEFECT,  # an integrity constraint, found late
    "40003": Meaning.DEPENDENCY,  # it is unknown whether it was committed
    "42501": Meaning.DEPENDENCY,  # rights that an operator took away and will give back
    "42P05": Meaning.AGAIN,  # a session with another's prepared statements, behind a pooler
    "55P03": Meaning.AGAIN,  # lock_timeout, NOWAIT
    "HV000": Meaning.DEPENDENCY,  # a foreign server fails
    "HV001": Meaning.DEPENDENCY,  # a foreign server: out of memory
    "HV00L": Meaning.DEPENDENCY,  # a foreign server: unable to create an execution
    "HV00N": Meaning.DEPENDENCY,  # a foreign server: unable to establish a connection
    "XX001": Meaning.DEPENDENCY,  # data are corrupted
    "XX002": Meaning.DEPENDENCY,  # an index is corrupted
}
# Where a code says too little, the name of the function in PostgreSQL tells more; the text of an
# error is in the server's language. The values of a message reach none of these functions.
FUNCTIONS: dict[tuple[str, str], Meaning] = {
    # Somebody altered a table that a prepared statement reads; its next use plans anew.
    ("0A000", "RevalidateCachedQuery"): Meaning.AGAIN,
    # No partition takes the row: somebody has dropped the default partition.
    ("23514", "ExecFindPartition"): Meaning.DEPENDENCY,
    # The server gives no transaction ids until somebody has vacuumed.
    ("54000", "GetNewTransactionId"): Meaning.DEPENDENCY,
    ("54000", "GetNewMultiXactId"): Meaning.DEPENDENCY,
}


def meaning_of(error: psycopg.Error) -> Meaning:
    """Return what an error is about, by its SQLSTATE.

    Without a SQLSTATE the connection was lost or was never there, unless we misused the driver.
    """
    state = error.sqlstate
    if state is None:
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        # An error of libpq itself, not of the server, has no class of its own.
        return (
            Meaning.DEPENDENCY if lost or type(error) is psycopg.DatabaseError else Meaning.DEFECT
        )
    by_function = FUNCTIONS.get((state, error.diag.source_function or ""))
    return by_function or CODES.get(state) or CLASSES.get(state[:2], Meaning.DEFECT)
