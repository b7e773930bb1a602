"""A store's registers: they end with the store, and concern no other store."""

(
    # the store
    DIRTY,  # changes since the last durable snapshot
    MAXMEMORY,  # [bytes], 0 = no limit
    CEILING,  # [bytes] for the data while frames are short, 0 for none; see store/ceiling.py
    READ_ONLY,  # not 0: writing commands are refused, an expired key is hidden, and no clock notes a use
    FROZEN_ROOTS,  # that share the store's pages and tables, beside those in the pool's queue: an image, a branch
    RAN_OUT,  # a command was refused for want of frames since this was last set to 0
    # a transaction that may be undone: see store/undo.py
    UNDO_ROOT,  # of the store as it was, -1 for none
    UNDO_DIRTY,  # and these registers as they were
    UNDO_HITS,
    UNDO_MISSES,
    UNDO_EXPIRED,
    UNDO_SUBKEYS,
    UNDO_EVICTED,
    UNDO_LAZYFREED,
    UNDO_COPIES,  # pages and tables that the processor had copied by then
    IMAGE_UNDER_WAY,  # an image of the store is being written
    # who hears of changes: see effects/door.py
    LISTENERS,  # a bit for each kind of listener that there is
    WAITED_KEYS,  # tables of interests (connections/interests.py): keys that clients wait for, by their database
    CHANNELS,
    PATTERNS,
    SHARD_CHANNELS,
    TRACKED_KEYS,
    PREFIXES,
    NOTIFY,  # classes of keyspace events that are published, as bits: see effects/events.py
    JOURNAL_ADDRESS,  # of the journal that records events, 0 for none; see effects/journal.py
    WATCHED_KEYS,  # a table of interests too: keys whose change makes an EXEC fail
    # statistics, named as INFO has them
    EXPIRED_STALE_PERC,  # share of due ones among the deadlines that active expiry looked at lately [1/1000 %]
    DEADLINES_MET,  # that active expiry has looked at
    HASH_SEED,  # the store's
    EXPIRE_DB,  # the database that active expiry stands in
    EXPIRE_BUCKET,  # and its next bucket there
    # limits and modes
    WRITES_REFUSED,  # MISCONF: the last snapshot failed and stop-writes-on-bgsave-error is set
    SAVE_POINTS_ADDRESS,  # (seconds, changes) pairs
    SAVE_POINTS,
    LAST_SAVE_MS,  # the end of the last good snapshot, by the wall clock,
    SAVED_MS,  # and by the monotonic one
    LAST_SAVE_TRY_MS,  # by the monotonic clock
    LAST_SAVE_OK,
    SAVE_WANTED,  # a BGSAVE asked for inside a transaction, or scheduled
    TICKET_ADDRESS,  # of the snapshotter's ticket; see snapshot/begin.py
    DIRTY_AT_FORK,  # DIRTY when the snapshot under way was begun
    # defragmentation: see store/defrag.py
    DEFRAG_STATE,
    DEFRAG_AT,  # the next slab page to be looked at; then the table or the agenda that the walk stands in
    DEFRAG_CURSOR,  # of its scan
    DEFRAG_ENTRY,  # an entry of that bucket, or that agenda, that the walk goes on with, 0 for none
    DEFRAG_POSITION,  # in its value
    DEFRAG_GROUP,  # of a stream: 0 its nodes, 1 its groups, else the rank of a group plus 2
    DEFRAG_KEY_MOVED,  # whether a part of that key has been moved
    DEFRAG_PAGES,  # slab pages when the cycle began
    DEFRAG_REST_MS,  # until when no cycle begins, by the monotonic clock
    # client-side caching: see effects/tracking.py
    INVALIDATION_ADDRESS,  # the message that is being told
    BROADCAST_ADDRESS,  # keys that changed in this turn, for connections that track prefixes
    BROADCAST_DUE,  # whether there are any
    # a COPY in steps: see store/copying.py
    COPY_OWNER,  # slot of its connection plus one, 0 when none is under way
    COPY_STALE,  # not 0: its store was emptied, or databases changed places, so it has to begin again
    COPY_BEGINS,  # how often it was begun
    COPY_NUMBER,  # in the record that it builds; each gets another one
    COPY_ROOT,  # the frozen root that it reads, -1 for none
    COPY_READER_ADDRESS,  # of the record of the space that reads it
    COPY_FORM,  # flags of the value's entry
    COPY_DEADLINE,  # of the value's entry, -1 for none
    COPY_WAITS_MS,  # since when it waits for fresh memory: see store/fresh.py; else 0
    COPY_STATE,  # COPYING_WORDS words: see structures/copying.py
    # a BITOP in steps, which has COPY's place: see commands/bitmaps/turns.py
    COMBINED_ROOT_PLUS_1,  # of the sapling that has its result; 0 when none is under way
    COMBINING_ADDRESS,  # of the record of the work
    # a store among others: see branches/named.py
    CONTEXT_ADDRESS,  # of its context's record
    NAMED_ADDRESS,  # of what is known of it by its name; 0 while it has none
    ACCOUNT,  # that the frames which its connections take are charged to: see mmcore/charges.py
    TRACKERS,  # connections of its that track keys
    FRAMES_MAX,  # the most that it may have of them; 0 for the main store, which has no such limit
    FIELDS_WAIT,  # whether fields of hashes are due: see store/expiring.py
    LEFT_NAME,  # the place in an agenda that the search for names that were left stands at: see store/leftnames.py
    LINE,  # address of the line of its contents, which records the keys that change; 0 for none: effects/changes.py
    GROUP_READERS,  # connections of its that wait to read in a group of a stream: see effects/waiting.py
) = range(74)
STORE_REGISTERS = 74

# Its tables of interests.
INTEREST_TABLES = (WATCHED_KEYS, WAITED_KEYS, CHANNELS, PATTERNS, SHARD_CHANNELS, TRACKED_KEYS, PREFIXES)
assert STORE_REGISTERS >= 74
