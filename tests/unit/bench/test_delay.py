"""What goes through the delayed path comes out as it went in, later."""
from __future__ import annotations

import hashlib
import random
import socket
import threading

from bench.delay import WINDOW, Delay, Path, check


def echo_reversed(listener: socket.socket) -> None:
    """Reads until the other end has finished, answers with a digest and as many octets again."""
    connection, _ = listener.accept()
    with connection:
        digest, count = hashlib.sha256(), 0
        while chunk := connection.recv(1 << 16):
            digest.update(chunk)
            count += len(chunk)
        connection.sendall(digest.hexdigest().encode() + b"z" * count)


def test_more_than_a_window_passes_in_order_both_ways_and_so_does_its_end() -> None:
    data = random.Random(5).randbytes(WINDOW * 2 + 12_345)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=echo_reversed, args=(listener,), daemon=True).start()
        with Delay((listener.getsockname()[1],), Path(0.005)) as delay, socket.create_connection(("127.0.0.1", delay.ports[0]), 20) as end:
            threading.Thread(target=lambda: (end.sendall(data), end.shutdown(socket.SHUT_WR)), daemon=True).start()
            answer = b""
            while chunk := end.recv(1 << 16):
                answer += chunk
    assert answer == hashlib.sha256(data).hexdigest().encode() + b"z" * len(data)


def test_nothing_arrives_before_its_time() -> None:
    """A lower bound, which no busy machine can break: the greeting takes two round trips, a NOOP one."""
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"* OK hello\r\n")
            for _ in connection.makefile("rb"):
                connection.sendall(b"a OK\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        with Delay((listener.getsockname()[1],), Path(0.02)) as delay:
            told = check(delay.ports[0])
    assert told.greeting >= 79 and told.noop >= 39 and told.fifty >= 39
