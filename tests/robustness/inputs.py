"""Files and arguments of any content, drawn by hypothesis: whole ones of ours, damaged in a few places or rebuilt.

A strategy draws bytes from a few whole files and damages them as disks, editors and other people's tools do: bits
turned, lengths overwritten, parts cut out, doubled or exchanged, texts with characters that readers forget.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

ODD_WORDS = (
    *(
        b"",
        b" ",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\t",
        b",",
        b'"',
        b"'",
        b"\\",
    ),
    *(
        b"-1",
        b"0",
        b"1e999",
        b"nan",
        b"-inf",
        b"9" * 25,
        b"9" * 5000,
        b"0x10",
        b"1_000",
        b"true",
        b"null",
        b"{}",
        b"[]",
    ),
    *(
        "²".encode(),
        "٣".encode(),
        "\u2028".encode(),
        "\u202e".encode(),
        b"\x1b[31m",
        b"[/b]",
        b"$x$",
        b"../..",
        b"/etc",
    ),
    *(b"\xba\xb9\xbb\xe7", b"%s%n", b"=1+1", b"<script>", b"[" * 3000, b'{"a":' * 2000),
)
"""What is put into texts."""
NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
"""What is put in the place of lengths and counts."""

place = st.floats(0, 1, exclude_max=True, width=32)
turned = st.tuples(st.just("bit"), place, st.integers(0, 7))
overwritten = st.tuples(st.just("number"), place, st.sampled_from(NUMBERS), st.sampled_from("BHIQ<>"))
word = st.tuples(st.just("word"), place, st.sampled_from(ODD_WORDS), st.booleans())
cut = st.tuples(st.just("cut"), place, st.integers(1, 64))
ended = st.tuples(st.just("end"), place)
doubled = st.tuples(st.just("double"), place, st.integers(1, 64))
line = st.tuples(st.just("line"), place, place)
binary_edits = st.lists(turned | overwritten | cut | doubled | ended, min_size=1, max_size=4)
text_edits = st.lists(word | line | cut | doubled | turned | ended, min_size=1, max_size=4)


def edited(raw: bytes, edits: Sequence[tuple[Any, ...]]) -> bytes:
    """Return bytes with some edits made."""
    data = bytearray(raw)
    for kind, where, *more in edits:
        at = int(where * len(data))
        if kind == "bit" and data:
            data[at] ^= 1 << more[0]
        elif kind == "number":
            size = {"B": 1, "H": 2, "I": 4, "Q": 8}.get(more[1], 4)
            order = ">" if more[1] == ">" else "<"
            code = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
            data[at : at + size] = struct.pack(order + code, more[0] % 256**size)
        elif kind == "word":
            data[at : at + (len(more[0]) if more[1] else 0)] = more[0]
        elif kind == "cut":
            del data[at : at + more[0]]
        elif kind == "end":
            del data[at:]
        elif kind == "double":
            data[at:at] = data[at : at + more[0]]
        elif kind == "line":
            lines = bytes(data).split(b"\n")
            a, b = int(where * len(lines)), int(more[0] * len(lines))
            lines[a], lines[b] = lines[b], lines[a]
            data = bytearray(b"\n".join(lines))
    return bytes(data)


def damaged(files: Sequence[bytes], text: bool = False) -> st.SearchStrategy[bytes]:
    """Return a strategy of damaged files; now and then of bytes that are nothing at all."""
    edits = text_edits if text else binary_edits | text_edits
    ours = st.builds(edited, st.sampled_from(list(files)), edits)
    return st.one_of(ours, ours, ours, st.binary(max_size=200))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["NaN", "1e999", "\x1b[2J", "[/b]", "$\\foo$", "../x", "9" * 400, "²"]),
)
nested = st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=6), scalars, max_size=3)
values = st.one_of(scalars, scalars, nested, st.lists(nested, max_size=2))


def replaced(document: Any, keys: Sequence[int], value: Any) -> bytes:
    """Return a JSON document in which one place, found by going down some keys, has another value."""
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in keys[:-1]:
        names = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        if not names or not isinstance(inner[names[key % len(names)]], dict | list):
            break
        inner = inner[names[key % len(names)]]
    names = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
    if names:
        inner[names[keys[-1] % len(names)]] = value
    return json.dumps(copy).encode("utf-8", "surrogatepass")


def documents(whole: Any) -> st.SearchStrategy[bytes]:
    """Return a strategy of JSON documents like a whole one."""
    keys = st.lists(st.integers(0, 30), min_size=1, max_size=4)
    like = st.builds(replaced, st.just(whole), keys, values)
    anything = values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    return st.one_of(like, like, damaged([json.dumps(whole, indent=1).encode()], text=True), anything)


headers = st.builds(
    lambda descr, order, shape, more: (
        f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {more}}}".encode()
    ),
    st.sampled_from(
        ["'<f8'", "'<i8'", "'|O'", "'<U999999999'", "'>f4'", "[('a', '<f8')]", "'<m8[ns]'", "3", "'|V0'"]
    ),
    st.sampled_from(["False", "True", "None", "0"]),
    st.sampled_from(
        ["()", "(8,)", "(2, 4)", "(2**60,)", "(3.5,)", "(-1,)", "(True,)", "((((", "(0, 10**30)", "8"]
    ),
    st.sampled_from(["", "'x': 1", "\\0", "}" * 3]),
)


def npy(header: bytes, body: bytes, version: int) -> bytes:
    """Return a ``.npy`` file of a header as it is."""
    length = struct.pack("<H", len(header)) if version == 1 else struct.pack("<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + body


def archive(members: dict[str, bytes], method: int) -> bytes:
    """Return a ZIP archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def archives(names: Sequence[str]) -> st.SearchStrategy[bytes]:
    """Return a strategy of ``.npz`` files whose arrays have headers of all kinds."""
    array = st.builds(npy, headers, st.binary(max_size=64), st.sampled_from([1, 2, 3, 9]))
    members = st.dictionaries(
        st.sampled_from([f"{name}.npy" for name in names]), array, min_size=1, max_size=3
    )
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    return st.builds(archive, members, st.sampled_from(methods))


def saved(**arrays: Any) -> bytes:
    """Return an ``.npz`` file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


words = st.one_of(
    st.sampled_from([one.decode("utf-8", "surrogateescape") for one in ODD_WORDS if b"\0" not in one]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    st.integers(-(2**70), 2**70).map(str),
)
