"""Fields of protocol buffers, as SentencePiece models are, without a package for them.

for number, whole, content in fields(data): ...
"""

from collections.abc import Iterator

__all__ = ["field_values", "fields", "read_varint", "varint"]


def fields(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, whole bytes and content of each field of a message. ValueError if the message ends too early."""
    at = 0
    while at < len(data):
        start = at
        key, at = read_varint(data, at)
        kind = key & 7
        if kind == 0:
            _, end = read_varint(data, at)
        elif kind == 2:
            size, at = read_varint(data, at)
            end = at + size
        elif kind in (1, 5):
            end = at + (8 if kind == 1 else 4)
        else:
            raise ValueError(f"field {key >> 3} at byte {start:,} is of no known kind")
        if end > len(data):
            raise ValueError(f"field {key >> 3} at byte {start:,} is longer than what is left")
        yield key >> 3, data[start:end], data[at:end]
        at = end


def field_values(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: whole numbers as such, all else as bytes. ValueError as `fields`."""
    for number, whole, content in fields(data):
        is_number = read_varint(whole, 0)[0] & 7 == 0
        yield number, read_varint(content, 0)[0] if is_number else content


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A whole number at a place, and where it ends. ValueError if it is cut off."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("a number at the end of the message is cut off")


def varint(value: int) -> bytes:
    """A whole number as protocol buffers write it."""
    result = bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    return bytes([*result, value])
