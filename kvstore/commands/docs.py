"""What every command is for and how it is written: COMMAND DOCS, HELP, and the hints of redis-cli.

One paragraph a command, in the order of the table's sections:

    name  since  complexity
        summary
        : syntax
        ! since when it is deprecated, and what replaces it

Syntax is the notation that redis.io prints, with names for what has none there:

    word            an argument; its type follows from its name, or is written behind it: increment:double
    WORD            a token, standing alone
    WORD word       a token and its argument
    [ ... ]         optional
    ( a | b )       one of several; likewise [ a | b ]
    ( a b )         a block of several
    name: ...       at the beginning of either: what it is called
    ...             behind any of them: once or more often
"""

import re
from dataclasses import dataclass, replace
from functools import cache

_INTEGERS = """
    client-id cluster_bus_port config-epoch count cursor db decrement end end-slot increment index index1 index2 maxage
    milliseconds numreplicas offset port protover seconds slot start start-slot timeout
"""
_TYPES = {
    "key": "key",
    "pattern": "pattern",
    "unix-time-seconds": "unix-time",
    "unix-time-milliseconds": "unix-time",
    **dict.fromkeys(_INTEGERS.split(), "integer"),
}
_TOKENS = re.compile(r"\.\.\.|[][()|]|[^][()|\s]+?(?=\.\.\.|[][()|\s]|$)")


@dataclass(frozen=True)
class Argument:
    """One argument of a command, or a group of them."""

    name: str
    type: str  # string, integer, double, key, pattern, unix-time, pure-token, oneof, block
    token: str = ""
    optional: bool = False
    multiple: bool = False
    arguments: tuple["Argument", ...] = ()

    @property
    def usage(self) -> str:
        """The argument as a user reads it."""
        if self.type == "pure-token":
            text = self.token
        elif self.type in ("oneof", "block"):
            text = ("|" if self.type == "oneof" else " ").join(argument.usage for argument in self.arguments)
            if self.type == "oneof" and (self.token or not self.optional):
                text = f"({text})"
        else:
            text = f"<{self.name}>"
        if self.multiple:
            text = f"{text} [{text} ...]"
        if self.token and self.type != "pure-token":
            text = f"{self.token} {text}"
        return f"[{text}]" if self.optional else text


@dataclass(frozen=True)
class Doc:
    """The documentation of one command."""

    name: str
    since: str
    complexity: str
    summary: str
    arguments: tuple[Argument, ...]
    deprecated_since: str = ""
    replaced_by: str = ""

    @property
    def usage(self) -> str:
        """The arguments as a user reads them."""
        return " ".join(argument.usage for argument in self.arguments)


def parse_syntax(syntax: str) -> tuple[Argument, ...]:
    """The arguments that a line of syntax describes."""
    tokens = _TOKENS.findall(syntax)
    arguments = _sequence(tokens)
    assert not tokens, f"{syntax!r}: {tokens[0]!r} is not expected"
    return arguments


def _sequence(tokens: list[str]) -> tuple[Argument, ...]:
    arguments = []
    while tokens and tokens[0] not in ("]", ")", "|"):
        arguments.append(_item(tokens))
    return tuple(arguments)


def _item(tokens: list[str]) -> Argument:
    word = tokens.pop(0)
    if word in ("[", "("):
        argument = replace(_group(tokens), optional=word == "[")
        assert tokens.pop(0) == ("]" if word == "[" else ")")
    elif word.isupper():
        if tokens and (tokens[0] == "(" or tokens[0][0].islower()):
            return replace(_item(tokens), token=word)
        argument = Argument(word.lower(), "pure-token", word)
    else:
        name, colon, kind = word.rpartition(":")
        if not colon or kind not in (*_TYPES.values(), "string", "double"):
            name, kind = word, _TYPES.get(word, "string")
        argument = Argument(name, kind)
    if tokens and tokens[0] == "...":
        tokens.pop(0)
        argument = replace(argument, multiple=True)
    return argument


