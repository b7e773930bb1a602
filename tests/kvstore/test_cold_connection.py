"""AUTH, HELLO, RESET, QUIT and CLIENT, with Redis's words."""

import pytest

from kvstore.commands.connection.clients import CLIENT_TYPES
from kvstore.wire.reply import NO_REPLY, OK, CommandError, Simple, Verbatim
from tests.kvstore.cold import FakeClient, FakeServer, ask

REFUSED = [
    ("AUTH a b c", "ERR syntax error"),
    ("AUTH foo", "ERR AUTH <password> called without any password configured for the default user. "),
    ("AUTH foo bar", "WRONGPASS invalid username-password pair or user is disabled."),
    ("HELLO 4", "NOPROTO unsupported protocol version"),
    ("HELLO -1", "NOPROTO unsupported protocol version"),
    ("HELLO x", "ERR Protocol version is not an integer or out of range"),
    ("HELLO 03", "ERR Protocol version is not an integer or out of range"),
    ("HELLO 3 auth", "ERR Syntax error in HELLO option 'auth'"),
    ("HELLO 3 AUTH a", "ERR Syntax error in HELLO option 'AUTH'"),
    ("HELLO 3 foo", "ERR Syntax error in HELLO option 'foo'"),
    ("HELLO 3 SETNAME", "ERR Syntax error in HELLO option 'SETNAME'"),
    ("HELLO 3 SETNAME a\x7f", "ERR Client names cannot contain spaces, newlines or special characters."),
    ("HELLO 3 AUTH a b", "WRONGPASS invalid username-password pair or user is disabled."),
    ("CLIENT", "ERR wrong number of arguments for 'client' command"),
    ("CLIENT foo", "ERR unknown subcommand 'foo'. Try CLIENT HELP."),
    ("CLIENT ID x", "ERR wrong number of arguments for 'client|id' command"),
    ("CLIENT SETNAME a\tb", "ERR Client names cannot contain spaces, newlines or special characters."),
    ("CLIENT SETNAME é", "ERR Client names cannot contain spaces, newlines or special characters."),
    ("CLIENT SETINFO foo x", "ERR Unrecognized option 'foo'"),
    ("CLIENT SETINFO lib-name a\tb", "ERR lib-name cannot contain spaces, newlines or special characters."),
    ("CLIENT LIST foo", "ERR syntax error"),
    ("CLIENT LIST TYPE", "ERR syntax error"),
    ("CLIENT LIST TYPE foo", "ERR Unknown client type 'foo'"),
    ("CLIENT LIST ID", "ERR syntax error"),
    ("CLIENT LIST ID x", "ERR Invalid client ID"),
    ("CLIENT LIST ID 1 foo", "ERR Invalid client ID"),
    ("CLIENT KILL", "ERR wrong number of arguments for 'client|kill' command"),
    ("CLIENT KILL 1.2.3.4:5", "ERR No such client"),
    ("CLIENT KILL ID x", "ERR client-id should be greater than 0"),
    ("CLIENT KILL ID 0", "ERR client-id should be greater than 0"),
    ("CLIENT KILL ID 99999999999999999999", "ERR client-id should be greater than 0"),
    ("CLIENT KILL ID 1 ADDR", "ERR syntax error"),
    ("CLIENT KILL foo bar", "ERR syntax error"),
    ("CLIENT KILL TYPE foo", "ERR Unknown client type 'foo'"),
    ("CLIENT KILL USER nobody", "ERR No such user 'nobody'"),
    ("CLIENT KILL SKIPME maybe", "ERR syntax error"),
    ("CLIENT KILL MAXAGE x", "ERR maxage is not an integer or out of range"),
    ("CLIENT KILL MAXAGE 0", "ERR maxage should be greater than 0"),
    ("CLIENT PAUSE x", "ERR timeout is not an integer or out of range"),
    ("CLIENT PAUSE -1", "ERR timeout is negative"),
    ("CLIENT PAUSE 9223372036854775807", "ERR timeout is out of range"),
    ("CLIENT PAUSE 99999999999999999999", "ERR timeout is not an integer or out of range"),
    ("CLIENT PAUSE 1 foo", "ERR CLIENT PAUSE mode must be WRITE or ALL"),
    ("CLIENT PAUSE 1 ALL x", "ERR syntax error"),
    ("CLIENT UNBLOCK x", "ERR value is not an integer or out of range"),
    ("CLIENT UNBLOCK 1 foo", "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
    ("CLIENT REPLY foo", "ERR syntax error"),
    ("CLIENT NO-EVICT foo", "ERR syntax error"),
    ("CLIENT NO-TOUCH foo", "ERR syntax error"),
    ("CLIENT TRACKING foo", "ERR syntax error"),
    ("CLIENT TRACKING ON FOO", "ERR syntax error"),
    ("CLIENT TRACKING OFF PREFIX", "ERR syntax error"),
    ("CLIENT TRACKING ON PREFIX a", "ERR PREFIX option requires BCAST mode to be enabled"),
    ("CLIENT TRACKING OFF REDIRECT 99", "ERR The client ID you want redirect to does not exist"),
    ("CLIENT TRACKING ON REDIRECT x", "ERR value is not an integer or out of range"),
    ("CLIENT TRACKING ON REDIRECT 1 REDIRECT 1", "ERR A client can only redirect to a single other client"),
    ("CLIENT TRACKING ON BCAST OPTIN", "ERR OPTIN and OPTOUT are not compatible with BCAST"),
    ("CLIENT TRACKING ON OPTIN OPTOUT", "ERR You can't specify both OPTIN mode and OPTOUT mode"),
    (
        "CLIENT TRACKING ON BCAST PREFIX a PREFIX ab",
        "ERR Prefix 'a' overlaps with another provided prefix 'ab'. Prefixes for a single client must not overlap.",
    ),
    ("CLIENT CACHING YES", "ERR CLIENT CACHING can be called only when the client is in tracking mode"),
    ("PING a b", "ERR wrong number of arguments for 'ping' command"),
]


@pytest.mark.parametrize(("line", "error"), REFUSED)
def test_a_bad_command_is_refused_in_redis_words_and_changes_nothing(line: str, error: str) -> None:
    client = FakeClient(1)
    server = FakeServer(client)
    with pytest.raises(CommandError) as refused:
        ask(server, client, *line.split(" "))
    assert str(refused.value).startswith(error)
    assert client == FakeClient(1)
    assert server.done == []
    assert bool(server.denied) == error.startswith("WRONGPASS")


# ----------------------------------------------------------------------------------------------------- authentication


def test_a_password_lets_in_and_a_wrong_one_does_not() -> None:
    client = FakeClient(1, authenticated=False)
    server = FakeServer(client, requirepass="secret")
    for words in (["wrong"], ["default", "wrong"], ["nobody", "secret"], ["secre"], ["secrett"], [""]):
        with pytest.raises(CommandError, match=r"^WRONGPASS"):
            ask(server, client, "AUTH", *words)
        assert not client.authenticated
    assert ask(server, client, "AUTH", "secret") == OK
    assert client.authenticated
    client.authenticated = False
    assert ask(server, client, "AUTH", "default", "secret") == OK
    assert client.authenticated


def test_any_password_of_the_default_user_is_right_when_none_is_required() -> None:
    client = FakeClient(1)
    assert ask(FakeServer(client), client, "AUTH", "default", "whatever") == OK


def test_hello_greets_and_changes_the_protocol() -> None:
    client = FakeClient(7)
    server = FakeServer(client)
    greeting = ask(server, client, "HELLO", "3", "setname", "me")
    assert greeting == {
        "server": "redis",
        "version": "7.2.5",
        "proto": 3,
        "id": 7,
        "mode": "standalone",
        "role": "master",
        "modules": [],
    }
    assert (client.protocol, client.name) == (3, "me")
    assert ask(server, client, "HELLO") == greeting
    ask(server, client, "HELLO", "2")
    assert client.protocol == 2


def test_hello_authenticates_before_anything_else() -> None:
    client = FakeClient(1, authenticated=False)
    server = FakeServer(client, requirepass="secret")
    for words in ([], ["3"], ["3", "SETNAME", "me"]):
        with pytest.raises(CommandError, match=r"^NOAUTH HELLO must be called with the client already authenticated"):
            ask(server, client, "HELLO", *words)
    with pytest.raises(CommandError, match=r"^WRONGPASS"):
        ask(server, client, "HELLO", "3", "AUTH", "default", "wrong", "SETNAME", "me")
    assert (client.protocol, client.name) == (2, "")
    ask(server, client, "HELLO", "3", "SETNAME", "me", "AUTH", "default", "secret")
    assert (client.protocol, client.name, client.authenticated) == (3, "me", True)


@pytest.mark.parametrize("password", ["", "secret"])
def test_reset_forgets_all_that_the_connection_had(password: str) -> None:
    client = FakeClient(1, name="me", db=3, protocol=3, no_touch=True, reply_mode="off")
    server = FakeServer(client, requirepass=password)
    assert ask(server, client, "RESET") == Simple("RESET")
    assert client == FakeClient(1, authenticated=not password)
    assert server.done == [("discard", 1), ("unsubscribe", 1), ("use", 0, b"main")]


def test_quit_answers_before_the_connection_closes() -> None:
    client = FakeClient(1)
    assert ask(FakeServer(client), client, "QUIT", "whatever") == OK
    assert client.close_after_reply


# -------------------------------------------------------------------------------------------------------------- CLIENT


def test_names_and_libraries() -> None:
    client = FakeClient(5)
    server = FakeServer(client)
    assert ask(server, client, "CLIENT", "ID") == 5
    assert ask(server, client, "CLIENT", "GETNAME") is None
    assert ask(server, client, "CLIENT", "SETNAME", "me") == OK
    assert ask(server, client, "CLIENT", "GETNAME") == "me"
    assert ask(server, client, "CLIENT", "SETNAME", "") == OK
    assert ask(server, client, "CLIENT", "GETNAME") is None
    assert ask(server, client, "CLIENT", "SETINFO", "LIB-NAME", "lib") == OK
    assert ask(server, client, "CLIENT", "SETINFO", "lib-ver", "1.2") == OK
    assert (client.lib_name, client.lib_ver) == ("lib", "1.2")


def test_clients_are_listed_all_or_by_type_or_by_id() -> None:
    clients = [FakeClient(number) for number in (1, 2, 3)]
    server = FakeServer(*clients)

    def listed(*words: str) -> list[int]:
        reply = ask(server, clients[1], "CLIENT", "LIST", *words)
        assert isinstance(reply, Verbatim)
        return [int(line.split("=")[1].split()[0]) for line in reply.splitlines()]

    assert listed() == [1, 2, 3]
    assert listed("TYPE", "normal") == [1, 2, 3]
    for kind in set(CLIENT_TYPES) - {"normal"}:
        assert listed("type", kind.upper()) == []
    assert listed("ID", "3", "9", "1") == [3, 1]


KILLS = [
    (["10.0.0.1:1"], [1], OK),
    (["127.0.0.1:2"], [2], OK),
    (["ID", "1"], [1], 1),
    (["ID", "2"], [], 0),
    (["ID", "2", "SKIPME", "no"], [2], 1),
    (["ADDR", "10.0.0.1:1"], [1], 1),
    (["LADDR", "127.0.0.1:6379"], [1, 3], 2),
    (["TYPE", "normal"], [1, 3], 2),
    (["TYPE", "pubsub"], [], 0),
    (["USER", "default", "skipme", "NO"], [1, 2, 3], 3),
    (["MAXAGE", "100"], [3], 1),
    (["MAXAGE", "5", "ID", "3"], [3], 1),
    (["SKIPME", "yes"], [1, 3], 2),
    (["ID", "1", "ID", "3"], [3], 1),
    (["TYPE", "pubsub", "TYPE", "normal"], [1, 3], 2),
]


@pytest.mark.parametrize(("words", "killed", "expected"), KILLS, ids=lambda value: str(value))
def test_connections_are_killed_by_filters(words: list[str], killed: list[int], expected: object) -> None:
    clients = [FakeClient(1, addr="10.0.0.1:1"), FakeClient(2, addr="127.0.0.1:2"), FakeClient(3, age_s=100)]
    server = FakeServer(*clients)
    assert ask(server, clients[1], "CLIENT", "KILL", *words) == expected
    assert server.done == [("kill", number) for number in killed]


def test_clients_are_paused_for_a_time() -> None:
    client = FakeClient(1)
    server = FakeServer(client)
    for words in (["100"], ["100", "write"], ["0", "ALL"]):
        assert ask(server, client, "CLIENT", "PAUSE", *words) == OK
    assert ask(server, client, "CLIENT", "UNPAUSE") == OK
    pauses = [("pause", 100, False), ("pause", 100, True), ("pause", 0, False)]
    assert server.done == [*pauses, ("unpause",)]


def test_replies_are_turned_off_and_on() -> None:
    client = FakeClient(1)
    server = FakeServer(client)
    assert ask(server, client, "CLIENT", "REPLY", "SKIP") is NO_REPLY
    assert client.reply_mode == "skip"
    assert ask(server, client, "CLIENT", "REPLY", "off") is NO_REPLY
    assert ask(server, client, "CLIENT", "REPLY", "SKIP") is NO_REPLY
    assert client.reply_mode == "off"
    assert ask(server, client, "CLIENT", "REPLY", "ON") == OK
    assert client.reply_mode == "on"


def test_modes_of_a_connection() -> None:
    client = FakeClient(1)
    server = FakeServer(client)
    for mode, attribute in (("NO-EVICT", "no_evict"), ("NO-TOUCH", "no_touch")):
        assert ask(server, client, "CLIENT", mode, "ON") == OK
        assert getattr(client, attribute)
        assert ask(server, client, "CLIENT", mode, "off") == OK
        assert not getattr(client, attribute)
    assert ask(server, client, "CLIENT", "TRACKING", "OFF") == OK
    assert ask(server, client, "CLIENT", "TRACKINGINFO") == {"flags": (b"off",), "redirect": -1, "prefixes": []}
    assert ask(server, client, "CLIENT", "GETREDIR") == -1
    assert ask(server, client, "CLIENT", "UNBLOCK", "1", "ERROR") == 0


def test_help_lists_every_subcommand() -> None:
    client = FakeClient(1)
    lines = ask(FakeServer(client), client, "CLIENT", "HELP")
    assert isinstance(lines, list)
    assert lines[0] == "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    assert "PAUSE timeout [WRITE | ALL]" in lines
    assert all(isinstance(line, Simple) for line in lines)
