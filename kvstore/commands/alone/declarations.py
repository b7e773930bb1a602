"""Declarations of the commands about replicas, modules and users, for a server with no replicas and one user."""

from kvstore.commands.declaration import Command, Family

_alone = Family("server", "kvstore.commands.alone")
_acl = _alone.subcommands_of("ACL")
_module = _alone.subcommands_of("MODULE")
_replicas = Family("generic", "kvstore.commands.alone")

COMMANDS = (
    Command(
        _alone,
        "ACL",
        "Commands about users; there is one, who may do everything.",
        since="6.0.0",
        cost="Depends on the subcommand.",
        subcommands=(
            Command(
                _acl,
                "ACL CAT [categoryname]",
                "Answers the categories of commands, or the commands of a category.",
                since="6.0.0",
                cost="O(1)",
                flags="noscript loading stale",
                python="acl:acl_cat",
            ),
            Command(
                _acl,
                "ACL GETUSER username",
                "Answers what a user may do.",
                since="6.0.0",
                cost="O(1)",
                flags="admin noscript loading stale",
                history=(
                    ("6.2.0", "Added Pub/Sub channel patterns."),
                    (
                        "7.0.0",
                        "Added selectors and changed the format of key and channel patterns from a list to their rule "
                        "representation.",
                    ),
                ),
                python="acl:acl_getuser",
            ),
            Command(
                _acl,
                "ACL HELP",
                "Answers what subcommands there are.",
                since="6.0.0",
                cost="O(1)",
                flags="loading stale",
                python="kvstore.commands.introspection.help:help_",
            ),
            Command(
                _acl,
                "ACL LIST",
                "Answers the users and what they may do, as rules.",
                since="6.0.0",
                cost="O(1)",
                flags="admin noscript loading stale",
                python="acl:acl_list",
            ),
            Command(
                _acl,
                "ACL LOG [count | RESET]",
                "Answers who was not let in.",
                since="6.0.0",
                cost="O(N) with N the number of entries",
                flags="admin noscript loading stale",
                groups="operation",
                python="acl:acl_log",
            ),
            Command(
                _acl,
                "ACL USERS",
                "Answers the names of the users.",
                since="6.0.0",
                cost="O(1)",
                flags="admin noscript loading stale",
                python="acl:acl_users",
            ),
            Command(
                _acl,
                "ACL WHOAMI",
                "Answers who the connection is.",
                since="6.0.0",
                cost="O(1)",
                flags="noscript loading stale",
                python="acl:acl_whoami",
            ),
        ),
    ),
    Command(
        _alone,
        "MODULE",
        "Commands about modules.",
        since="4.0.0",
        cost="Depends on the subcommand.",
        subcommands=(
            Command(
                _module,
                "MODULE HELP",
                "Answers what subcommands there are.",
                since="5.0.0",
                cost="O(1)",
                flags="loading stale",
                python="kvstore.commands.introspection.help:help_",
            ),
            Command(
                _module,
                "MODULE LIST",
                "Answers which modules are loaded: none.",
                since="4.0.0",
                cost="O(1)",
                flags="admin noscript",
                tips="nondeterministic_output_order",
                python="modules:module_list",
            ),
        ),
    ),
    Command(
        _alone,
        "ROLE",
        "Answers that this is a master, and which replicas it has: none.",
        since="2.8.12",
        cost="O(1)",
        flags="noscript loading stale fast",
        categories="admin dangerous",
        python="replication:role",
    ),
    Command(
        _replicas,
        "WAIT numreplicas timeout",
        "Waits until replicas have what the connection wrote, or its time is over.",
        since="3.0.0",
        cost="O(1)",
        flags="noscript",
        tips="request_policy:all_shards response_policy:agg_min",
        categories="connection",
        category_of_group=False,
        kernel="replication:wait",
    ),
)
