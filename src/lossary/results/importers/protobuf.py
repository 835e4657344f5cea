"""Protocol buffers as they lie in files: fields by their numbers, without their descriptions."""

from collections.abc import Iterator

__all__ = ["fields_of", "varint"]


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of any length at a place, and the place behind it; IndexError if it has no end."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError("a varint without end")


def fields_of(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a message's fields: varints as numbers, all else as bytes; IndexError if it is damaged."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            length, at = varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise IndexError("no such wire type")
        if at + length > len(data):
            raise IndexError("a field is longer than its message")
        yield key >> 3, data[at : at + length]
        at += length
