"""Charges: (14) what each account pays for, through copies, forks, releases, closing and the reuse of numbers."""

import random

import pytest

from mmcore import AddressSpace, CorruptMemory, ForkMode, PhysicalMemory, check_memory
from mmcore.charges import CLOSED, account_close, account_open, recharge
from mmcore.state import ACCOUNTS, CHARGED
from tests.mmcore.support import MIB2, PAGE, frame_at, machine, seeds

BASE = 4 * MIB2


def charged(memory: PhysicalMemory, account: int) -> int:
    return int(memory.state.charges[account])


def pays(memory: PhysicalMemory, account: int) -> None:
    memory.state.frames[CHARGED] = account


def opened(memory: PhysicalMemory) -> int:
    account = int(account_open(memory.state))
    pays(memory, account)
    return account


def test_a_memory_with_one_owner_has_one_account() -> None:
    memory, space = machine()
    space.map(BASE, 3 * PAGE)
    space.write(BASE, b"x")
    assert charged(memory, 0) == memory.frames_total - memory.frames_free == 4 + 3
    space.exit()
    assert charged(memory, 0) == 0


def test_a_copy_is_paid_for_by_its_writer_and_the_old_page_by_its_own() -> None:
    memory, space = machine()
    space.map(BASE, 2 * PAGE)
    space.write(BASE, b"old" + bytes(PAGE))
    mine = opened(memory)
    child = space.fork(ForkMode.CONSTANT)
    assert (charged(memory, 0), charged(memory, mine)) == (6, 1)
    child.write(BASE, b"new")
    assert (charged(memory, 0), charged(memory, mine)) == (6, 5)  # three tables and a page
    space.exit()
    # The child still has a page of the parent's, for which the parent pays.
    assert (charged(memory, 0), charged(memory, mine)) == (1, 5)
    check_memory(memory, [child])
    child.write(BASE + PAGE, b"reused")
    assert (charged(memory, 0), charged(memory, mine)) == (1, 5)
    child.exit()
    assert (charged(memory, 0), charged(memory, mine)) == (0, 0)


def test_huge_pages_are_charged_whole_and_by_the_page_when_they_are_split() -> None:
    memory, space = machine(2048)
    mine = opened(memory)
    space.map(BASE, MIB2, huge=True)
    assert charged(memory, mine) == 512 + 2
    pays(memory, 0)
    space.unmap(BASE, PAGE)  # the new PT is account 0's
    assert (charged(memory, 0), charged(memory, mine)) == (1 + 1, 511 + 2)
    space.unmap(BASE + PAGE, MIB2 - PAGE)
    assert charged(memory, mine) == 0
    space.map(BASE, MIB2, huge=True)
    space.unmap(BASE, MIB2)
    assert charged(memory, 0) == 1
    check_memory(memory, [space])


def test_a_closed_account_pays_until_its_last_frame_is_free_and_then_its_number_is_given_again() -> None:
    memory, space = machine()
    mine = opened(memory)
    space.map(BASE, PAGE)
    pays(memory, 0)
    account_close(memory.state, mine)
    assert charged(memory, mine) == 4 - CLOSED
    assert opened(memory) == mine + 1
    check_memory(memory, [space])
    space.unmap(BASE, PAGE)
    assert opened(memory) == mine and charged(memory, mine) == 0
    check_memory(memory, [space])


def test_an_account_that_never_paid_is_free_when_it_is_closed() -> None:
    memory, space = machine()
    numbers = [int(account_open(memory.state)) for _ in range(3)]
    assert numbers == [1, 2, 3]
    for number in numbers:
        account_close(memory.state, number)
    check_memory(memory, [space])
    assert [int(account_open(memory.state)) for _ in range(4)] == [3, 2, 1, 4]
    check_memory(memory, [space])


def test_another_account_may_take_a_frame_over() -> None:
    memory, space = machine()
    mine = int(account_open(memory.state))
    recharge(memory.state, space.root, mine)
    assert (charged(memory, 0), charged(memory, mine)) == (0, 1)
    check_memory(memory, [space])
    account_close(memory.state, mine)
    recharge(memory.state, space.root, 0)
    assert charged(memory, 0) == 1 and int(account_open(memory.state)) == mine
    check_memory(memory, [space])


def test_invariant_14_charges_are_exact() -> None:
    memory, space = machine()
    space.map(BASE, PAGE)
    mem = memory.state.arrays
    check_memory(memory, [space])
    mem.charges[0] += 1
    with pytest.raises(CorruptMemory, match=r"\(14\) account 0 pays for 5 frames, 6 are said"):
        check_memory(memory, [space])
    mem.charges[0] -= 1
    mem.payer[frame_at(space, BASE)] = 1
    with pytest.raises(CorruptMemory, match=r"\(14\) a frame is charged to no account"):
        check_memory(memory, [space])
    mem.payer[frame_at(space, BASE)] = 0
    account_close(memory.state, int(account_open(memory.state)))
    mem.payer[frame_at(space, BASE)] = 1
    mem.charges[0] -= 1
    with pytest.raises(CorruptMemory, match=r"\(14\) frames are charged to account 1, which is free"):
        check_memory(memory, [space])


@pytest.mark.parametrize("seed", seeds(8))
def test_each_frame_stays_with_the_account_that_took_it(seed: int) -> None:
    """Spaces fork, write and exit, each at the cost of an account of its own; a model notes who took which frame."""
    chance = random.Random(seed)
    memory, first = machine(700)
    payers: dict[int, int] = {}  # of the frames in use
    spaces: list[tuple[AddressSpace, int]] = [(first, 0)]
    closed: set[int] = set()
    first.map(BASE, 40 * PAGE)
    try:
        for _ in range(150):
            space, account = chance.choice(spaces)
            pays(memory, account)
            kind = chance.choice(("write", "write", "write", "fork", "exit", "hand over"))
            if kind == "write" and memory.frames_free > 8:
                space.write(BASE + chance.randrange(40) * PAGE, b"x")
            elif kind == "fork" and len(spaces) < 8:
                account = opened(memory)
                assert account not in {number for _, number in spaces}
                closed.discard(account)
                spaces.append((space.fork(chance.choice(tuple(ForkMode))), account))
            elif kind == "exit" and len(spaces) > 1 and account != 0:
                spaces.remove((space, account))
                space.exit()
                pays(memory, 0)
                account_close(memory.state, account)
                closed.add(account)
            elif kind == "hand over":
                recharge(memory.state, space.root, account)
                payers[space.root] = account
            used = {int(frame) for frame in memory.state.arrays.refcount.nonzero()[0]}
            payers = {frame: payers.get(frame, int(memory.state.payer[frame])) for frame in used}
            assert all(int(memory.state.payer[frame]) == payer for frame, payer in payers.items())
            for number in range(int(memory.state.frames[ACCOUNTS])):
                count = sum(payer == number for payer in payers.values())
                said = charged(memory, number)
                assert said in (count, count - CLOSED) or (count == 0 and said < 0)
            check_memory(memory, [space for space, _ in spaces])
        for space, _ in spaces:
            space.exit()
        assert charged(memory, 0) == 0
    except BaseException:
        print(f"{seed=}")
        raise
