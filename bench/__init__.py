"""Questions about the machine, the store and its snapshots, one a file, and what answers them."""
