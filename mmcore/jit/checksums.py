"""The digest that names what is kept of machine code and tells whether a file is whole.

XXH3 of 128 bits: it meets accidents, not attackers, as whoever can write these files can write the sources too.
"""

import xxhash

DIGEST_SIZE = 16  # [bytes]


def digest_of(*parts: str | bytes) -> str:
    """Hexadecimal digest of these parts in this order."""
    digest = xxhash.xxh3_128()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
