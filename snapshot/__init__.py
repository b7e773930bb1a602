"""An address space to durable files and back, and when to take one.

    image       the file format, and reading one with every check
    directory   the images of a directory: their names, the newest that verifies, pruning, leftovers
    restore     an image back into an address space, its pages read while the rest of the program still starts
    writer      the background thread that writes a frozen root as an image
    snapshotter fork, write, release: the states of a snapshot, and its figures
    schedule    save points: when one is due
    files       every file operation the above make, in one replaceable object
    errors      everything that can go wrong, by name

Knows `mmcore` and nothing of what the pages hold: the owner passes its own words along as `metadata`.
"""
