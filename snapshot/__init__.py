"""Snapshots: write an address space to durable files, read it back, and decide when to take a snapshot.

    image        the file format, and a reader that checks everything but the pages
    reader       several threads that read and verify all pages of an image
    directory    the images of a directory: find the newest good one, keep, clean up, lock
    preload      reads the newest image into memory while the rest of the program still starts
    describe     the contents of an image as text and as JSON
    restore      loads an image into an address space
    frozen       reads the pages of a frozen root in another thread
    gatherer     the thread that copies these pages for the writer in idle time
    writer       the background thread that writes these pages as an image
    snapshotter  fork, write, release: the states of a snapshot, and its statistics
    schedule     save points: when a snapshot is due
    files        all file operations of this package, in one replaceable object
    errors       a class for every kind of failure

The package depends on `mmcore` and does not interpret the contents of the pages.  The owner of the pages passes its own
data along as metadata.
"""
