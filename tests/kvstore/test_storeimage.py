"""The check whether a store can be opened from an image: its description, and seeded damage with valid checksums."""

import ast
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgpack
import numpy as np
import pytest

from kvstore.durable.storeimage import accept_store, describe_store
from kvstore.lifetimes.wiring import OpenStore
from kvstore.store import entries, layout
from kvstore.store.databases import keyspace_open
from kvstore.store.description import CONSTANTS, LAYOUT, LAYOUT_DIGEST, LAYOUT_WORD, layout_digest, layout_name
from kvstore.store.layout import (
    CONTROL_BASE,
    CONTROL_LAYOUT,
    CONTROL_MAGIC,
    DB_DATED,
    DB_KEY_BUCKETS,
    DB_KEY_REGION,
    DB_KEYS,
    DB_LEFT,
    DESCRIPTOR_SIZE,
    DESCRIPTORS,
    LAYOUT_VERSION,
)
from kvstore.structures import buckets
from mmcore import AddressSpace, PhysicalMemory, paging
from mmcore.heap import CONTROL, ZEROS
from mmcore.heap import layout as heap
from mmcore.jit import Table
from snapshot import errors
from snapshot.describe import describe
from snapshot.directory import ImageDirectory
from snapshot.image import DATA_OFFSET, PAGE_SIZE, Image, Repeats, checksum, header_page, read_image
from snapshot.preload import Preload
from snapshot.restore import adopt
from snapshot.snapshotter import Snapshotter
from tests.kvstore.bare import Bare
from tests.snapshot.test_image_format import odd, seal

