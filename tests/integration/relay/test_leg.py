"""One side of a session on a real socket with small kernel buffers: what is due arrives, and nobody waits for ever."""
from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.leg import WRITE_HIGH, Leg
from tests.integration.relay.lab import SECONDS


@asynccontextmanager
async def leg_and_far_end() -> AsyncIterator[tuple[Leg, socket.socket]]:
    """A leg whose socket takes about 8 KiB, and the socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        far.connect(listener.getsockname())
        near, _ = listener.accept()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        near.setblocking(False)
        far.setblocking(False)
        _, leg = await asyncio.get_running_loop().connect_accepted_socket(Leg, near)
        try:
            yield leg, far
        finally:
            leg.abort()
            await leg.lost.wait()
            far.close()


async def read_all(far: socket.socket) -> bytes:
    octets = b""
    while part := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(far, 1000), SECONDS):
        octets += part
    return octets


def test_what_was_written_before_the_end_arrives_behind_a_full_socket() -> None:
    async def scenario() -> None:
        async with leg_and_far_end() as (leg, far):
            data = bytes(range(256)) * 400
            leg.write(data)
            assert leg.stalled_at is not None and len(data) > WRITE_HIGH
            leg.close(SECONDS)
            assert await read_all(far) == data
            await asyncio.wait_for(leg.lost.wait(), SECONDS)
            assert not leg.broken

    asyncio.run(scenario())


def test_a_far_end_that_reads_nothing_is_left_at_the_deadline() -> None:
    async def scenario() -> None:
        async with leg_and_far_end() as (leg, _):
            leg.write(bytes(200_000))
            leg.close(0.3)
            await asyncio.wait_for(leg.lost.wait(), SECONDS)

    asyncio.run(scenario())


def test_a_leg_holds_a_bounded_amount_until_it_may_pass_it_on_and_loses_none() -> None:
    async def scenario() -> None:
        async with leg_and_far_end() as (first, writer), leg_and_far_end() as (second, reader):
            data = bytes(range(256)) * 60_000  # 15 MB, more than the kernel takes for a reader that does not read
            sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(writer, data))
            while first.received < 65_536:
                await first.news()
            _, pending = await asyncio.wait({sending}, timeout=0.3)
            assert pending and len(first.held) < 2 * 65_536  # it is not read any more
            first.pass_on_to(second)
            second.pass_on_to(first)
            got = bytearray()
            while len(got) < len(data):
                got += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(reader, 65_536), SECONDS)
            await sending
            assert got == data and not first.held

    asyncio.run(scenario())
