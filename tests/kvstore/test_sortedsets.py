"""Sorted sets against a dict, in either form, beside forks, and with every shortage of frames."""

import random
from collections.abc import Iterator

import pytest

from kvstore.store.check import contents
from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES
from tests.kvstore.bare import Bare
from tests.mmcore.support import only, seeds

OOM = ERRORS[OUT_OF_FRAMES]
LONG = "m" * 300  # a member that no small sorted set has
Scores = dict[bytes, float]


@pytest.fixture
def store() -> Iterator[Bare]:
    with Bare(16 << 20) as made:
        yield made


def limit(store: Bare, entries: int = 128, value: int = 64) -> None:
    store.registers.ZSET_MAX_LISTPACK_ENTRIES, store.registers.ZSET_MAX_LISTPACK_VALUE = entries, value


def encoding(store: Bare, key: str) -> object:
    return store("OBJECT", "ENCODING", key)


def text(score: float) -> bytes:
    return b"%d" % score if score == int(score) else repr(score).encode()


def ordered(scores: Scores) -> list[bytes]:
    """The members in order."""
    return [member for _, member in sorted((score, member) for member, score in scores.items())]


def with_scores(scores: Scores) -> list[bytes]:
    return [word for member in ordered(scores) for word in (member, text(scores[member]))]


@pytest.mark.parametrize("seed", seeds(4))
@pytest.mark.parametrize(("entries", "value"), [(128, 64), (8, 64), (10_000, 1000), (0, 0)])
def test_a_sorted_set_is_a_dict_in_order(store: Bare, seed: int, entries: int, value: int) -> None:
    choose, scores = random.Random(seed), Scores()
    limit(store, entries, value)
    members = [b"m%d" % i for i in range(60)] + [b"long%d" % i + b"x" * choose.choice((50, 200, 700)) for i in range(8)]
    for step in range(700):
        member, score = choose.choice(members), choose.choice((0, 1, -1, 2.5, 1e17, 300, choose.randrange(1 << 40)))
        action = choose.random()
        if action < 0.5:
            assert store("ZADD", "z", text(score), member) == (member not in scores)
            scores[member] = score
        elif action < 0.6:
            expected = scores.get(member, 0.0) + 2
            assert store("ZINCRBY", "z", 2, member) == text(expected)
            scores[member] = expected
        elif action < 0.8:
            assert store("ZREM", "z", member, member) == (scores.pop(member, None) is not None)
        elif action < 0.82 and scores:
            first = ordered(scores)[0]
            assert store("ZPOPMIN", "z") == [first, text(scores.pop(first))]
        elif action < 0.85 and scores:
            some = ordered(scores)[5:9]
            assert store("ZREMRANGEBYRANK", "z", 5, 8) == len(some)
            for one in some:
                del scores[one]
        order = ordered(scores)
        if member in scores:
            assert store("ZSCORE", "z", member) == text(scores[member])
            assert store("ZRANK", "z", member) == order.index(member)
            assert store("ZREVRANK", "z", member) == len(order) - 1 - order.index(member)
        else:
            assert store("ZSCORE", "z", member) is None
        low, high = sorted((choose.randrange(-2, 400), choose.randrange(-2, 400)))
        assert store("ZCOUNT", "z", low, f"({high}") == sum(low <= score < high for score in scores.values())
        if step % 50 == 0:
            store.check()
        assert store("ZRANGE", "z", 0, -1, "WITHSCORES") == with_scores(scores)
    assert store("ZREVRANGE", "z", 0, -1) == ordered(scores)[::-1]
    store.check()


