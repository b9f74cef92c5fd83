"""Files with damage in a random place."""

import random


def randomly_damaged(data: bytes, draw: random.Random) -> bytes:
    """Bytes flipped, a piece cut out, or a piece repeated; more often than not near the beginning or the end."""
    damaged = bytearray(data)

    def place() -> int:
        near = draw.randrange(min(len(data), 2000))
        return draw.choice([near, len(data) - 1 - near, draw.randrange(len(data))])

    match draw.randrange(3):
        case 0:
            for _ in range(draw.choice([1, 3, 30])):
                damaged[place()] ^= 1 << draw.randrange(8)
        case 1:
            start = place()
            del damaged[start : start + draw.choice([1, 8, 500, 10**5])]
        case 2:
            start = place()
            damaged[start:start] = damaged[start : start + draw.choice([1, 8, 500, 10**5])]
    return bytes(damaged)
