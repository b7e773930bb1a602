"""Servers and stores for tests: a server for as long as it is needed, and a branch of its own for each test.

    address.py      how clients reach a server, and one of its stores
    embedded.py     a server as a child of this process
    branches.py     the branches of one session of tests
    shared.py       one server for several processes of one session
    aio.py          asyncio clients whose connections end with their loop
    plugin.py       all this as fixtures of pytest

docs/testing.md tells how to use it.
"""
