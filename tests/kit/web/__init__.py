"""Web: the service on a port of the test's own, and callers of it.

`served` runs the service and has a client that sends raw bytes; `airports` is what tests of
answers share; `caller` asks for one change after another while processes die; `cancelling` cancels
a coroutine at each of its awaits. schemathesis loads `schemathesis_hooks` from this folder by its
name alone, so no module here may have the name of a library.
"""
