"""Addresses and URLs: what a server's URL says, and how it names one of its stores."""

import pytest

from kvstore.testing.server import NotAnAddress, Server

URLS = [
    ("redis://localhost", Server(host="localhost", port=6379)),
    ("redis://localhost:7000/0", Server(host="localhost", port=7000)),
    ("redis://[::1]:7000", Server(host="::1", port=7000)),
    ("redis://:p%40ss@example.org", Server(host="example.org", port=6379, password="p@ss")),
    ("redis://default%40b%2F1:any@127.0.0.1:7000", Server(port=7000, store="b/1", password="any")),
    ("unix:///tmp/a%20b/socket", Server(unix_socket="/tmp/a b/socket")),
    ("unix://default:word@/tmp/socket?db=0", Server(unix_socket="/tmp/socket", password="word")),
]


@pytest.mark.parametrize(("url", "server"), URLS)
def test_a_url_names_a_server(url: str, server: Server) -> None:
    assert Server.of(url) == server
    assert Server.of(server.url) == server


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "rediss://localhost",
        "redis:///0",
        "redis://localhost/1",
        "redis://localhost?db=1",
        "redis://admin:word@localhost",
        "redis://localhost:port",
        "unix://tmp/socket",
        "unix://",
    ],
)
def test_a_url_that_names_no_usable_server_is_refused(url: str) -> None:
    with pytest.raises(NotAnAddress, match=r"redis://|default"):
        Server.of(url)


def test_a_store_is_chosen_by_the_name_of_the_user() -> None:
    server = Server(unix_socket="/tmp/socket", port=7000)
    assert server.url == "unix:///tmp/socket"
    assert server.url_of("b/1") == "unix://default%40b%2F1:any@/tmp/socket"
    assert server.url_of("b", tcp=True) == "redis://default%40b:any@127.0.0.1:7000"
    assert Server(port=7000, host="::1", password="a:b").url_of("b") == "redis://default%40b:a%3Ab@[::1]:7000"


def test_without_a_port_there_is_no_url_of_it() -> None:
    with pytest.raises(NotAnAddress, match="port='auto'"):
        Server(unix_socket="/tmp/socket").url_of("b", tcp=True)
