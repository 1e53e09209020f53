"""KafkaProxy: a proxy through which all of a client's requests go, and rules for these requests.

A broker names its own address in its metadata, and clients then go there. So the proxy writes its
own port over the broker's. Both are on one host, so the answer keeps its length, and the proxy need
not know any version's layout. A rule says what happens to a request and to its answer.
"""

import asyncio
import math
import struct
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from aiokafka.protocol.produce import ProduceRequest_v7, ProduceResponse_v7

from tests.kit.proxies.proxy import Connection, Proxy, Wire

LENGTH = struct.Struct(">i")
HEAD = struct.Struct(">hhi")
NAME_LENGTH = struct.Struct(">h")
VERSION = 7  # of Produce: the one that aiokafka speaks with any broker of today


class Api(IntEnum):
    PRODUCE = 0
    METADATA = 3
    FIND_COORDINATOR = 10
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22
    DESCRIBE_CLUSTER = 60


NAMES_BROKERS = (Api.METADATA, Api.FIND_COORDINATOR, Api.DESCRIBE_CLUSTER)


@dataclass(slots=True)
class Request:
    """A request's frame, and the rule for it, if there is one."""

    frame: bytes
    connection: Connection
    rule: "Rule | None" = None
    api: int = 0
    version: int = 0
    correlation: int = 0

    def __post_init__(self) -> None:
        self.api, self.version, self.correlation = HEAD.unpack_from(self.frame)

    def produce(self) -> ProduceRequest_v7:
        """Return what it asks to produce."""
        assert (self.api, self.version) == (Api.PRODUCE, VERSION), f"not v{VERSION}: {self}"
        return ProduceRequest_v7.decode(self.frame[self._header_bytes() :])

    def question(self) -> bytes:
        """Return a harmless request in its place, with the same number, so that order is kept."""
        client = self.frame[HEAD.size : self._header_bytes()]
        return HEAD.pack(Api.API_VERSIONS, 0, self.correlation) + client

    def _header_bytes(self) -> int:
        """Return the header's length: it ends with the client's name, behind the name's length."""
        # The name's length is -1 where there is no name.
        (length,) = NAME_LENGTH.unpack_from(self.frame, HEAD.size)
        return HEAD.size + NAME_LENGTH.size + max(0, int(length))


@dataclass(eq=False)
class Rule:
    """For the next `times` requests of one kind; `happened` is set when it has done its part."""

    times: float = 1
    api: Api = Api.PRODUCE
    happened: asyncio.Event = field(default_factory=asyncio.Event)
    taken: int = 0

    def take(self, api: int) -> bool:
        """Return whether it is in force for one more request of this kind, and count that."""
        free = api == self.api and self.taken < self.times
        self.taken += free
        return free

    async def sent(self, request: Request) -> bytes:
        """Return the frame that goes to the broker."""
        return request.frame

    def answered(self, request: Request, frame: bytes) -> bytes | None:
        """Return the frame that goes to the client, or None if none does."""
        del request
        return frame


@dataclass(eq=False)
class Hold(Rule):
    """Keeps the request in the proxy until `release`, also after its client has gone."""

    released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        self.released.set()

    async def sent(self, request: Request) -> bytes:
        self.happened.set()
        await self.released.wait()
        return request.frame


@dataclass(eq=False)
class LoseAnswer(Rule):
    """Drops the answer to what was done; the connection is reset, or with `silent` stays open."""

    silent: bool = False

    def answered(self, request: Request, frame: bytes) -> None:
        del frame
        if not self.silent:
            request.connection.reset()
        self.happened.set()


@dataclass(eq=False, kw_only=True)
class Answer(Rule):
    """Answers a Produce with this error; with `done` the broker has done it all the same."""

    error: int
    done: bool

    async def sent(self, request: Request) -> bytes:
        return request.frame if self.done else request.question()

    def answered(self, request: Request, frame: bytes) -> bytes:
        del frame
        self.happened.set()
        topics = [
            (topic, [(partition, self.error, -1, -1, -1) for partition, _ in partitions])
            for topic, partitions in request.produce().topics
        ]
        return LENGTH.pack(request.correlation) + bytes(ProduceResponse_v7(topics, 0).encode())


class KafkaProxy(Proxy):
    """A proxy in front of a broker; `upstream` must be the address that the broker advertises.

    `requests` counts what clients have asked, by Api: each producer asks for its id once.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.requests: Counter[int] = Counter()
        self._rules: list[Rule] = []

    def wire(self, connection: Connection) -> Wire:
        return KafkaWire(self, connection)

    def add_rule(self, rule: Rule) -> None:
        """Put a rule in force from now on; an earlier one goes first while it takes requests."""
        self._rules.append(rule)

    def end_rules(self) -> None:
        """End all rules for later requests."""
        self._rules.clear()

    def rule_for_next(self, api: int) -> Rule | None:
        return next((rule for rule in self._rules if rule.take(api)), None)

    def readdress(self, api: int, answer: bytes) -> bytes:
        """Return the answer with our port in the place of the broker's.

        Only metadata always name a broker, so only there a missing address is an error.
        """
        host, port = self.upstream
        theirs = host.encode() + LENGTH.pack(port)
        named = theirs in answer or api != Api.METADATA
        assert named, f"the broker does not call itself {host}:{port}"
        return answer.replace(theirs, host.encode() + LENGTH.pack(self.port))


class KafkaWire(Wire):
    """Takes one connection apart into whole requests and answers."""

    def __init__(self, proxy: KafkaProxy, connection: Connection) -> None:
        self._proxy = proxy
        self._connection = connection
        self._asked: dict[int, Request] = {}
        self._up = Frames()
        self._down = Frames()

    async def up(self, chunk: bytes) -> AsyncGenerator[bytes, None]:
        for frame in self._up.feed(chunk):
            request = Request(frame, self._connection)
            request.rule = self._proxy.rule_for_next(request.api)
            self._proxy.requests[request.api] += 1
            self._asked[request.correlation] = request
            yield frame_of(await request.rule.sent(request) if request.rule else frame)

    async def down(self, chunk: bytes) -> AsyncGenerator[bytes, None]:
        for frame in self._down.feed(chunk):
            request = self._asked.pop(*LENGTH.unpack_from(frame))
            answer: bytes | None = frame
            if request.api in NAMES_BROKERS:
                answer = self._proxy.readdress(request.api, frame)
            if request.rule:
                answer = request.rule.answered(request, frame)
            if answer is not None:
                yield frame_of(answer)


class Frames:
    """Takes chunks of any size, and gives Kafka's frames, each of which follows its length."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the frames that this chunk completes."""
        self._rest += chunk
        while len(self._rest) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._rest)[0]
            if len(self._rest) < end:
                return
            frame, self._rest = self._rest[LENGTH.size : end], self._rest[end:]
            yield frame


def frame_of(content: bytes) -> bytes:
    """Return the content behind its length."""
    return LENGTH.pack(len(content)) + content


ALWAYS = math.inf  # as the `times` of a rule
