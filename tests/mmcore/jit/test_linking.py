"""Calling linked kernels from Python."""

import numpy as np
import pytest

from mmcore import jit
from mmcore.jit import boolean, int64, uint8, void
from mmcore.state import SPACE
from tests.mmcore.support import PAGE, machine

pytestmark = pytest.mark.skipif(jit.DISABLED, reason="there is nothing to compile")

if not jit.DISABLED:

    @jit.linked(int64(int64, int64[:, ::1], uint8[::1]))
    def last_of(index, table, text):  # type: ignore[no-untyped-def]
        """A word of the table's last row, and the text's size."""
        return table[table.shape[0] - 1, index] + 1000 * text.size

    @jit.linked(boolean(int64))
    def is_odd(number):  # type: ignore[no-untyped-def]
        """Whether `number` is odd."""
        return number & 1 == 1

    @jit.linked(void(SPACE, int64))
    def refuse(space, number):  # type: ignore[no-untyped-def]
        """Raises whenever the number is not the space's root."""
        if space.cpu[0] != number:
            raise ValueError("not the root")


def test_arguments_and_results_cross_from_python() -> None:
    table = np.arange(12).reshape(4, 3)
    assert last_of(1, table, np.zeros(7, np.uint8)) == 7010
    assert last_of(np.int64(2), table, np.zeros(0, np.uint8)) == 11
    assert is_odd(-1) is True and is_odd(1 << 40) is False


def test_exceptions_cross_too() -> None:
    _, space = machine()
    assert refuse(space.state, space.root) is None
    with pytest.raises(ValueError, match="not the root"):
        refuse(space.state, -1)


def test_arguments_of_another_kind_are_refused() -> None:
    _, space = machine()
    with pytest.raises(TypeError, match="Memory for a"):
        refuse(space.state.mem, 0)
    with pytest.raises(TypeError, match="takes 2 arguments, not 1"):
        refuse(space.state)
    for table in (np.zeros((2, 3), np.int32), np.zeros(3, np.int64), np.zeros((3, 2), np.int64).T):
        with pytest.raises(TypeError, match="for array"):
            last_of(1, table, np.zeros(7, np.uint8))


@pytest.mark.parametrize("number", [1 << 63, 1 << 64, -(1 << 63) - 1, np.uint64(1 << 63)])
def test_an_integer_that_would_lose_bits_is_refused(number: int) -> None:
    with pytest.raises(OverflowError, match=str(number)):
        is_odd(number)


def test_a_state_takes_arrays_of_its_own_kind_only() -> None:
    _, space = machine()
    with pytest.raises(TypeError, match="tlb: B"):
        type(space.state)(space.state.mem, np.zeros(PAGE, np.uint8), *[space.state.cpu] * 4)
