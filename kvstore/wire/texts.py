"""Replies that the loop sends to connections that it refuses, as arrays of bytes for kernels."""

from mmcore.jit import constant

MAX_CLIENTS = constant(b"-ERR max number of clients reached\r\n")
DENIED = constant(
    b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the "
    b"default user. In this mode connections are only accepted from the loopback interface. To connect from another "
    b"machine, set a password with requirepass, or disable protected mode with 'CONFIG SET protected-mode no' from "
    b"the loopback interface, if this server cannot be reached from the internet.\r\n"
)
