"""The modules that declare commands.  Each has COMMANDS, a tuple of declarations: see declaration.py."""

FAMILIES = (
    "kvstore.commands.alone.declarations",
    "kvstore.commands.branches.declarations",
    "kvstore.commands.cluster.declarations",
    "kvstore.commands.configuration.declarations",
    "kvstore.commands.connection.declarations",
    "kvstore.commands.geo.declarations",
    "kvstore.commands.hashes.declarations",
    "kvstore.commands.introspection.declarations",
    "kvstore.commands.keys.declarations",
    "kvstore.commands.lists.declarations",
    "kvstore.commands.memory.declarations",
    "kvstore.commands.observation.declarations",
    "kvstore.commands.persistence.declarations",
    "kvstore.commands.pubsub.declarations",
    "kvstore.commands.sets.declarations",
    "kvstore.commands.sortedsets.declarations",
    "kvstore.commands.sorting.declarations",
    "kvstore.commands.streams.declarations",
    "kvstore.commands.strings.declarations",
    "kvstore.commands.transactions",
)