def _group(tokens: list[str]) -> Argument:
    name = tokens.pop(0)[:-1] if tokens[0].endswith(":") else ""
    alternatives = [_sequence(tokens)]
    while tokens[0] == "|":
        tokens.pop(0)
        alternatives.append(_sequence(tokens))
    if len(alternatives) == 1:
        (members,) = alternatives
        return members[0] if len(members) == 1 else Argument(name, "block", arguments=members)
    assert name and all(len(members) == 1 for members in alternatives), f"{name or alternatives}: name what is a group"
    return Argument(name, "oneof", arguments=tuple(members[0] for members in alternatives))


@cache
def docs() -> dict[str, Doc]:
    """The documentation of every command and subcommand, by the table's names."""
    found = {}
    for paragraph in re.split(r"\n(?=\S)", _DOCS.strip()):
        head, *lines = paragraph.split("\n")
        name, since, complexity = head.split(maxsplit=2)
        marked = {mark: " ".join(line[6:] for line in lines if line.startswith(f"    {mark} ")) for mark in ":!"}
        summary = " ".join(line.strip() for line in lines if line[4] not in ":!")
        deprecated_since, _, replaced_by = marked["!"].partition(" ")
        found[name] = Doc(name, since, complexity, summary, parse_syntax(marked[":"]), deprecated_since, replaced_by)
    return found


