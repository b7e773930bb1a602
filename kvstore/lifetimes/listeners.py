"""The bits of a store's register LISTENERS: each is set while there is a listener of its kind (effects/door.py)."""

WATCHING = 1 << 0  # keys are watched
JOURNALED = 1 << 1  # a journal records events
WAITING = 1 << 2  # clients wait for keys
NOTIFYING = 1 << 3  # keyspace events are published
TRACKED = 1 << 4  # clients are told which keys changed
RECORDED = 1 << 5  # somebody may ask which keys have changed
