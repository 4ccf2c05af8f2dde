"""PredictRequests byte by byte: mostly as clients write them, now and then as only an enemy would.

A generator here takes a `random.Random`, or what Hypothesis gives for one.
"""

from __future__ import annotations

from random import Random

from pyserving.signature import DataType

VARINT, LENGTH_DELIMITED = 0, 2
NUMERIC = [data_type for data_type in DataType if data_type.numpy is not None and data_type is not DataType.DT_STRING]
FIELDS = {  # of TensorProto: number, bytes of an entry where entries have a fixed width
    "content": (4, 1),
    "half": (13, 0),
    "float": (5, 4),
    "double": (6, 8),
    "int": (7, 0),
    "string": (8, 0),
    "scomplex": (9, 4),
    "int64": (10, 0),
    "bool": (11, 0),
    "dcomplex": (12, 8),
    "uint32": (16, 0),
    "float8": (18, 1),
}
OWN_FIELDS = {
    DataType.DT_FLOAT: "float",
    DataType.DT_DOUBLE: "double",
    DataType.DT_COMPLEX64: "scomplex",
    DataType.DT_COMPLEX128: "dcomplex",
    DataType.DT_BOOL: "bool",
    DataType.DT_FLOAT8_E5M2: "float8",
}


def varint(value: int, overlong: int = 0) -> bytes:
    groups = bytearray()
    while value > 0x7F or overlong:
        overlong -= value <= 0x7F
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def field(number: int, payload: bytes, kind: int = LENGTH_DELIMITED, overlong: int = 0) -> bytes:
    length = varint(len(payload), overlong) if kind == LENGTH_DELIMITED else b""
    return varint(number << 3 | kind) + length + payload


def rarely(random: Random, one_in: int = 25) -> bool:
    return random.randrange(one_in) == 0


def shape(random: Random, sizes: list[int]) -> bytes:
    dims = []
    for size in sizes:
        dim = b"" if size == 0 else field(1, varint(size & 0xFFFF_FFFF_FFFF_FFFF), VARINT)
        if rarely(random):
            dim += field(2, random.choice([b"rows", b"\xff", b""]))
        dims.append(field(2, dim))
    if rarely(random):
        dims.append(field(3, varint(1), VARINT))
    return field(2, b"".join(dims))


def values(random: Random, data_type: DataType, count: int) -> list[bytes]:
    """Fields with the elements: of the right kind and number, most often."""
    if rarely(random):
        count = max(0, count + random.choice([-1, 1, 5]))
    if random.random() < 0.5:
        size = count * (data_type.numpy.itemsize if data_type.numpy is not None else 8)
        name, payload = "content", random.randbytes(size)
        if data_type is DataType.DT_BOOL and not rarely(random):
            payload = bytes(byte & 1 for byte in payload)
    else:
        name = random.choice(list(FIELDS)) if rarely(random) else OWN_FIELDS.get(data_type, "int")
        parts = 2 if data_type in (DataType.DT_COMPLEX64, DataType.DT_COMPLEX128) else 1
        width = FIELDS[name][1]
        payload = random.randbytes(count * width * parts) if width else bytes(random.randrange(2) for _ in range(count))
    number = FIELDS[name][0]
    if rarely(random):
        cut = random.randrange(len(payload) + 1)
        return [field(number, payload[:cut]), field(number, payload[cut:])]
    if rarely(random) and FIELDS[name][1] in (4, 8):
        width = FIELDS[name][1]
        kind = 5 if width == 4 else 1
        return [field(number, payload[at : at + width], kind) for at in range(0, len(payload), width)]
    return [field(number, payload, overlong=random.randrange(8) if rarely(random) else 0)]


def tensor(random: Random) -> bytes:
    data_type = random.choice(list(OWN_FIELDS) if random.random() < 0.7 else NUMERIC)
    sizes = [random.randrange(1, 5) for _ in range(random.randrange(4))]
    count = 1
    for size in sizes:
        count *= size
    if rarely(random):
        sizes = random.choice([[0], [-1], [1 << 40, 1 << 40], [1] * 33, [1] * 70, [1] * 255, sizes])
    number = random.choice([0, 7, 20, 33, 101, 1 << 33, (1 << 64) - 1]) if rarely(random) else int(data_type)
    fields = [field(1, varint(number), VARINT), shape(random, sizes), *values(random, data_type, count)]
    if rarely(random, 10):
        fields += values(random, data_type, count)
    if rarely(random, 10):
        fields.append(odd_field(random))
    if rarely(random, 10):
        random.shuffle(fields)
    return b"".join(fields)