def test_encodings_are_those_of_redis(store: Bare) -> None:
    limit(store, 3)
    store("ZADD", "z", 1, "a", 2, "b", 3, "c")
    assert encoding(store, "z") == b"listpack"
    store("ZADD", "z", 9, "c")
    assert encoding(store, "z") == b"listpack"
    store("ZADD", "z", 4, "d")
    assert encoding(store, "z") == b"skiplist"
    store("ZREM", "z", "d", "c", "b")
    assert encoding(store, "z") == b"skiplist"
    store("ZUNIONSTORE", "small", 1, "z")
    assert encoding(store, "small") == b"listpack"
    store("ZADD", "long", 1, LONG)
    assert encoding(store, "long") == b"skiplist"
    store("ZADD", "twice", 1, "a", 1, "a", 1, "a", 1, "a")
    assert encoding(store, "twice") == b"skiplist", "Redis 7.2 looks at the number of arguments"
    store.check()


def test_a_small_sorted_set_that_fits_no_chain_is_reported_as_small(store: Bare) -> None:
    limit(store, 100, 1000)
    for i in range(20):
        store("ZADD", "z", i, f"{i:03}" + "x" * 500)
    assert encoding(store, "z") == b"listpack"
    assert store("ZRANGE", "z", 7, 7) == [b"007" + b"x" * 500]
    store.check()


def test_minus_zero_is_kept_where_redis_keeps_it(store: Bare) -> None:
    limit(store)
    assert store("ZADD", "small", "INCR", "-0", "a") == b"-0"
    assert store("ZSCORE", "small", "a") == b"0"
    store("ZADD", "large", "-0", LONG, "-0", "b", 0, "a")
    assert store("ZRANGE", "large", 0, -1, "WITHSCORES") == [b"a", b"0", b"b", b"-0", LONG.encode(), b"-0"]
    assert store("ZCOUNT", "large", 0, 0) == store("ZCOUNT", "large", "-0", "-0") == 3
    assert store("ZADD", "large", "CH", 0, "b") == 0
    assert store("ZRANK", "large", "b") == 1
    assert store("ZUNION", 1, "small", "WEIGHTS", -1, "WITHSCORES") == [b"a", b"-0"]
    assert store("ZREM", "large", LONG, "a", "b") == 3
    store.check()


@pytest.mark.parametrize("forks", [False, True])
@pytest.mark.parametrize("entries", [2, 128])
def test_every_shortage_of_frames_leaves_all_as_it_was(forks: bool, entries: int) -> None:
    """Each command is tried with more and more free frames, until it succeeds; before that it changes nothing."""
    commands: tuple[tuple[str | int, ...], ...] = (
        ("ZADD", "new", 1, "a"),
        ("ZADD", "z", 5, "x", 6, "y", 7, LONG),  # becomes a record
        ("ZADD", "z", 50, "m1", "-3", "m2"),
        ("ZINCRBY", "large", 1000, "m7"),
        ("ZUNIONSTORE", "new", 2, "large", "z"),
        ("ZINTERSTORE", "large", 2, "large", "z"),
        ("ZRANGESTORE", "text", "large", 0, -1),
        ("ZDIFFSTORE", "z", 2, "z", "z"),
        ("ZREM", "large", "m1", "m2", "m3"),
        ("ZREMRANGEBYRANK", "large", 10, 60),
        ("ZPOPMAX", "large", 20),
        ("ZPOPMIN", "large", 1000),
    )
    for command in commands:
        with Bare(16 << 20, spare=0) as store:
            limit(store, entries)
            store("SET", "text", "value")
            for i in range(10):
                store("ZADD", "z", i, f"m{i}")
            for i in range(200):
                store("ZADD", "large", i % 7, f"m{i}")
            store.check()
            root = store.fork() if forks else -1
            before, refused = contents(store.context), 0
            for free in (0, 3, 30, 200, 500, 700, 850, 1000, 3000):
                with only(store.memory, free):
                    reply = store(*command)
                if reply != OOM:
                    break
                refused += 1
                assert contents(store.context) == before, command
            assert reply != OOM and refused > 0, command
            assert contents(store.context) != before
            if forks:
                store.release(root)
            store.check()


