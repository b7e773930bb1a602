"""Replies as Python values on the wire, and back through the client's decoder."""

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.wire.reply import (
    NO_REPLY,
    NULL_ARRAY,
    OK,
    CommandError,
    Error,
    Raw,
    Reply,
    Set,
    Simple,
    Verbatim,
    double_text,
    encode,
)
from kvstore.wire.respclient import BULK_MAX, DEPTH_MAX, LINE_MAX, Decoder, ProtocolError, Push, encode_command

CASES: list[tuple[Reply, bytes, bytes]] = [
    (OK, b"+OK\r\n", b"+OK\r\n"),
    (Error("ERR no"), b"-ERR no\r\n", b"-ERR no\r\n"),
    (0, b":0\r\n", b":0\r\n"),
    (-(2**63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
    (True, b":1\r\n", b"#t\r\n"),
    (False, b":0\r\n", b"#f\r\n"),
    (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
    (3.0, b"$1\r\n3\r\n", b",3\r\n"),
    (math.inf, b"$3\r\ninf\r\n", b",inf\r\n"),
    (-math.inf, b"$4\r\n-inf\r\n", b",-inf\r\n"),
    (math.nan, b"$3\r\nnan\r\n", b",nan\r\n"),
    (b"a\r\nb", b"$4\r\na\r\nb\r\n", b"$4\r\na\r\nb\r\n"),
    (b"", b"$0\r\n\r\n", b"$0\r\n\r\n"),
    ("text", b"$4\r\ntext\r\n", b"$4\r\ntext\r\n"),
    ("\udcff", b"$1\r\n\xff\r\n", b"$1\r\n\xff\r\n"),
    (Verbatim("text"), b"$4\r\ntext\r\n", b"=8\r\ntxt:text\r\n"),
    (None, b"$-1\r\n", b"_\r\n"),
    (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
    (NO_REPLY, b"", b""),
    ([], b"*0\r\n", b"*0\r\n"),
    ([1, [b"a", None]], b"*2\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n", b"*2\r\n:1\r\n*2\r\n$1\r\na\r\n_\r\n"),
    ((1, 2), b"*2\r\n:1\r\n:2\r\n", b"*2\r\n:1\r\n:2\r\n"),
    (Set((1, 2)), b"*2\r\n:1\r\n:2\r\n", b"~2\r\n:1\r\n:2\r\n"),
    ({"k": 1}, b"*2\r\n$1\r\nk\r\n:1\r\n", b"%1\r\n$1\r\nk\r\n:1\r\n"),
    ({}, b"*0\r\n", b"%0\r\n"),
    (Raw(b":7\r\n"), b":7\r\n", b":7\r\n"),
]


@pytest.mark.parametrize(("value", "resp2", "resp3"), CASES, ids=lambda value: repr(value)[:20])
def test_a_value_is_encoded_for_the_protocol_that_the_client_speaks(value: Reply, resp2: bytes, resp3: bytes) -> None:
    assert encode(value) == resp2
    assert encode(value, 3) == resp3


def test_a_line_break_in_an_error_cannot_end_the_reply() -> None:
    assert encode(Error("ERR a\r\n+OK")) == b"-ERR a  +OK\r\n"
    assert encode(Simple("a\nb")) == b"+a b\r\n"


def test_what_is_no_reply_is_refused() -> None:
    value: Any = object()
    with pytest.raises(TypeError, match="is no reply"):
        encode(value)


def test_a_command_error_is_its_text() -> None:
    assert CommandError("ERR no").reply == Error("ERR no")


@given(st.floats(allow_nan=False))
def test_a_double_reads_back_as_the_same_number(value: float) -> None:
    assert float(double_text(value)) == value


# ------------------------------------------------------------------------------------------------------ the decoder

STREAMS: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", Simple("OK")),
    (b"-ERR no\r\n", Error("ERR no")),
    (b"!6\r\nERR no\r\n", Error("ERR no")),
    (b":-12\r\n", -12),
    (b"(123456789012345678901234567890\r\n", 123456789012345678901234567890),
    (b"$4\r\na\r\nb\r\n", b"a\r\nb"),
    (b"$0\r\n\r\n", b""),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"_\r\n", None),
    (b"#t\r\n", True),
    (b"#f\r\n", False),
    (b",1.5\r\n", 1.5),
    (b",-inf\r\n", -math.inf),
    (b",1e3\r\n", 1000.0),
    (b"=8\r\ntxt:text\r\n", Verbatim("text")),
    (b"*0\r\n", []),
    (b"%0\r\n", {}),
    (b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n", [[1], b"a"]),
    (b"%2\r\n+a\r\n:1\r\n$1\r\nb\r\n*0\r\n", {"a": 1, b"b": []}),
    (b"~2\r\n:1\r\n:2\r\n", Set((1, 2))),
    (b">2\r\n+a\r\n:1\r\n", Push(["a", 1])),
    (b"|1\r\n+ttl\r\n:1\r\n:5\r\n", 5),
    (b"|0\r\n:5\r\n", 5),
    (b"*2\r\n:1\r\n|1\r\n+a\r\n+b\r\n:2\r\n", [1, 2]),
]


@pytest.mark.parametrize(("data", "expected"), STREAMS, ids=lambda value: repr(value)[:30])
def test_a_reply_is_decoded_whole_byte_by_byte_and_with_a_tail(data: bytes, expected: Any) -> None:
    whole = Decoder()
    assert whole.feed(data) == [expected]
    assert type(Decoder().feed(data)[0]) is type(expected)
    assert whole.idle

    bytewise = Decoder()
    decoded = [value for at in range(len(data)) for value in bytewise.feed(data[at : at + 1])]
    assert decoded == [expected]
    assert bytewise.idle

    tailed = Decoder()
    assert tailed.feed(data + b"$5\r\nab") == [expected]
    assert not tailed.idle
    assert tailed.feed(b"cde\r\n") == [b"abcde"]


MALFORMED = [
    b"hello\r\n",
    b"\r\n",
    b":\r\n",
    b":1x\r\n",
    b"$x\r\n",
    b"$-2\r\n",
    b"$%d\r\n" % (BULK_MAX + 1),
    b"$1\r\nabc",
    b"*-2\r\n",
    b"* 1\r\n",
    b"%-1\r\n",
    b"#x\r\n",
    b"_x\r\n",
    b",x\r\n",
    b"=3\r\nabc\r\n",
    b"+" + b"x" * LINE_MAX,
    b"*1\r\n" * (DEPTH_MAX + 1),
]


@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: repr(data)[:20])
def test_what_is_not_resp_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Decoder().feed(data)


@given(st.binary(max_size=64))
def test_no_bytes_whatever_break_the_decoder(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        Decoder().feed(data)


REPLIES: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.binary(max_size=20)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), max_size=10).map(Simple),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(REPLIES, st.integers(1, 7))
def test_encoding_and_decoding_are_inverse_in_resp3(value: Any, piece: int) -> None:
    data, decoder = encode(value, 3), Decoder()
    decoded = [reply for at in range(0, len(data), piece) for reply in decoder.feed(data[at : at + piece])]
    assert decoded == [value]


def test_a_command_is_sent_as_an_array_of_bulk_strings() -> None:
    assert encode_command("SET", b"\xff", 1) == b"*3\r\n$3\r\nSET\r\n$1\r\n\xff\r\n$1\r\n1\r\n"
