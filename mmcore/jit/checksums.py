"""The digest that names kept machine code and that detects incomplete files.

It is XXH3 with 128 bits.  It guards against accidents, not attackers: an attacker who can write these files can write
the sources, too.
"""

import xxhash

DIGEST_SIZE = 16  # [bytes]


def digest_of(*parts: str | bytes) -> str:
    """The hexadecimal digest of these parts in this order."""
    digest = xxhash.xxh3_128()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