def odd_field(random: Random) -> bytes:
    return random.choice(
        [
            field(3, varint(random.randrange(1 << 40)), VARINT),
            field(8, b"text"),
            field(7, varint(3), VARINT),
            field(100, random.randbytes(3)),
            field(0, b""),
            field(19, varint(1), VARINT),
            b"\x9b\x06\x9c\x06",  # an empty group, field 99
            b"\x9b\x06",
            b"\x2d\0\0\0\0",
            b"\x2d\x80\x01\x18\x01",  # four bytes that would also do as a varint and a field
            b"\x12\x00",
            b"\x0a\x01a",
            b"\x22\x00",
            b"\x2a\x00",
            b"\x8a\x00\x00",
            b"\x7a\x02\x0a\x00",
            b"\xa2\x00\x02ab",  # tags longer than they need be
            b"\xa2\x80\x00\x02ab",
            b"\x92\x00\x00",
            b"\x92\x80\x80\x80\x00\x00",
            b"\x88\x00\x01",
        ]
    )


def entry(random: Random) -> bytes:
    alias = random.choice([b"x", b"x", b"y", b"images", b"\xc3\xa9"])
    if rarely(random):
        alias = random.choice([b"", b"\xff", b"\xed\xa0\x80", b"\0", b"a" * 200])
    fields = [field(1, alias), field(2, tensor(random))]
    if rarely(random):
        fields += random.choice([[fields[0]], [fields[1]], [field(2, tensor(random))], [odd_field(random)]])
    if rarely(random):
        random.shuffle(fields)
    if rarely(random):
        del fields[random.randrange(len(fields))]
    return b"".join(fields)


def spec(random: Random) -> bytes:
    fields = [field(1, random.choice([b"m", b"half_plus_two", b""]))]
    if rarely(random, 3):
        fields.append(random.choice([field(2, field(1, varint(7), VARINT)), field(2, b""), field(4, b"stable")]))
    if rarely(random, 3):
        fields.append(field(3, b"serving_default"))
    if rarely(random):
        fields.append(odd_field(random))
    return b"".join(fields)


def request(random: Random) -> bytes:
    """A PredictRequest, or nearly one."""
    fields = [] if rarely(random) else [field(1, spec(random))]
    fields += [field(2, entry(random)) for _ in range(random.choice([0, 1, 1, 1, 1, 2, 3]))]
    fields += [
        field(3, random.choice([b"y", b"z", b"\xff" if rarely(random) else b"a"])) for _ in range(rarely(random, 4))
    ]
    if rarely(random, 10):
        fields.append(random.choice([field(6, b"client"), odd_field(random), field(1, spec(random))]))
    if rarely(random, 8):
        random.shuffle(fields)
    return b"".join(fields)


def mutated(random: Random, body: bytes) -> bytes:
    """The same with a few bytes changed, lost, added, doubled or moved."""
    wire = bytearray(body)
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        begin = random.randrange(len(wire) + 1)
        end = min(len(wire), begin + random.choice([1, 2, 4, 16]))
        how = random.randrange(7)
        if how == 0 and begin < len(wire):
            wire[begin] ^= 1 << random.randrange(8)
        elif how == 1:
            del wire[begin:]
        elif how == 2:
            wire[begin:begin] = random.randbytes(random.randrange(1, 4))
        elif how == 3:
            del wire[begin:end]
        elif how == 4:
            wire[begin:begin] = wire[begin:end]
        elif how == 5:
            wire[begin:end] = random.randbytes(end - begin)
        else:
            moved = wire[begin:end]
            del wire[begin:end]
            at = random.randrange(len(wire) + 1)
            wire[at:at] = moved
    return bytes(wire)
