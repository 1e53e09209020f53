"""What may go wrong while a machine starts. Each message says what to do, or shows the log.

StackError
├── FolderUnusable   the data folder or an installation cannot be used by the server's account
├── PartMissing      a part has neither a URL in the environment nor its wheel
└── PartFailed       a server ended, did not get ready in time, or does not answer at its URL
    └── PortTaken    another program took the port first: the start is repeated on another one
"""


class StackError(Exception):
    """The machine, or one part of it, could not be started."""


class FolderUnusable(StackError):
    """A folder cannot be used by the account that a server runs as, or by two runs at once."""


class PartMissing(StackError):
    """A part has neither a URL in the environment nor its wheel installed."""


class PartFailed(StackError):
    """A server ended early, was not ready by its deadline, or does not answer at its URL."""


class PortTaken(PartFailed):
    """Another program took the port between its choice and its use."""
