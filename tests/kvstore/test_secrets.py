"""Secret arguments, which the slow log must not show."""

import pytest

from kvstore.commands.table import ROWS, row_number, secret_arguments

CASES = [
    ("AUTH password", [1]),
    ("AUTH user password", [1, 2]),
    ("HELLO", []),
    ("HELLO 3 AUTH user password SETNAME auth", [3, 4]),
    ("HELLO 3 SETNAME AUTH auth user password", [5, 6]),
    ("CONFIG SET maxmemory 1mb", []),
    ("CONFIG SET maxmemory 1mb RequirePass x timeout 0 masterauth y", [5, 9]),
    ("CONFIG SET masteruser x tls-key-file-pass y tls-client-key-file-pass z", [3, 5, 7]),
]


@pytest.mark.parametrize(("command", "secret"), CASES)
def test_secret_arguments(command: str, secret: list[int]) -> None:
    args = command.encode().split()
    assert secret_arguments(ROWS[row_number(args)], args) == sum(1 << at for at in secret)


def test_which_commands_have_secrets() -> None:
    assert [row.name for row in ROWS if row.secrets] == ["auth", "hello", "config|set"]
