"""Declarations of MEMORY: USAGE is a kernel beside those of keys, the other subcommands are in Python."""

from kvstore.commands.declaration import Command, Family

_usage = Family("server", "kvstore.commands.memory")
_memory = _usage.subcommands_of("MEMORY")

COMMANDS = (
    Command(
        _usage,
        "MEMORY",
        "Commands about memory.",
        since="4.0.0",
        cost="Depends on the subcommand.",
        kernel="kvstore.commands.keys.introspection:memory_usage",
        subcommands=(
            Command(
                _memory,
                "MEMORY DOCTOR",
                "Reports on problems with memory.",
                since="4.0.0",
                cost="O(1)",
                tips="nondeterministic_output request_policy:all_shards response_policy:special",
                python="memory:memory_doctor",
            ),
            Command(
                _memory,
                "MEMORY HELP",
                "Answers what subcommands there are.",
                since="4.0.0",
                cost="O(1)",
                flags="loading stale",
                python="kvstore.commands.introspection.help:help_",
            ),
            Command(
                _memory,
                "MEMORY MALLOC-STATS",
                "Reports on the allocator.",
                since="4.0.0",
                cost="O(1)",
                tips="nondeterministic_output request_policy:all_shards response_policy:special",
                python="memory:memory_malloc_stats",
            ),
            Command(
                _memory,
                "MEMORY PURGE",
                "Asks the allocator to give back memory that it holds in reserve.",
                since="4.0.0",
                cost="O(1)",
                tips="request_policy:all_shards response_policy:all_succeeded",
                python="memory:memory_purge",
            ),
            Command(
                _memory,
                "MEMORY STATS",
                "Answers what memory is used for.",
                since="4.0.0",
                cost="O(1)",
                tips="nondeterministic_output request_policy:all_shards response_policy:special",
                python="memory:memory_stats",
            ),
            Command(
                _memory,
                "MEMORY USAGE key [SAMPLES count]",
                "Answers how many bytes a key and its value take.",
                since="4.0.0",
                cost="O(1)",
                flags="readonly",
                keys="RO",
                kernel="kvstore.commands.keys.introspection:memory_usage",
            ),
        ),
    ),
)
