"""From a packed to a record with a hash table: each item becomes an element of its own."""

from kvstore.structures.collection import element_duplicate
from kvstore.structures.element import element_hash
from kvstore.structures.packed import packed_count, packed_free, packed_item
from kvstore.structures.record import record_new
from kvstore.structures.table import table_add
from mmcore.jit import int64, linked
from mmcore.state import SPACE


@linked(int64(SPACE, int64, int64, int64))
def record_of_packed(space, packed, seed, flags):  # type: ignore[no-untyped-def]
    """A record of the elements of a packed, which is freed; 0 with nothing changed when there is no frame for it.

    The caller has reserved frames for the elements.
    """
    record = record_new(space, flags)
    if record == 0:
        return 0
    for i in range(packed_count(space, packed)):
        element = element_duplicate(space, packed_item(space, packed, i))
        assert element != 0, "no frame was reserved for an element"
        code = table_add(space, record, seed, element_hash(space, element, seed), element)
        assert code == 0, "no frame was reserved for a table"
    packed_free(space, packed)
    return record
