"""Files of Unix sockets that are in use, are left over, or are not sockets; addresses that may be missing."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kvstore.net.listeners import CannotListen, UnixListener, listen_tcp


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s") / "socket"


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def test_the_file_has_the_permissions_and_goes_with_the_socket(path: Path) -> None:
    listener = UnixListener(str(path), 0o700, 16)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert connects(path)
    listener.close()
    assert not path.exists()
    listener.close()  # once more does no harm


def test_a_file_that_a_dead_server_left_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    assert not connects(path)
    with UnixListener(str(path), 0, 16):
        assert connects(path)


def _full(listener: socket.socket, path: Path, clients: ExitStack) -> None:
    # No process accepts: connect until the system's queue of waiting connections is full.
    while True:
        client = clients.enter_context(socket.socket(socket.AF_UNIX))
        client.setblocking(False)
        try:
            client.connect(str(path))
        except BlockingIOError:
            return


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "with a full backlog"])
def test_a_socket_that_is_open_is_left_to_its_server(path: Path, busy: bool) -> None:
    with ExitStack() as clients, UnixListener(str(path), 0, 1) as alive:
        before = path.lstat().st_ino
        if busy:
            _full(alive, path, clients)
        with pytest.raises(CannotListen, match="Address already in use, by a server that answers"):
            UnixListener(str(path), 0, 16)
        assert path.lstat().st_ino == before


def _make_file(path: Path) -> None:
    path.write_text("something")


def _make_link(path: Path) -> None:
    path.symlink_to("/nowhere")


@pytest.mark.parametrize("make", [_make_file, Path.mkdir, os.mkfifo, _make_link])
def test_what_is_no_socket_is_never_removed(path: Path, make) -> None:
    make(path)
    before = path.lstat()
    with pytest.raises(CannotListen, match="Address already in use, by what is no socket"):
        UnixListener(str(path), 0, 16)
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)


def test_at_the_end_only_a_file_of_its_own_is_removed(path: Path) -> None:
    ours = UnixListener(str(path), 0, 16)
    path.rename(path.with_name("moved"))
    with UnixListener(str(path), 0, 16):
        ours.close()
        assert connects(path)
    assert not path.exists()


def test_a_name_may_have_107_bytes(path: Path) -> None:
    base = f"{path.parent}/"
    with UnixListener(base + "s" * (107 - len(base)), 0, 1):
        pass
    with pytest.raises(CannotListen, match=r"unix socket path too long \(108\), must be under 108"):
        UnixListener(base + "s" * (108 - len(base)), 0, 1)


@pytest.fixture
def refuse_bind(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Sockets that cannot be bound, for the reason in this list."""
    reason = [0]

    class Refusing(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(reason[0], os.strerror(reason[0]))

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", Refusing)
        yield reason


@pytest.mark.parametrize(
    ("reason", "plain", "optional"),
    [
        (errno.EADDRNOTAVAIL, "refused", "passed over"),
        (errno.EADDRINUSE, "refused", "refused"),
        (errno.EACCES, "refused", "refused"),
        (errno.EAFNOSUPPORT, "passed over", "passed over"),
        (errno.EPROTONOSUPPORT, "passed over", "passed over"),
    ],
    ids=lambda value: errno.errorcode.get(value, value) if isinstance(value, int) else value,
)
def test_an_optional_address_may_be_missing_not_taken(refuse_bind, reason: int, plain: str, optional: str) -> None:
    """As in Redis, an address may always be missing if the machine lacks its protocol."""
    refuse_bind[0] = reason
    for address, expected in (("127.0.0.1", plain), ("-127.0.0.1", optional)):
        if expected == "passed over":
            assert listen_tcp(address, 7000, 16) is None
        else:
            with pytest.raises(CannotListen, match=r"Could not create server TCP listening socket 127.0.0.1:7000: "):
                listen_tcp(address, 7000, 16)


def test_a_star_is_every_address() -> None:
    listener = listen_tcp("*", 0, 16)
    assert listener is not None
    with listener:
        assert listener.getsockname()[0] == "0.0.0.0"
