"""Makes the character classes that mrc.h's metrics need, as Python has them.

    python tests/tables/metrics_tables.py            prints the tables
    python tests/tables/metrics_tables.py --check    exit 1 if mrc.h holds others

Needs Python 3.11 (Unicode 14).  Every code point is asked: \\w of re; and, by where str.lower()
makes a final sigma, whether it is case-ignorable, or else cased.
"""
import os
import re
import sys
import unicodedata

HEADER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "mrc.h")
POINTS = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def final(text):
    return text.lower()[-1] == "ς"


def classes():
    word = {c for c in POINTS if re.match(r"\w", c)}
    cased = {c for c in POINTS if final(c + "Σ")}
    ignorable = {c for c in POINTS if c not in cased and final("A" + c + "Σ")}
    return {"word": word, "cased": cased, "ignorable": ignorable}


def pairs(members):
    """(code points to skip, code points in the class), each below 2^16."""
    out, at = [], 0
    points = sorted(map(ord, members))
    while points:
        n = 1
        while n < len(points) and points[n] == points[0] + n:
            n += 1
        skip, at, points = points[0] - at, points[0] + n, points[n:]
        while skip > 0xFFFF:
            out.append((0xFFFF, 0))
            skip -= 0xFFFF
        while n > 0xFFFF:
            out.append((skip, 0xFFFF))
            skip, n = 0, n - 0xFFFF
        out.append((skip, n))
    return out


def tables():
    lines = []
    for name, members in classes().items():
        lines.append(f"static const uint16_t mrc__table_{name}[][2] = {{")
        line = "   "
        for skip, n in pairs(members):
            item = f" {{{skip},{n}}},"
            if len(line) + len(item) > 100:
                lines.append(line)
                line = "   "
            line += item
        lines += [line, "};"]
    return "\n".join(lines) + "\n"


def main():
    assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
    text = tables()
    if "--check" not in sys.argv:
        sys.stdout.write(text)
    elif text not in open(HEADER, encoding="utf-8").read():
        sys.exit("mrc.h holds other tables: replace them by what this program prints")


main()
