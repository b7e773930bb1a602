"""ZSCAN."""

from kvstore.commands.scanning import SCORE, scan_collection
from kvstore.lifetimes.context import HANDLER
from kvstore.store.entries import ZSET
from mmcore.jit import linked


@linked(HANDLER)
def zscan(context):  # type: ignore[no-untyped-def]
    """ZSCAN key cursor [MATCH pattern] [COUNT count]"""
    return scan_collection(context, ZSET, SCORE)
