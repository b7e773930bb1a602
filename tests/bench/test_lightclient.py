"""The light client: which requests it makes, and what it makes of replies."""

import re
import socket
import threading

import numpy as np
import pytest

from bench.rig.client import encode
from bench.rig.lightclient import DIGITS, RAND, ClientBroke, batches_of, rate_of
from tests.bench.support import replying

REQUEST = encode("GET", "0" * DIGITS)
REPLIES = [
    b"$5\r\nhello\r\n",
    b"$-1\r\n",
    b"+OK\r\n",
    b"$0\r\n\r\n",
    b":42\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*3\r\n$2\r\n\r\n\r\n*2\r\n:1\r\n*0\r\n$-1\r\n",
    b"*2\r\n*1\r\n+x\r\n$13\r\n*1\r\n-ERR :1\r\n\r\n",
]


class Answers:
    """Answers requests by these replies in turn, so many bytes at a time, and counts them."""

    def __init__(self, replies: list[bytes], piece: int = 1 << 20) -> None:
        self.replies, self.piece, self.answered = replies, piece, 0

    def __call__(self, connection: socket.socket) -> None:
        seen = 0
        while data := connection.recv(65536):
            seen += len(data)
            while seen >= len(REQUEST):
                seen -= len(REQUEST)
                reply = self.replies[self.answered % len(self.replies)]
                self.answered += 1
                for at in range(0, len(reply), self.piece):
                    connection.sendall(reply[at : at + self.piece])


def run(answers: Answers, requests: int, pipeline: int = 4) -> float:
    """One connection's run against these answers."""
    with replying(answers) as port:
        return rate_of(port, ("GET", RAND), requests, pipeline, 1, 1000)


@pytest.mark.parametrize("piece", [1, 2, 5, 1 << 20])
def test_each_reply_is_counted_once_however_it_arrives(piece: int) -> None:
    answers = Answers(REPLIES, piece)
    assert run(answers, 90) > 0
    assert answers.answered == 92, "whole batches"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"-ERR not today\r\n", "GET: 8 replies are errors"),
        (b"*2\r\n:1\r\n-ERR\r\n", "GET: 8 replies are errors"),
        (b"HTTP/1.1 400\r\n", "GET: 0 of 8"),
        (b"+OK\r\n" * 5, "GET: 0 of 8"),  # more than a batch
    ],
)
def test_errors_and_what_is_no_reply_fail_the_run(reply: bytes, message: str) -> None:
    with pytest.raises(ClientBroke, match=message):
        run(Answers([reply]), 8)


def test_a_server_that_closes_fails_the_run() -> None:
    with replying(lambda connection: None) as port, pytest.raises((ClientBroke, ConnectionError)):
        rate_of(port, ("GET", RAND), 8, 4, 1, 1000)


def test_many_connections_share_the_requests() -> None:
    """All of them are open at once, and each gets replies in pieces of its own."""
    answers = [Answers(REPLIES, piece) for piece in (1, 3, 7, 1 << 20)]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(answer: Answers) -> None:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                answer(connection)

        threads = [threading.Thread(target=serve, args=(answer,)) for answer in answers]
        for thread in threads:
            thread.start()
        assert rate_of(listener.getsockname()[1], ("GET", RAND), 400, 4, len(answers), 1000) > 0
        for thread in threads:
            thread.join()
    assert sum(answer.answered for answer in answers) == 400
    assert min(answer.answered for answer in answers) >= 4


def test_batches_have_all_places_filled_and_numbers_below_the_highest() -> None:
    batches = batches_of(("ZADD", "zset", RAND, f"m{RAND}"), 10, 7, 50)
    one = encode("ZADD", "zset", "0" * DIGITS, "m" + "0" * DIGITS)
    assert batches.shape == (10, 7 * len(one)) and batches.flags.c_contiguous and batches.dtype == np.uint8
    pattern = re.compile(re.escape(one).replace(b"0" * DIGITS, b"([0-9]{%d})" % DIGITS))
    numbers = {tuple(map(int, found)) for found in pattern.findall(batches.tobytes())}
    assert len(numbers) > 60 and {max(pair) < 50 for pair in numbers} == {True}
    assert any(a != b for a, b in numbers)
    fixed = batches_of(("GET", "k"), 2, 3, 50)
    assert fixed.tobytes() == encode("GET", "k") * 6
