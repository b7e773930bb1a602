"""The section of INFO about branches and snapshots."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Server


def branches_fields(server: "Server") -> dict[str, object]:
    """Branches and snapshots, which end with the process, and the costliest ten of them."""
    of, counters = server.costs(), server.space.counters
    found: dict[str, object] = {
        "branches": of.branches,
        "snapshots": of.snapshots,
        "branches_outlive_process": "no",
        "branches_own_bytes": of.own_bytes,
        "branches_changes_bytes": server.registers.CHANGES_BYTES,
        "pages_copied": counters["pages_copied"],
        "tables_copied": counters["tables_copied"],
    }
    for number, (one, own) in enumerate(of.costliest):
        found[f"store{number}"] = f"name={one.name},kind={one.kind},own={own},connections={one.users}"
    return found