def test_an_image_keeps_its_sorted_sets(store: Bare) -> None:
    limit(store, 8)
    for i in range(500):
        store("ZADD", "large", i * 7 % 100, f"m{i}")
    store("ZADD", "small", 1, "a", 2, "b")
    before = contents(store.context)
    root = store.fork()
    for i in range(500):
        store("ZINCRBY", "large", i % 3, f"m{i}")
        store("ZADD", "small", i, f"m{i}")
    store.check()
    store("ZREMRANGEBYRANK", "large", 0, 300)
    store.check()
    assert contents(store.context) != before
    store.release(root)
    store.check()


@pytest.mark.parametrize("entries", [0, 128])
def test_draws_are_uniform(store: Bare, entries: int) -> None:
    limit(store, entries)
    for i in range(10):
        store("ZADD", "z", i, f"m{i}")
    for count in (1, 3, 7):
        seen = dict.fromkeys((b"m%d" % i for i in range(10)), 0)
        for _ in range(2000):
            drawn = store("ZRANDMEMBER", "z", count)
            assert isinstance(drawn, list) and len(set(drawn)) == len(drawn) == count
            for member in drawn:
                seen[member] += 1
        expected = 2000 * count / 10
        assert all(abs(times - expected) < 6 * expected**0.5 for times in seen.values()), seen
    assert sorted(store("ZRANDMEMBER", "z", 100)) == [b"m%d" % i for i in range(10)]  # type: ignore[call-overload]


@pytest.mark.parametrize("seed", seeds(4))
def test_algebra_is_that_of_dicts(store: Bare, seed: int) -> None:
    choose = random.Random(seed)
    limit(store, choose.choice((4, 128)))
    sets: list[Scores] = []
    for number, size in enumerate((3, 40, 100)):
        members = choose.sample([b"m%d" % i for i in range(120)] + [b"n" * 5000], size)
        sets.append({member: float(choose.randrange(-5, 6)) for member in members})
        for member, score in sets[-1].items():
            store("ZADD", f"s{number}", text(score), member)
    a, b, c = sets
    everywhere = {member: a[member] + b[member] + c[member] for member in a if member in b and member in c}
    anywhere = {member: sum(one.get(member, 0.0) for one in sets) for member in {*a, *b, *c}}
    alone = {member: score for member, score in c.items() if member not in a and member not in b}
    assert store("ZINTER", 3, "s0", "s1", "s2", "WITHSCORES") == with_scores(everywhere)
    assert store("ZUNION", 3, "s0", "s1", "s2", "WITHSCORES") == with_scores(anywhere)
    assert store("ZDIFF", 3, "s2", "s1", "s0", "WITHSCORES") == with_scores(alone)
    assert store("ZINTERCARD", 3, "s0", "s1", "s2") == len(everywhere)
    assert store("ZINTERCARD", 2, "s1", "s2", "LIMIT", 2) == min(2, len(b.keys() & c.keys()))
    lowest = {member: min(one[member] for one in sets if member in one) for member in anywhere}
    assert store("ZUNIONSTORE", "s0", 3, "s2", "s1", "s0", "AGGREGATE", "MIN") == len(anywhere)
    assert store("ZRANGE", "s0", 0, -1, "WITHSCORES") == with_scores(lowest)
    store.check()


def test_resp3_has_doubles_and_pairs() -> None:
    with Bare(16 << 20, protocol=3) as store:
        store("ZADD", "z", 1, "a", "2.5", "b")
        assert store.raw("ZSCORE", "z", "b") == b",2.5\r\n"
        assert (
            store.raw("ZRANGE", "z", 0, -1, "WITHSCORES") == b"*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n"
        )
        assert store.raw("ZPOPMIN", "z") == b"*2\r\n$1\r\na\r\n,1\r\n"
        assert store.raw("ZPOPMIN", "z", 1) == b"*1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n"
        assert store.raw("ZMPOP", 1, "z", "MIN") == b"_\r\n"
