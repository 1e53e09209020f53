"""FA3: a limit of Neo4j, or an action of its administrator, is an outage, not a rejection."""

import pytest
from neo4j.exceptions import Neo4jError

from consumers.neo4j.client import translate_errors
from outbox.errors import DependencyDown, MessageRejected

OUTAGES = [
    "Neo.TransientError.General.DatabaseUnavailable",
    "Neo.TransientError.General.MemoryPoolOutOfMemoryError",
    "Neo.TransientError.General.OutOfMemoryError",
    "Neo.TransientError.General.TransactionMemoryLimit",
    "Neo.TransientError.Transaction.DeadlockDetected",
    "Neo.TransientError.Transaction.LockAcquisitionTimeout",
    "Neo.TransientError.Transaction.LockClientStopped",
    "Neo.TransientError.Transaction.MaximumTransactionLimitReached",
    "Neo.TransientError.Transaction.Terminated",
    "Neo.ClientError.Transaction.LockClientStopped",
    "Neo.ClientError.Transaction.Terminated",
    "Neo.ClientError.Transaction.TransactionNotFound",
    "Neo.ClientError.Transaction.TransactionStartFailed",
    "Neo.ClientError.Transaction.TransactionTimedOut",
    "Neo.ClientError.Transaction.TransactionTimedOutClientConfiguration",
    "Neo.ClientError.General.ForbiddenOnReadOnlyDatabase",
    "Neo.ClientError.General.TransactionOutOfMemoryError",
    "Neo.ClientError.General.WriteOnReadOnlyAccessDatabase",
    "Neo.ClientError.Cluster.NotALeader",
    "Neo.ClientError.Database.DatabaseNotFound",
    "Neo.ClientError.Routing.DbmsInPanicForbidden",
    "Neo.ClientError.Security.AuthenticationRateLimit",
    "Neo.ClientError.Security.AuthorizationExpired",
    "Neo.ClientError.Security.CredentialsExpired",
    "Neo.ClientError.Security.TokenExpired",
    "Neo.ClientError.Security.Unauthorized",
    "Neo.DatabaseError.General.StorageDamageDetected",
    "Neo.DatabaseError.General.UnknownError",
    "Neo.DatabaseError.Transaction.TransactionCommitFailed",
    "Neo.DatabaseError.Transaction.TransactionLogError",
]
REFUSALS = [
    "Neo.ClientError.Statement.ArgumentError",
    "Neo.ClientError.Statement.ArithmeticError",
    "Neo.ClientError.Statement.TypeError",
    "Neo.ClientError.Schema.ConstraintValidationFailed",
]


def said(code: str) -> Neo4jError:
    return Neo4jError._hydrate_neo4j(code=code, message="as the server says it")


@pytest.mark.parametrize("code", OUTAGES)
def test_a_limit_of_the_servers_is_an_outage(code: str) -> None:
    with pytest.raises(DependencyDown), translate_errors():
        raise said(code)


@pytest.mark.parametrize("code", REFUSALS)
def test_a_value_that_cannot_be_stored_is_refused(code: str) -> None:
    with pytest.raises(MessageRejected), translate_errors():
        raise said(code)


def test_having_no_descriptor_left_is_an_outage() -> None:
    with pytest.raises(DependencyDown), translate_errors():
        raise OSError(24, "Too many open files")