_DOCS = """
append  2.0.0  O(N) with N the length appended
    Appends to the string at a key; makes it when there is none.
    : key value
decr  1.0.0  O(1)
    Subtracts one from the integer at a key, 0 when there is none.
    : key
decrby  1.0.0  O(1)
    Subtracts a number from the integer at a key, 0 when there is none.
    : key decrement
get  1.0.0  O(1)
    Answers the string at a key.
    : key
getdel  6.2.0  O(1)
    Answers the string at a key and deletes the key.
    : key
getex  6.2.0  O(1)
    Answers the string at a key and sets or removes its expiry.
    : key [expiration: EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds |
    : PERSIST]
getrange  2.4.0  O(N) with N the length answered
    Answers the part of a string between two offsets.
    : key start end
getset  1.0.0  O(1)
    Sets a key to a string and answers what it was before.
    : key value
    ! 6.2.0 `SET` with the `!GET` argument
incr  1.0.0  O(1)
    Adds one to the integer at a key, 0 when there is none.
    : key
incrby  1.0.0  O(1)
    Adds a number to the integer at a key, 0 when there is none.
    : key increment
incrbyfloat  2.6.0  O(1)
    Adds a floating-point number to the number at a key, 0 when there is none.
    : key increment:double
mget  1.0.0  O(N) with N the number of keys
    Answers the strings at several keys.
    : key...
mset  1.0.1  O(N) with N the number of keys
    Sets several keys at once.
    : (key_value: key value)...
msetnx  1.0.1  O(N) with N the number of keys
    Sets several keys at once, or none when one of them exists.
    : (key_value: key value)...
psetex  2.6.0  O(1)
    Sets a key to a string that expires after some milliseconds.
    : key milliseconds value
set  1.0.0  O(1)
    Sets a key to a string, whatever it held.
    : key value [condition: NX | XX] [GET] [expiration: EX seconds | PX milliseconds | EXAT unix-time-seconds |
    : PXAT unix-time-milliseconds | KEEPTTL]
setex  2.0.0  O(1)
    Sets a key to a string that expires after some seconds.
    : key seconds value
setnx  1.0.0  O(1)
    Sets a key to a string unless it exists.
    : key value
setrange  2.2.0  O(N) with N the length of the value, and of the zeros before it
    Overwrites part of a string from an offset on.
    : key offset value
strlen  2.2.0  O(1)
    Answers the length of the string at a key.
    : key
substr  1.0.0  O(N) with N the length answered
    Answers the part of a string between two offsets.
    : key start end
    ! 2.0.0 `GETRANGE`
copy  6.2.0  O(N) with N the length of the value
    Copies the value of a key to another key.
    : source:key destination:key [DB destination-db:integer] [REPLACE]
dbsize  1.0.0  O(1)
    Answers the number of keys in the database.
del  1.0.0  O(N) with N the number of keys
    Deletes keys.
    : key...
exists  1.0.0  O(N) with N the number of keys
    Counts which of these keys exist.
    : key...
expire  1.0.0  O(1)
    Makes a key expire after some seconds.
    : key seconds [condition: NX | XX | GT | LT]
expireat  1.2.0  O(1)
    Makes a key expire at a Unix time in seconds.
    : key unix-time-seconds [condition: NX | XX | GT | LT]
expiretime  7.0.0  O(1)
    Answers when a key expires, as Unix time in seconds.
    : key
flushall  1.0.0  O(1)
    Deletes the keys of all databases.
    : [async: ASYNC | SYNC]
flushdb  1.0.0  O(1)
    Deletes the keys of the database.
    : [async: ASYNC | SYNC]
keys  1.0.0  O(N) with N the number of keys in the database
    Answers the names of all keys that match a pattern.
    : pattern
move  1.0.0  O(1)
    Moves a key to another database.
    : key db
object  2.2.3  Depends on the subcommand.
    Looks into how a value is kept.
object|encoding  2.2.3  O(1)
    Answers how the value of a key is represented.
    : key
object|freq  4.0.0  O(1)
    Answers how often a key is used, under an LFU policy.
    : key
object|help  6.2.0  O(1)
    Answers what subcommands there are.
object|idletime  2.2.3  O(1)
    Answers for how many seconds a key has not been used.
    : key
object|refcount  2.2.3  O(1)
    Answers how many references there are to the value of a key.
    : key
persist  2.2.0  O(1)
    Removes the expiry of a key.
    : key
pexpire  2.6.0  O(1)
    Makes a key expire after some milliseconds.
    : key milliseconds [condition: NX | XX | GT | LT]
pexpireat  2.6.0  O(1)
    Makes a key expire at a Unix time in milliseconds.
    : key unix-time-milliseconds [condition: NX | XX | GT | LT]
pexpiretime  7.0.0  O(1)
    Answers when a key expires, as Unix time in milliseconds.
    : key
pttl  2.6.0  O(1)
    Answers in how many milliseconds a key expires.
    : key
randomkey  1.0.0  O(1)
    Answers the name of a key picked at random.
rename  1.0.0  O(1)
    Renames a key; what had the new name is deleted.
    : key newkey:key
renamenx  1.0.0  O(1)
    Renames a key unless the new name exists.
    : key newkey:key
scan  2.8.0  O(1) a call; O(N) for a whole iteration, with N the number of keys
    Iterates over the names of the keys of the database.
    : cursor [MATCH pattern] [COUNT count] [TYPE type]
swapdb  4.0.0  O(N) with N the number of clients that watch keys of the two
    Exchanges two databases.
    : index1 index2
touch  3.2.1  O(N) with N the number of keys
    Marks keys as used just now, and counts those that exist.
    : key...
ttl  1.0.0  O(1)
    Answers in how many seconds a key expires.
    : key
type  1.0.0  O(1)
    Answers the type of the value at a key.
    : key
unlink  4.0.0  O(N) with N the number of keys
    Deletes keys; large values are given back bit by bit later.
    : key...
discard  2.0.0  O(N) with N the number of commands queued
    Forgets the commands queued since MULTI.
exec  1.2.0  Depends on the commands queued.
    Executes the commands queued since MULTI.
multi  1.2.0  O(1)
    Begins a transaction: queues the commands that follow.
unwatch  2.2.0  O(N) with N the number of keys watched
    Forgets which keys are watched.
watch  2.2.0  O(1) for each key
    Has the next EXEC fail if one of these keys is changed before.
    : key...
auth  1.0.0  O(1)
    Authenticates the connection.
    : [username] password
client  2.4.0  Depends on the subcommand.
    Commands about connections.
client|caching  6.0.0  O(1)
    Whether the next command's keys are tracked.
    : (mode: YES | NO)
client|getname  2.6.9  O(1)
    Answers the connection's name.
client|getredir  6.0.0  O(1)
    Answers where invalidation messages are sent.
client|help  5.0.0  O(1)
    Answers what subcommands there are.
client|id  5.0.0  O(1)
    Answers the connection's number.
client|info  6.2.0  O(1)
    Describes the connection.
client|kill  2.4.0  O(N) with N the number of connections
    Closes connections.
    : (filter: ip:port | (new-format: [ID client-id] | [TYPE (client-type: NORMAL | MASTER | SLAVE | REPLICA |
    : PUBSUB)] | [USER username] | [ADDR ip:port] | [LADDR ip:port] | [SKIPME (skipme: YES | NO)] | [MAXAGE maxage])...)
client|list  2.4.0  O(N) with N the number of connections
    Describes connections, one a line.
    : [TYPE (client-type: NORMAL | MASTER | REPLICA | PUBSUB)] [ID client-id...]
client|no-evict  7.0.0  O(1)
    Exempts the connection from being closed for want of memory.
    : (enabled: ON | OFF)
client|no-touch  7.2.0  O(1)
    Whether the connection's commands mark keys as used.
    : (enabled: ON | OFF)
client|pause  2.9.50  O(1)
    Holds back the commands of all connections for a while.
    : timeout [mode: WRITE | ALL]
client|reply  3.2.0  O(1)
    Whether the connection's commands are answered.
    : (action: ON | OFF | SKIP)
client|setinfo  7.2.0  O(1)
    Says which library the client uses.
    : (attr: LIB-NAME libname | LIB-VER libver)
client|setname  2.6.9  O(1)
    Names the connection.
    : connection-name
client|tracking  6.0.0  O(1)
    Whether the server helps the client to cache; only OFF is supported.
    : (status: ON | OFF)
client|trackinginfo  6.2.0  O(1)
    Answers how the server helps the client to cache.
client|unblock  5.0.0  O(1)
    Ends the wait of a connection in a blocking command.
    : client-id [unblock-type: TIMEOUT | ERROR]
client|unpause  6.2.0  O(N) with N the number of connections held back
    Ends CLIENT PAUSE.
echo  1.0.0  O(N) with N the length of the message
    Answers its argument.
    : message
hello  6.0.0  O(1)
    Chooses the protocol, and greets the server.
    : [arguments: protover [AUTH (auth: username password)] [SETNAME clientname]]
ping  1.0.0  O(1)
    Answers PONG, or its argument.
    : [message]
quit  1.0.0  O(1)
    Closes the connection.
    ! 7.2.0 just closing the connection
reset  6.2.0  O(1)
    Returns the connection to the state in which it was opened.
select  1.0.0  O(1)
    Chooses the connection's database.
    : index
bgsave  1.0.0  O(N) with N the size of the page tables that a fork copies
    Takes a snapshot in the background.
    : [SCHEDULE]
command  2.8.13  O(N) with N the number of commands
    Describes all commands.
command|count  2.8.13  O(1)
    Answers the number of commands.
command|docs  7.0.0  O(N) with N the number of commands asked for
    Explains commands and their arguments.
    : [command-name...]
command|getkeys  2.8.13  O(N) with N the number of arguments
    Answers which arguments of a command are keys.
    : command [arg...]
command|getkeysandflags  7.0.0  O(N) with N the number of arguments
    Answers which arguments of a command are keys, and what it does to them.
    : command [arg...]
command|help  5.0.0  O(1)
    Answers what subcommands there are.
command|info  2.8.13  O(N) with N the number of commands asked for
    Describes commands.
    : [command-name...]
command|list  7.0.0  O(N) with N the number of commands
    Answers the names of commands.
    : [FILTERBY (filterby: MODULE module-name | ACLCAT category | PATTERN pattern)]
config  2.0.0  Depends on the subcommand.
    Commands about the configuration.
config|get  2.0.0  O(N) with N the number of parameters
    Answers the values of parameters.
    : parameter...
config|help  5.0.0  O(1)
    Answers what subcommands there are.
config|resetstat  2.0.0  O(1)
    Sets the server's counters back to zero.
config|rewrite  2.8.0  O(1)
    Writes the configuration in effect to its file.
config|set  2.0.0  O(N) with N the number of parameters
    Sets parameters: all of them or, when one is refused, none.
    : (parameter_value: parameter value)...
debug  1.0.0  Depends on the subcommand.
    Commands for tests of the server.
    : subcommand [arg...]
info  1.0.0  O(1)
    Reports on the server.
    : [section...]
lastsave  1.0.0  O(1)
    Answers when the last snapshot was completed, as Unix time in seconds.
memory  4.0.0  Depends on the subcommand.
    Commands about memory.
memory|doctor  4.0.0  O(1)
    Reports on problems with memory.
memory|help  4.0.0  O(1)
    Answers what subcommands there are.
memory|malloc-stats  4.0.0  O(1)
    Reports on the allocator.
memory|purge  4.0.0  O(1)
    Asks the allocator to give back memory that it holds in reserve.
memory|stats  4.0.0  O(1)
    Answers what memory is used for.
memory|usage  4.0.0  O(1)
    Answers how many bytes a key and its value take.
    : key [SAMPLES count]
save  1.0.0  O(N) with N the size of the data
    Takes a snapshot and waits until it is durable.
shutdown  1.0.0  O(N) with N the size of the data when it saves, else O(1)
    Stops the server, with a last snapshot if save points are set.
    : [save-selector: NOSAVE | SAVE] [NOW] [FORCE] [ABORT]
time  2.6.0  O(1)
    Answers the server's clock.
role  2.8.12  O(1)
    Answers that this is a master, and which replicas it has: none.
slowlog  2.2.12  Depends on the subcommand.
    Commands about the log of slow commands.
slowlog|get  2.2.12  O(N) with N the number of entries answered
    Answers the newest entries: 10, or as many as asked for, all for -1.
    : [count]
slowlog|help  6.2.0  O(1)
    Answers what subcommands there are.
slowlog|len  2.2.12  O(1)
    Answers the number of entries.
slowlog|reset  2.2.12  O(N) with N the number of entries
    Forgets all entries.
latency  2.8.13  Depends on the subcommand.
    Commands about what takes long.
latency|doctor  2.8.13  O(1)
    Explains the events that took long, and what to do about them.
latency|graph  2.8.13  O(1)
    Draws how long events of a kind took.
    : event
latency|help  2.8.13  O(1)
    Answers what subcommands there are.
latency|histogram  7.0.0  O(N) with N the number of commands asked for
    Answers how the durations of commands are distributed.
    : [command...]
latency|history  2.8.13  O(1)
    Answers when events of a kind took long, and how long.
    : event
latency|latest  2.8.13  O(1)
    Answers the last long event of every kind, and the longest.
latency|reset  2.8.13  O(1)
    Forgets the events of all kinds, or of some.
    : [event...]
acl  6.0.0  Depends on the subcommand.
    Commands about users; there is one, who may do everything.
acl|cat  6.0.0  O(1)
    Answers the categories of commands, or the commands of a category.
    : [categoryname]
acl|getuser  6.0.0  O(1)
    Answers what a user may do.
    : username
acl|help  6.0.0  O(1)
    Answers what subcommands there are.
acl|list  6.0.0  O(1)
    Answers the users and what they may do, as rules.
acl|log  6.0.0  O(N) with N the number of entries
    Answers who was not let in.
    : [operation: count | RESET]
acl|users  6.0.0  O(1)
    Answers the names of the users.
acl|whoami  6.0.0  O(1)
    Answers who the connection is.
module  4.0.0  Depends on the subcommand.
    Commands about modules.
module|help  5.0.0  O(1)
    Answers what subcommands there are.
module|list  4.0.0  O(1)
    Answers which modules are loaded: none.
wait  3.0.0  O(1)
    Waits until replicas have what the connection wrote, or its time is over.
    : numreplicas timeout
asking  3.0.0  O(1)
    Refused: there is no cluster.
readonly  3.0.0  O(1)
    Refused: there is no cluster.
readwrite  3.0.0  O(1)
    Refused: there is no cluster.
cluster  3.0.0  Depends on the subcommand.
    Commands about a cluster, all refused: there is none.
cluster|addslots  3.0.0  O(N) with N the number of slots
    Has the node serve slots.
    : slot...
cluster|addslotsrange  7.0.0  O(N) with N the number of slots
    Has the node serve ranges of slots.
    : (start-slot_end-slot: start-slot end-slot)...
cluster|bumpepoch  3.0.0  O(1)
    Raises the configuration's epoch.
cluster|count-failure-reports  3.0.0  O(N) with N the number of reports
    Answers how many nodes say that a node has failed.
    : node-id
cluster|countkeysinslot  3.0.0  O(1)
    Answers how many keys a slot holds.
    : slot
cluster|delslots  3.0.0  O(N) with N the number of slots
    Has the node serve slots no more.
    : slot...
cluster|delslotsrange  7.0.0  O(N) with N the number of slots
    Has the node serve ranges of slots no more.
    : (start-slot_end-slot: start-slot end-slot)...
cluster|failover  3.0.0  O(1)
    Has a replica take its master's place.
    : [options: FORCE | TAKEOVER]
cluster|flushslots  3.0.0  O(1)
    Has the node serve no slots.
cluster|forget  3.0.0  O(1)
    Removes a node from the table of nodes.
    : node-id
cluster|getkeysinslot  3.0.0  O(N) with N the number of keys
    Answers names of keys in a slot.
    : slot count
cluster|help  5.0.0  O(1)
    Answers what subcommands there are.
cluster|info  3.0.0  O(1)
    Answers the state of the cluster.
cluster|keyslot  3.0.0  O(N) with N the length of the key
    Answers the slot of a key.
    : key:string
cluster|links  7.0.0  O(N) with N the number of nodes
    Answers the connections with other nodes.
cluster|meet  3.0.0  O(1)
    Has the node get to know another one.
    : ip port [cluster_bus_port]
cluster|myid  3.0.0  O(1)
    Answers the node's name.
cluster|nodes  3.0.0  O(N) with N the number of nodes
    Answers the nodes and what they serve.
cluster|replicas  5.0.0  O(1)
    Answers the replicas of a master.
    : node-id
cluster|replicate  3.0.0  O(1)
    Makes the node a replica of another.
    : node-id
cluster|reset  3.0.0  O(N) with N the number of nodes
    Has the node forget the cluster.
    : [hard_soft: HARD | SOFT]
cluster|saveconfig  3.0.0  O(1)
    Writes the node's state to its file.
cluster|set-config-epoch  3.0.0  O(1)
    Sets the configuration's epoch of a new node.
    : config-epoch
cluster|setslot  3.0.0  O(1)
    Binds a slot to a node, or says that it is on its way.
    : slot (subcommand: IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE)
cluster|shards  7.0.0  O(N) with N the number of nodes
    Answers which nodes serve which slots, by shard.
cluster|slaves  3.0.0  O(1)
    Answers the replicas of a master.
    : node-id
    ! 5.0.0 `CLUSTER REPLICAS`
cluster|slots  3.0.0  O(N) with N the number of nodes
    Answers which nodes serve which slots.
    ! 7.0.0 `CLUSTER SHARDS`
"""