SIZE = 64 << 20
KEYS = 400
DESCRIPTOR_WORDS = DESCRIPTOR_SIZE // 8


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of 400 keys, every third with a deadline, in two databases."""
    directory = tmp_path_factory.mktemp("good")
    with Bare(SIZE) as bare:
        for i in range(KEYS):
            bare("SELECT", i % 2)
            bare("SET", f"key{i}", b"v" * (i * 7 % 3000), *(("PX", 10**12) if i % 3 == 0 else ()))
        snapshotter = Snapshotter(bare.space.state, directory, metadata=describe_store, accept=accept_store)
        assert snapshotter.run_and_wait().ok
        snapshotter.close()
    return snapshotter.images.path_of(1)


@pytest.fixture
def images(good: Path, tmp_path: Path) -> ImageDirectory:
    """That image, as the older of two."""
    directory = ImageDirectory(tmp_path, accept=accept_store)
    directory.path_of(1).write_bytes(good.read_bytes())
    return directory


def manifest_of(image: Image) -> dict[str, object]:
    return {
        "version": 1, "id": image.id, "parent": None, "epoch": 1, "root": 1, "forked_unix_us": 1, "pages": image.pages,
        "runs": bytes(image.runs.words), "chunks": bytes(image.checksums), "metadata": image.metadata,
    }  # fmt: skip


class Changed:
    """An image to be rewritten with changes and with valid checksums."""

    def __init__(self, good: Path) -> None:
        image, whole = read_image(good), good.read_bytes()
        self.image = image
        self.manifest = manifest_of(image)
        self.pages = bytearray(whole[DATA_OFFSET : DATA_OFFSET + image.data_size])

    def put(self, address: int, value: int) -> None:
        """Change one word of a page."""
        at = self.image.page_number(address) * PAGE_SIZE + address % PAGE_SIZE
        self.pages[at : at + 8] = struct.pack("<q", value)

    def write(self, path: Path) -> None:
        size = self.image.chunk_size
        digests = [checksum(bytes(self.pages[at : at + size])) for at in range(0, len(self.pages), size)]
        if isinstance(self.manifest.get("chunks"), bytes) and len(self.manifest["chunks"]) == 8 * len(digests):
            self.manifest["chunks"] = struct.pack(f"<{len(digests)}Q", *digests)
        whole = seal(bytes(self.pages), msgpack.packb(self.manifest), size)
        identity = self.manifest.get("id")
        if isinstance(identity, bytes) and identity == self.image.id:
            self.manifest["id"] = bytes(range(16))  # as `seal` has it in header and trailer
            whole = seal(bytes(self.pages), msgpack.packb(self.manifest), size)
        assert whole.startswith(header_page(bytes(range(16)), size))
        path.write_bytes(whole)


def load(images: ImageDirectory) -> tuple[Image | None, list[errors.ImageError]]:
    """Load an image as a server does, and open its store."""
    preload = Preload(images, SIZE)
    with PhysicalMemory(SIZE, mapping=preload.mapping) as memory:
        space = AddressSpace(memory)
        image = adopt(preload, space.state, accept=accept_store)
        with Bare(16 << 20) as other:
            store = OpenStore(other.pool, other.shard, space, registers=other.opened.registers).context
            assert image is None or keyspace_open(store) == 0
        return image, preload.refused


def test_what_a_store_wrote_it_can_open_and_the_image_says_what_is_in_it(images):
    image, refused = load(images)
    assert (image.path, refused) == (images.path_of(1), [])
    assert image.metadata["layout"] == LAYOUT
    assert image.metadata["databases"] == [[200, 67], [200, 67], *[[0, 0]] * 14]


def constants() -> Iterator[tuple[object, str]]:
    for module, names in CONSTANTS:
        for name in names.split():
            yield module, name


@pytest.mark.parametrize(("module", "name"), list(constants()), ids=lambda value: getattr(value, "__name__", value))
def test_any_constant_of_the_layout_that_changes_changes_its_name(monkeypatch, module, name):
    was = getattr(module, name)
    monkeypatch.setattr(module, name, (*was, 1) if isinstance(was, tuple) else was + 1)
    assert layout_digest() != LAYOUT_DIGEST


# Constants of these modules that do not affect the layout, by the reason.
NOT_LAYOUT = {
    "when something is done": "LOAD_MAX LOAD_MIN BUCKETS_MIN QUEUE_PAGES HEAP_FRAMES LEAST JOINED SPARE_SHIFT "
    "LEAST_CAPACITY SLACK",
    "how much is possible": "BUCKETS_MAX SLAB_PAGES_MAX LARGE_PAGES_MAX SIZE_MAX LENGTH_MAX INTS_MAX INTEGER_MAX "
    "TIME_MAX FULL LEVELS_MAX ADOPT_MIN AGENDA_CHAIN_MAX AGENDA_COST ENTRY_MAX COUNT_MAX",
    "follows from others": "UNIT FINE_MAX MIDDLE_MAX EDITED ENCODING_MASK TYPE_MASK VALUE_FORM ROOT_SIZE HEADER_MAX "
    "OWNS PAYLOAD_OFFSET",
    "of what a program that opens an image ignores": "BUILDER_SHIFT",
    "of functions": "DRAWS NO_DEADLINE BARE NOTHING DIFFER LINE CHAIN_MAX PLACE_BITS PLACE LAST NOWHERE "
    "LEAST_HALF GREATEST_HALF",
    "frames of an operation": "MOVE_FRAMES TABLE_FRAMES INTS_FRAMES COPY_FRAMES LEVEL_FRAMES TREE_FRAMES",
}


def test_every_constant_of_a_module_that_lays_bytes_out_is_in_the_digest_or_said_not_to_be() -> None:
    """So that a developer who adds one is told."""
    for module, names in CONSTANTS:
        if module is paging:  # its other constants are of page tables, which no image holds
            continue
        text = Path(str(module.__file__)).read_text()
        assigned = [line for node in ast.parse(text).body if isinstance(node, ast.Assign) for line in node.targets]
        own = {one.id for target in assigned for one in ast.walk(target) if isinstance(one, ast.Name)}
        public = {name for name in own if name.isupper() and not name.startswith("_")}
        assert public - set(names.split()) <= set(" ".join(NOT_LAYOUT.values()).split()), module


def test_the_layout_s_name_is_known() -> None:
    """A developer who changes the layout must change the name here, and learns that older images become unreadable."""
    assert LAYOUT == "version 3, digest a618e6c1060503c8"
    assert layout_name(LAYOUT_VERSION, LAYOUT_DIGEST) == LAYOUT


def test_a_store_carries_its_layout_s_name_and_opens_by_it() -> None:
    """The control block has the magic number, the version and the digest; flushing keeps them."""
    with Bare(16 << 20) as bare:
        for _ in range(2):
            word = bare.space.read(CONTROL_BASE, 24)
            assert struct.unpack("<qqq", word)[::2] == (CONTROL_MAGIC, LAYOUT_WORD)
            assert keyspace_open(bare.context) == 0
            bare("SET", "k", "v")
            bare("FLUSHALL")
        for at, other in ((CONTROL_BASE, CONTROL_MAGIC + 1), (CONTROL_BASE + CONTROL_LAYOUT, LAYOUT_WORD ^ 1)):
            kept = bare.space.read(at, 8)
            bare.space.write(at, struct.pack("<q", other))
            assert keyspace_open(bare.context) == -1
            bare.space.write(at, kept)
        assert keyspace_open(bare.context) == 0


def refused_for(images: ImageDirectory, changed: Changed) -> str:
    """The reason why the newer image is refused; the older one must be loaded."""
    changed.write(images.path_of(2))
    image, refused = load(images)
    assert image.path == images.path_of(1)
    (error,) = refused
    assert error.path == images.path_of(2)
    assert isinstance(error, errors.ForeignImage), error
    return error.reason


def of_database(db: int, field: int) -> int:
    return DESCRIPTORS + db * DESCRIPTOR_SIZE + field


ODD_CONTROL = {
    "the store's magic": (CONTROL_BASE, 0x7777_0002, "the store's magic number is 0x77770002"),
    "another version": (
        CONTROL_BASE,
        CONTROL_MAGIC + 1,
        f"its control block's layout is version {LAYOUT_VERSION + 1}, digest {LAYOUT[-16:]},",
    ),
    "another digest": (
        CONTROL_BASE + CONTROL_LAYOUT,
        0xABC,
        f"version {LAYOUT_VERSION}, digest 0000000000000abc, and this program's is {LAYOUT}",
    ),
    "an agenda": (of_database(0, DB_DATED), 1 << 40, "the agenda of database 0 is not in it"),
    "names that were left": (
        of_database(1, DB_LEFT),
        1,
        "database 1 counts 1 names that were left, and has no agenda",
    ),
    "the heap's magic": (CONTROL, 7, "the heap's magic number is 0x7"),
    "a region beyond the last": (of_database(3, DB_KEY_REGION), 63, "index regions"),
    "a negative region": (of_database(3, DB_KEY_REGION), -1, "index regions"),
    "a region of two databases": (of_database(3, DB_KEY_REGION), 0, "index regions"),
    "negative keys": (of_database(0, DB_KEYS), -1, "database 0 has -1 keys"),
    "fewer keys than deadlines": (of_database(1, DB_KEYS), 3, "database 1 has 3 keys"),
    "keys without a bucket": (of_database(0, DB_KEY_BUCKETS), 0, "the 0 buckets of database 0"),
    "buckets that are not there": (of_database(0, DB_KEY_BUCKETS), 10_000, "the 10000 buckets of database 0"),
    "more buckets than there can be": (of_database(0, DB_KEY_BUCKETS), 1 << 40, "buckets of database 0"),
    "keys of an empty database": (of_database(9, DB_KEYS), 5, "the 0 buckets of database 9"),
}


@pytest.mark.parametrize("what", ODD_CONTROL)
def test_a_control_block_that_contradicts_the_image_is_refused(images, good, what):
    address, value, reason = ODD_CONTROL[what]
    changed = Changed(good)
    changed.put(address, value)
    assert reason in refused_for(images, changed)


@pytest.mark.parametrize("said", ["0123456789abcdef", "", None, 7, [1], {"a": {}}, b"\xff", "x" * 10_000])
def test_the_name_of_another_layout_is_refused_whatever_its_type(images, good, said):
    changed = Changed(good)
    changed.manifest["metadata"] = {**changed.image.metadata, "layout": said}
    reason = refused_for(images, changed)
    assert "its layout is" in reason and LAYOUT in reason and len(reason) < 200 and reason.isprintable()


def test_an_image_without_a_name_of_its_layout_is_refused(images, good):
    changed = Changed(good)
    changed.manifest["metadata"] = {"made_by": "kvstore"}
    assert refused_for(images, changed) == f"its layout is not named, and this program's is {LAYOUT}"


@pytest.mark.parametrize(
    ("module", "name"),
    [(entries, "HEADER"), (layout, "DESCRIPTOR_SIZE"), (heap, "CLASS_SIZES"), (buckets, "TAG_SHIFT")],
)
def test_a_program_with_one_constant_changed_refuses_the_image_and_takes_an_older_one_of_its_own(
    images, good, monkeypatch, module, name
):
    """The image plays the changed program: it holds that program's digest, first in one place, then in both."""
    was = getattr(module, name)
    monkeypatch.setattr(module, name, (*was, 1) if isinstance(was, tuple) else was + 1)
    other = layout_digest()
    changed = Changed(good)
    changed.put(CONTROL_BASE + CONTROL_LAYOUT, other - (1 << 64) if other >> 63 else other)
    theirs = layout_name(LAYOUT_VERSION, other)
    assert refused_for(images, changed) == f"its control block's layout is {theirs}, and this program's is {LAYOUT}"
    changed.manifest["metadata"] = {**changed.image.metadata, "layout": theirs}
    assert refused_for(images, changed) == f"its layout is {theirs}, and this program's is {LAYOUT}"


