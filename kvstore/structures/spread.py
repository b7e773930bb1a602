"""From a chain to a record with a hash table: each element gets an allocation of its own."""

from kvstore.structures.chain import chain_first, spot_element, spot_next
from kvstore.structures.chain_change import chain_free
from kvstore.structures.collection import element_duplicate
from kvstore.structures.element import element_hash
from kvstore.structures.record import record_new
from kvstore.structures.table import table_add
from mmcore.jit import int64, linked
from mmcore.state import SPACE


@linked(int64(SPACE, int64, int64, int64))
def record_of_chain(space, chain, seed, flags):  # type: ignore[no-untyped-def]
    """A record of the elements of a chain, which is freed; 0 with nothing changed when there is no frame for it.

    The caller has reserved frames for the elements.
    """
    record = record_new(space, flags)
    if record == 0:
        return 0
    spot = chain_first(space, chain)
    while spot != 0:
        element = element_duplicate(space, spot_element(space, spot))
        assert element != 0, "no frame was reserved for an element"
        code = table_add(space, record, seed, element_hash(space, element, seed), element)
        assert code == 0, "no frame was reserved for a table"
        spot = spot_next(space, spot)
    chain_free(space, chain)
    return record
