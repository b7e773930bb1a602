"""SSCAN."""

from kvstore.commands.scanning import KEY, scan_collection
from kvstore.lifetimes.context import HANDLER
from kvstore.store.entries import SET
from mmcore.jit import linked


@linked(HANDLER)
def sscan(context):  # type: ignore[no-untyped-def]
    """SSCAN key cursor [MATCH pattern] [COUNT count]"""
    return scan_collection(context, SET, KEY)
