"""Strategies of damaged files and odd texts."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
ODD = (
    *(
        "",
        " ",
        "0",
        "-1",
        "1e999",
        "nan",
        "inf",
        "-inf",
        "1_0",
        "٣",
        "²",
        "0x10",
        "1e-400",
        "9" * 400,
        "1.5",
        "+5",
        "١٢",
    ),
    *(
        "true",
        "None",
        "null",
        "[]",
        "{}",
        "[[]]",
        "()",
        "=",
        "==",
        "a=b",
        "/",
        "..",
        "../..",
        "~",
        "\\",
        "C:\\x",
        "C:/x",
    ),
    *(
        "[bold]",
        "[/]",
        "[/bold]",
        "$x$",
        "%s",
        "{0}",
        "{",
        "\x1b[2J",
        "\x00",
        "\n",
        "\r\n",
        "\t",
        "\ufeff",
        "\udcff",
        "é",
        "人",
        "🚶",
    ),
    *(
        "dmic",
        "regdb",
        "sysu",
        "synthetic",
        "imagenet",
        "none",
        "auto",
        "cpu",
        "1-3",
        "3-1",
        "1,2",
        "1-999999999",
    ),
)
"""Texts that readers of numbers, paths, markup and formats trip over."""

odd_text = st.one_of(st.sampled_from(ODD), st.text(max_size=12), st.integers().map(str), st.floats().map(str))


def edits(raw: bytes, others: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return strategies of a file with one to four edits: bytes, numbers and stretches set, cut, doubled, exchanged."""
    place = st.integers(0, max(len(raw) - 1, 0))
    one = st.one_of(
        st.tuples(st.just("byte"), place, st.integers(0, 255)),
        st.tuples(st.just("bit"), place, st.integers(0, 7)),
        st.tuples(st.just("number"), place, st.sampled_from(NUMBERS)),
        st.tuples(st.just("cut"), place, st.integers(1, 64)),
        st.tuples(st.just("end"), place, st.just(0)),
        st.tuples(st.just("twice"), place, st.integers(1, 64)),
        st.tuples(st.just("text"), place, st.sampled_from(ODD)),
        st.tuples(st.just("other"), place, st.integers(0, max(len(others) - 1, 0))),
    )
    return st.lists(one, min_size=1, max_size=4).map(lambda chosen: edited(raw, chosen, others))


def edited(raw: bytes, chosen: Sequence[tuple[str, int, int | str]], others: Sequence[bytes]) -> bytes:
    """Return a file after some edits."""
    data = bytearray(raw)
    for what, place, value in chosen:
        if what == "text":
            data[place:place] = str(value).encode(
                "utf-8", "surrogateescape" if value == "\udcff" else "strict"
            )
            continue
        assert isinstance(value, int)
        if what == "byte":
            data[place : place + 1] = bytes([value])
        elif what == "bit" and place < len(data):
            data[place] ^= 1 << value
        elif what == "number":
            width = 1 if value < 256 else 4 if value < 2**32 else 8
            data[place : place + width] = value.to_bytes(width, "little")
        elif what == "cut":
            del data[place : place + value]
        elif what == "end":
            del data[place:]
        elif what == "twice":
            data[place:place] = data[place : place + value]
        elif what == "other" and others:
            data[place:] = others[value][place:]
    return bytes(data)


def damaged(files: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return strategies of any bytes, and of damaged copies of some files."""
    return st.one_of(*(edits(raw, files) for raw in files), st.binary(max_size=200))
