"""Declarations of CONFIG; the parameters themselves are in kvstore/config."""

from kvstore.commands import secrets
from kvstore.commands.declaration import Command, Family

_configuration = Family("server", "kvstore.commands.configuration")
_config = _configuration.subcommands_of("CONFIG")

COMMANDS = (
    Command(
        _configuration,
        "CONFIG",
        "Commands about the configuration.",
        since="2.0.0",
        cost="Depends on the subcommand.",
        subcommands=(
            Command(
                _config,
                "CONFIG GET <parameter> [<parameter> ...]",
                "Answers the values of parameters.",
                since="2.0.0",
                cost="O(N) with N the number of parameters",
                flags="admin noscript loading stale",
                groups="parameter",
                history=(("7.0.0", "Added the ability to pass multiple pattern parameters in one call"),),
                python="config:config_get",
            ),
            Command(
                _config,
                "CONFIG HELP",
                "Answers what subcommands there are.",
                since="5.0.0",
                cost="O(1)",
                flags="loading stale",
                python="kvstore.commands.introspection.help:help_",
            ),
            Command(
                _config,
                "CONFIG RESETSTAT",
                "Sets the server's counters back to zero.",
                since="2.0.0",
                cost="O(1)",
                flags="admin noscript loading stale",
                python="config:config_resetstat",
            ),
            Command(
                _config,
                "CONFIG REWRITE",
                "Writes the configuration in effect to its file.",
                since="2.8.0",
                cost="O(1)",
                flags="admin noscript loading stale",
                python="config:config_rewrite",
            ),
            Command(
                _config,
                "CONFIG SET parameter value [parameter value ...]",
                "Sets parameters: all of them or, when one is refused, none.",
                since="2.0.0",
                cost="O(N) with N the number of parameters",
                flags="admin noscript loading stale",
                tips="request_policy:all_nodes response_policy:all_succeeded",
                groups="parameter_value",
                history=(("7.0.0", "Added the ability to set multiple parameters in one call."),),
                python="config:config_set",
                secrets=secrets.of_config_set,
            ),
        ),
    ),
)