def test_pages_that_do_not_lie_where_they_belong_are_refused(images, good):
    """The runs moved by a page, by the span of a table, without the first, without the last."""
    for move in (PAGE_SIZE, 1 << 21, -PAGE_SIZE, 1 << 39):
        changed = Changed(good)
        moved = [[address + move, pages] for address, pages in changed.image.runs.tolist()]
        changed.manifest["runs"] = bytes(Table.of(moved, 2).words)
        assert "control block" in refused_for(images, changed) or "magic" in refused_for(images, changed)
    changed = Changed(good)
    *_, (address, pages) = changed.image.runs.tolist()
    changed.manifest["runs"] = struct.pack("<qq", address + (1 << 30), pages).join(
        (bytes(changed.image.runs.words)[:-16], b"")
    )
    assert "buckets of database" in refused_for(images, changed)


def damaged(rng: random.Random, good: Path) -> Changed:
    """One, two or three things changed, anywhere."""
    changed = Changed(good)
    for _ in range(rng.randrange(1, 4)):
        what = rng.randrange(5)
        if what == 0:
            changed.manifest[rng.choice([*changed.manifest, "more"])] = odd(rng)
        elif what == 1:
            changed.manifest.pop(rng.choice([*changed.manifest, "none"]), None)
        elif what == 2 and isinstance(changed.manifest.get("runs"), bytes):
            runs = changed.manifest["runs"]
            words = np.frombuffer(runs[: len(runs) // 8 * 8], np.int64).copy()
            if len(words):
                words[rng.randrange(len(words))] += rng.choice([-PAGE_SIZE, PAGE_SIZE, -1, 1, 1 << 40, -(1 << 62)])
            changed.manifest["runs"] = words.tobytes()
        elif what == 3:
            changed.manifest["metadata"] = {"layout": rng.choice([LAYOUT, odd(rng)]), "databases": odd(rng)}
        else:
            word = CONTROL_BASE + 8 * rng.choice([*range(5), *range(8, 8 + 16 * DESCRIPTOR_WORDS)])
            changed.put(word, rng.choice([0, -1, 1, 62, 63, 1 << 20, 1 << 40, -(1 << 63), rng.randrange(1 << 62)]))
    return changed


def test_seeded_damage_is_refused_by_name_or_makes_no_difference_that_a_store_could_not_have(images, good):
    """Random changes with valid checksums: no traceback, no empty start, and the damage is identified."""
    taken = 0
    for seed in range(300):
        damaged(random.Random(seed), good).write(images.path_of(2))
        try:
            image, refused = load(images)
        except errors.OutOfFrames:
            pytest.fail(f"seed {seed}: an image of {KEYS} keys does not fit")
        assert image is not None, seed
        if image.path == images.path_of(2):
            taken += 1
            assert describe(image)["pages"] == image.pages
        else:
            assert [one.path for one in refused] == [images.path_of(2)], seed
            assert str(refused[0]).isprintable(), seed
    assert 5 < taken < 150, "most damage is noticed, and some makes no difference"


def test_an_image_with_nothing_in_it_is_no_store():
    empty = SimpleNamespace(metadata={"layout": LAYOUT}, repeats=None)
    assert "no control block" in accept_store(empty, lambda _: b"")


def test_an_image_that_repeats_another_page_than_that_of_zeros_is_refused():
    odd = SimpleNamespace(metadata={"layout": LAYOUT}, repeats=Repeats(0x5000, Table(0, 2)))
    assert accept_store(odd, lambda _: b"") == f"it repeats the page at 0x5000, and the page of zeros is at {ZEROS:#x}"
