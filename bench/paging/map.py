"""The look of an address space after a fork and some writes.

Method.  The space is laid out like that of a store: most of it is written, a part is mapped ahead of use and not
written yet, and in a part that is set aside nothing is mapped.  For each pattern of writes and each mode, the space is
forked, and the parent writes one byte to each of `writes` places.  Both spaces are accounted for (mmcore/account.py).
Then the child exits, and the parent is again the only owner of all its pages.

    sequential   one page after the other, from the beginning
    random       pages drawn evenly
    zipf         pages drawn by Zipf's law with exponent 0.99, YCSB's, the popular ones scattered over the whole space

Units: MiB, frames of 4 KiB, regions of 2 MiB.  Nothing is timed: the same seed gives the same numbers.

Sources of error: a child that is not the only sharer; pages that were never written, which an operating system would
not have; writes through a path that does not fault.  The report has the counters of the machine beside the accounts,
and the tests compare both.

The picture has a panel for each mode and pattern, a cell for each region of the parent, in the order of addresses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.reporting.report import Report, Say, say
from bench.rig.machine import ADDRESS, GIB, MIB, MODES, touch
from mmcore import AddressSpace, PhysicalMemory, RegionState, Usage
from mmcore.paging import PAGE_SIZE, PT_SPAN, RUN_FRAMES

PATTERNS = ("sequential", "random", "zipf")
ZIPF_EXPONENT = 0.99
AHEAD, ASIDE = 1 / 16, 1 / 16  # parts of the space: mapped ahead of use, set aside
REGIONS_MIN = 16  # the smallest number that gives all three parts
SMOKE_GIB = 1 / 16
COLUMNS = 32  # regions in a row of the picture, at least: 64 MiB
NO_CELL = -1  # beyond the last region

COLOURS = {
    RegionState.UNTOUCHED: "#eeeeee",
    RegionState.SHARED_TABLE: "#8db7d8",
    RegionState.COPIED_TABLE: "#f0c24b",
    RegionState.PAGES_COPIED: "#f3a48f",  # one page; towards FULL by the logarithm of their number
}
FULL = "#7d1420"
NAMES = {
    RegionState.UNTOUCHED: "untouched",
    RegionState.SHARED_TABLE: "shared table",
    RegionState.COPIED_TABLE: "copied table",
    RegionState.PAGES_COPIED: "pages copied",
}


@dataclass(frozen=True)
class Layout:
    """The sizes of the written, mapped-ahead and set-aside parts of a space [bytes, multiples of 2 MiB]."""

    written: int
    ahead: int
    aside: int

    @classmethod
    def of(cls, size: int) -> "Layout":
        """The layout of a space of `size` bytes, or of the smallest space that has all three parts."""
        count = max(size // PT_SPAN, REGIONS_MIN)
        ahead, aside = int(count * AHEAD), int(count * ASIDE)
        return cls((count - ahead - aside) * PT_SPAN, ahead * PT_SPAN, aside * PT_SPAN)

    @property
    def size(self) -> int:
        return self.written + self.ahead + self.aside


@dataclass(frozen=True)
class Outcome:
    """The state after one fork and the writes after it."""

    pattern: str
    mode: str
    usage: dict[str, Usage]  # of parent and child
    regions: dict[str, np.ndarray]  # mmcore.REGION of each
    counted: dict[str, int]  # the increase of the parent's counters since before the fork


def places(pattern: str, pages: int, writes: int, seed: int) -> np.ndarray:
    """int64[writes]: the numbers of the pages to write, below `pages`, in order."""
    random = np.random.default_rng(seed)
    if pattern == "sequential":
        return np.arange(writes) % pages
    if pattern == "random":
        return random.integers(0, pages, writes)
    rank = np.arange(1, pages + 1) ** -ZIPF_EXPONENT
    return random.permutation(pages)[random.choice(pages, writes, p=rank / rank.sum())]


def columns_for(count: int) -> int:
    """Regions per row of a picture of `count` regions: enough that it is not higher than wide."""
    columns = COLUMNS
    while columns**2 < count:
        columns *= 2
    return columns


def grid(regions: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """(state, pages of its own), each int64[rows, columns]; NO_CELL and 0 behind the last region."""
    rows = -(-regions.size // columns)
    state = np.full(rows * columns, NO_CELL)
    private = np.zeros(rows * columns, np.int64)
    state[: regions.size] = regions["state"]
    private[: regions.size] = regions["private"]
    return state.reshape(rows, columns), private.reshape(rows, columns)


def shade(private: np.ndarray) -> np.ndarray:
    """The depth of the colour for a number of copied pages: 0 for one, 1 for all 512, logarithmic between."""
    depth: np.ndarray = np.log2(np.maximum(private, 1)) / np.log2(RUN_FRAMES)
    return depth


def measure(
    layout: Layout, modes: Sequence[str], patterns: Sequence[str], writes: int, seed: int, huge: bool, progress: Say
) -> list[Outcome]:
    """An Outcome for each pattern and mode, all on one space."""
    outcomes = []
    with PhysicalMemory(2 * layout.size + layout.size // 64 + 64 * PAGE_SIZE) as memory:
        space = AddressSpace(memory)
        space.map(ADDRESS, layout.written + layout.ahead, huge=huge)
        touch(space.state, ADDRESS, layout.written // PAGE_SIZE)
        for pattern in patterns:
            pages = places(pattern, layout.written // PAGE_SIZE, writes, seed)
            for mode in modes:
                progress(f"map {mode}, {pattern}")
                before = space.counters
                child = space.fork(MODES[mode])
                for page in pages.tolist():
                    touch(space.state, ADDRESS + page * PAGE_SIZE, 1)
                spaces = {"parent": space, "child": child}
                outcomes.append(
                    Outcome(
                        pattern,
                        mode,
                        {name: one.usage() for name, one in spaces.items()},
                        {name: one.regions(ADDRESS, layout.size) for name, one in spaces.items()},
                        {name: count - before[name] for name, count in space.counters.items()},
                    )
                )
                child.exit()
    return outcomes


def run(
    gib: float = 1.0,
    modes: Sequence[str] = tuple(MODES),
    patterns: Sequence[str] = PATTERNS,
    writes: int = 500,
    seed: int = 1,
    huge: bool = False,
    plot: Path | None = None,
    progress: Say = say,
) -> Report:
    """Fork, write, account; and draw the picture if wanted."""
    layout = Layout.of(int(gib * GIB))
    report = Report(
        "map",
        "The look of an address space after a fork, when writers come.",
        [
            f"{layout.written // MIB} MiB written, {layout.ahead // MIB} MiB mapped ahead and not written, "
            f"{layout.aside // MIB} MiB set aside; {'huge pages' if huge else 'pages of 4 KiB'}",
            f"after each fork the parent writes a byte to each of {writes} places, the child none; seed {seed}",
            "the words are those of /proc/PID/smaps; nothing is timed",
        ],
        {
            "gib": gib,
            "modes": list(modes),
            "patterns": list(patterns),
            "writes": writes,
            "seed": seed,
            "huge": huge,
        },
    )
    outcomes = measure(layout, modes, patterns, writes, seed, huge, progress)
    _add_tables(report, outcomes)
    if plot:
        draw(outcomes, f"{layout.size / GIB:g} GiB after a fork and {writes:,} writes by the parent", plot)
    return report


def _add_tables(report: Report, outcomes: Sequence[Outcome]) -> None:
    who = ("writes", "fork", "space")
    memory = ("rss", "pss", "shared_clean", "shared_dirty", "private_clean", "private_dirty")
    taken = report.table("Memory [MiB]", *who, *(name.title() for name in memory))
    tables = report.table("Page tables [frames]", *who, "shared", "private", "part")
    states = report.table("Regions of 2 MiB by state", *who, *NAMES.values(), "private pages")
    copied = report.table(
        "What the parent copied [frames]", "writes", "fork", "tables by the fork", "tables", "pages", "huge pages"
    )
    for outcome in outcomes:
        for space, usage in outcome.usage.items():
            which = (outcome.pattern, outcome.mode, space)
            taken.add(*which, *(getattr(usage, name) / MIB for name in memory))
            tables.add(*which, usage.tables_shared, usage.tables_private, usage.tables_part)
            found = outcome.regions[space]
            counts = np.bincount(found["state"], minlength=len(RegionState)).tolist()
            states.add(*which, *counts, int(found["private"].sum()))
        names = ("fork_tables", "tables_copied", "pages_copied", "huge_copied")
        copied.add(outcome.pattern, outcome.mode, *(outcome.counted[name] for name in names))


def draw(outcomes: Sequence[Outcome], title: str, path: Path) -> None:
    """The picture: modes below one another, patterns side by side."""
    from matplotlib.patches import Patch

    from bench.reporting.picture import WIDTH_INCHES, figure, save

    across = len({outcome.pattern for outcome in outcomes})
    modes = list(dict.fromkeys(outcome.mode for outcome in outcomes))
    count = outcomes[0].regions["parent"].size
    columns = columns_for(count)
    canvas, axes = figure(len(modes), len(modes) * (0.5 + WIDTH_INCHES / across * count / columns**2) + 0.9, across)
    # Outcomes are listed pattern by pattern, panels mode by mode.
    by_mode = sorted(outcomes, key=lambda outcome: modes.index(outcome.mode))
    for panel, outcome in zip(axes, by_mode, strict=True):
        _draw_map(panel, *grid(outcome.regions["parent"], columns))
        counted = outcome.counted
        pages = counted["pages_copied"] + counted["huge_copied"]
        copied = f"{counted['fork_tables']:,} + {counted['tables_copied']:,} tables, {pages:,} pages"
        panel.set_title(f"{outcome.mode}, {outcome.pattern}\n{copied}", fontsize=7.5, loc="left")
    patches = [Patch(color=COLOURS[state], label=name) for state, name in NAMES.items()]
    patches[-1].set_label("pages copied: one")
    patches.append(Patch(color=FULL, label="all 512"))
    canvas.legend(handles=patches, loc="lower center", ncols=len(patches), fontsize=8, frameon=False)
    words = f"a cell is 2 MiB, a row {columns * PT_SPAN // MIB} MiB; tables copied by the fork + by the writes"
    canvas.suptitle(f"{title}\n{words}", fontsize=9)
    canvas.tight_layout(rect=(0, 0.035, 1, 1), h_pad=0.6)
    save(canvas, path)


def _draw_map(panel: Any, state: np.ndarray, private: np.ndarray) -> None:
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    cells = np.ones((*state.shape, 4))
    for which, colour in COLOURS.items():
        cells[state == which] = to_rgba(colour)
    copied = state == RegionState.PAGES_COPIED
    deepening = LinearSegmentedColormap.from_list("copied", [COLOURS[RegionState.PAGES_COPIED], FULL])
    cells[copied] = deepening(shade(private[copied]))
    panel.grid(False)
    panel.pcolormesh(cells, edgecolors="white", linewidth=0.4)
    panel.set(aspect="equal", xticks=[], yticks=[])
    if not panel.yaxis_inverted():  # the panels share it
        panel.invert_yaxis()
    for side in panel.spines.values():
        side.set_visible(False)
