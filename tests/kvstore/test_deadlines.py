"""The heap of deadlines beside a sorted list."""

import random

import numpy as np

from kvstore.connections.deadlines import deadline_drop, deadline_due, deadline_set
from kvstore.lifetimes.connection import DEADLINE_PLACE, FIELDS, NEVER
from tests.kvstore.bare import Bare

CONNECTIONS = 64
SEED = 0xD1AD


def test_a_stream_beside_a_model() -> None:
    print("seed", SEED)
    rng = random.Random(SEED)
    with Bare(1 << 22, connections=CONNECTIONS) as bare:
        rows = np.frombuffer(bare.shard.connections.words, np.int64).reshape(CONNECTIONS, FIELDS)
        model: dict[int, int] = {}
        for _ in range(4000):
            slot = rng.randrange(CONNECTIONS)
            if slot in model:
                deadline_drop(bare.context, rows[slot])
                del model[slot]
                assert rows[slot, DEADLINE_PLACE] == 0
            else:
                model[slot] = rng.choice((rng.randrange(1000), 500))
                deadline_set(bare.context, slot, rows[slot], model[slot])
            first = min(model.values(), default=NEVER)
            assert first == bare.registers.BLOCKED_DEADLINE_MS
            assert len(model) == bare.registers.DEADLINES
            if model:
                assert deadline_due(bare.context, first - 1) == -1
                assert model[int(deadline_due(bare.context, first))] == first
        order = []
        while model:
            slot = int(deadline_due(bare.context, 1 << 40))
            order.append(model.pop(slot))
            deadline_drop(bare.context, rows[slot])
        assert order == sorted(order)
        assert deadline_due(bare.context, 1 << 40) == -1


def test_never_is_no_deadline() -> None:
    with Bare(1 << 22, connections=2) as bare:
        row = np.frombuffer(bare.shard.connections.words, np.int64)[:FIELDS]
        deadline_set(bare.context, 0, row, NEVER)
        assert bare.registers.DEADLINES == 0
        deadline_drop(bare.context, row)
        assert bare.registers.BLOCKED_DEADLINE_MS == NEVER
