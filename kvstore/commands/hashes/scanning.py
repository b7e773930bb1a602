"""HSCAN."""

from kvstore.commands.scanning import VALUE, scan_collection
from kvstore.lifetimes.context import HANDLER
from kvstore.store.entries import HASH
from mmcore.jit import linked


@linked(HANDLER)
def hscan(context):  # type: ignore[no-untyped-def]
    """HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]"""
    return scan_collection(context, HASH, VALUE)
