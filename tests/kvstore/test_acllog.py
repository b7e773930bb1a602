"""The log of refused authentications: new entries, counted repetitions, dropped entries."""

from kvstore.observe.acllog import GROUPING_ENTRIES, GROUPING_MS, AclLog, Moment

NOW = Moment(1_700_000_000_000, 5_000)


def later(by_ms: int) -> Moment:
    """A moment `by_ms` after NOW, with the wall clock set back by an hour."""
    return Moment(NOW.unix_ms - 3_600_000, NOW.timer_ms + by_ms)


def shown(log: AclLog) -> list[tuple[int, bytes, int]]:
    return [(entry.number, entry.user, entry.count) for entry in log.entries]


def test_refusals_alike_are_counted_in_one_entry_that_comes_first() -> None:
    log = AclLog()
    for at, user in enumerate((b"a", b"b", b"a", b"a")):
        log.enter("toplevel", b"AUTH", user, b"id=%d" % at, later(at), 128)
    assert shown(log) == [(0, b"a", 3), (1, b"b", 1)]
    first = log.entries[0]
    assert (first.client, first.created, first.updated) == (b"id=3", later(0), later(3))
    assert log.denied == 4


def test_another_command_context_or_minute_is_another_entry() -> None:
    log = AclLog()
    log.enter("toplevel", b"AUTH", b"a", b"", NOW, 128)
    log.enter("toplevel", b"HELLO", b"a", b"", NOW, 128)
    log.enter("multi", b"AUTH", b"a", b"", NOW, 128)
    log.enter("toplevel", b"AUTH", b"a", b"", later(GROUPING_MS), 128)
    log.enter("toplevel", b"AUTH", b"a", b"", later(2 * GROUPING_MS + 1), 128)
    assert shown(log) == [(3, b"a", 1), (0, b"a", 2), (2, b"a", 1), (1, b"a", 1)]


def test_only_the_newest_entries_are_compared_with() -> None:
    log = AclLog()
    for number in range(GROUPING_ENTRIES + 1):
        log.enter("toplevel", b"AUTH", b"%d" % number, b"", NOW, 128)
    log.enter("toplevel", b"AUTH", b"0", b"", NOW, 128)
    assert shown(log)[0] == (GROUPING_ENTRIES + 1, b"0", 1)


def test_the_oldest_go_and_numbers_go_on_after_a_reset() -> None:
    log = AclLog()
    for number in range(5):
        log.enter("toplevel", b"AUTH", b"%d" % number, b"", NOW, 3)
    assert [entry.user for entry in log.entries] == [b"4", b"3", b"2"]
    log.reset()
    log.enter("toplevel", b"AUTH", b"x", b"", NOW, 3)
    assert shown(log) == [(5, b"x", 1)]
    log.enter("toplevel", b"AUTH", b"y", b"", NOW, 0)
    assert shown(log) == []
