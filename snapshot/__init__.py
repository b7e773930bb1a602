"""An address space to durable files and back, and when to take one.

    image        the file format, and reading one with every check
    reader       all pages of an image, verified, by several threads
    directory    the images of a directory: the newest that verifies, which are kept, leftovers, whose they are
    preload      the newest image read into memory while the rest of the program still starts
    describe     an image told to people, and as JSON
    restore      an image back into an address space
    frozen       the pages of a frozen root, for another thread
    writer       the background thread that writes them as an image
    snapshotter  fork, write, release: the states of a snapshot, and its figures
    schedule     save points: when one is due
    files        every file operation the above make, in one replaceable object
    errors       everything that can go wrong, by name

Knows `mmcore` and nothing of what the pages hold: the owner passes its own words along as metadata.
"""
