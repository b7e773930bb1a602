"""Where a server is, from a URL."""

import pytest

from kvstore.top.place import BadUrl, Place, place_of_url

GOOD = {
    "redis://": Place(),
    "redis://host": Place("host"),
    "redis://host:7000/3": Place("host", 7000),
    "redis://:secret@host": Place("host", password="secret"),
    "redis://default%40branch:p%2Fw@[::1]:7": Place("::1", 7, None, "default@branch", "p/w"),
    "unix:///run/a%20socket?db=2": Place(unixsocket="/run/a socket"),
    "unix://default%40b:any@/s": Place(unixsocket="/s", username="default@b", password="any"),
}
BAD = {
    "": "it is not redis",
    "host:6379": "host is not redis",
    "rediss://host": "rediss is not redis",
    "redis://host:99999": "Port out of range",
    "redis://host:x": "Port could not be cast",
    "redis://[::1": "Invalid IPv6 URL",
    "redis://user@host": "a user without a password",
    "unix://": "needs a path",
    "unix://host/s": "needs a path",
}


@pytest.mark.parametrize("url", GOOD)
def test_a_url_names_a_place(url: str) -> None:
    assert place_of_url(url) == GOOD[url]


@pytest.mark.parametrize("url", BAD)
def test_a_url_that_names_none_is_refused_with_a_reason(url: str) -> None:
    with pytest.raises(BadUrl, match=BAD[url]):
        place_of_url(url)


def test_a_place_is_shown_without_its_password() -> None:
    assert [str(GOOD[url]) for url in GOOD] == [
        "127.0.0.1:6379", "host:6379", "host:7000", "host:6379", "default@branch@[::1]:7", "/run/a socket",
        "default@b@/s",
    ]  # fmt: skip
