"""What tests share: everything that is no test itself.

Each folder is about one thing: `servers` starts servers or stands in for them, `proxies` stand
between us and them, `load` writes and kills, `http` calls the service, `verdicts` judge what was
left, and `planted` has the bugs that a good test must find. The files beside them are helpers of
one kind of test each. Nothing here is installed or used by the product; `bench` starts the
stand-in for Qdrant.
"""
