"""Makes the generated part of mrc.h's >>impl.tables: what the tokenizer knows about characters.

The tables are measured, character by character, from the implementation they must equal: the
`tokenizers` package (Rust), whose parts follow different versions of Unicode (punctuation and marks
8, combining classes 9, decompositions 14 without U+11938, lower case 17).

    pip install tokenizers==0.23.3
    python tests/tables/make_tables.py            prints the tables
    python tests/tables/make_tables.py --write    puts them into mrc.h
    python tests/tables/make_tables.py --check    exit 1 if mrc.h holds others

Needs Python 3.11 (its unicodedata is Unicode 14, from which candidates for combining classes are
taken; each is then measured).
"""
import os
import struct
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

HEADER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "mrc.h")
BEGIN = "// begin of what tests/tables/make_tables.py wrote\n"
END = "// end of what tests/tables/make_tables.py wrote\n"
FORMS_BEGIN = "// begin of the forms that tests/tables/make_tables.py wrote\n"
FORMS_END = "// end of the forms that tests/tables/make_tables.py wrote\n"
POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
HANGUL = range(0xAC00, 0xD7A4)


def bert(**on):
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**off, **on}).normalize_str


def measure_classes():
    """Code point -> set of DROP, SPACE, PUNCT, CJK, MARK."""
    clean, cjk, strip = bert(clean_text=True), bert(handle_chinese_chars=True), bert(strip_accents=True)
    split, nfd = pre_tokenizers.BertPreTokenizer().pre_tokenize_str, normalizers.NFD().normalize_str
    classes = {}
    for c in POINTS:
        text, found = f"a{chr(c)}b", set()
        words = [w for w, _ in split(text)]
        if words == ["a", "b"]:
            found.add("SPACE")
        elif words == ["a", chr(c), "b"]:
            found.add("PUNCT")
        else:
            assert words == [text], hex(c)
        cleaned = clean(text)
        if cleaned == "ab":
            found.add("DROP")
        else:
            assert cleaned == ("a b" if "SPACE" in found else text), hex(c)
        spaced = cjk(text)
        if spaced == f"a {chr(c)} b":
            found.add("CJK")
        else:
            assert spaced == text, hex(c)
        if nfd(chr(c)) == chr(c) and strip(text) == "ab":
            found.add("MARK")
        if found:
            classes[c] = "|".join(k for k in ("DROP", "SPACE", "PUNCT", "CJK", "MARK") if k in found)
    return classes


def measure_decompositions():
    nfd = normalizers.NFD().normalize_str
    full = {c: [ord(x) for x in nfd(chr(c))] for c in POINTS}
    for c in HANGUL:                # by arithmetic in C
        lv, t = divmod(c - 0xAC00, 28)
        jamo = [0x1100 + lv // 21, 0x1161 + lv % 21] + ([0x11A7 + t] if t else [])
        assert full.pop(c) == jamo
    return {c: d for c, d in full.items() if d != [c]}


def measure_combining(decompositions):
    """Code point -> canonical combining class, as NFD sorts by it."""
    nfd = normalizers.NFD().normalize_str
    candidates = [c for c in POINTS if c not in decompositions and c not in HANGUL]
    # Two characters of known classes around every other: U+0334 has 1, U+0345 240.
    low, high = "\u0334", "\u0345"
    classes = {}
    for c in candidates:
        x = chr(c)
        if nfd("a" + high + x) == "a" + x + high or nfd("a" + x + low) == "a" + low + x \
                or unicodedata.combining(x) in (1, 240):
            classes[c] = unicodedata.combining(x)
            assert classes[c], hex(c)
    first = {}                      # one character of each class
    for c, k in classes.items():
        first.setdefault(k, chr(c))
    for c, k in classes.items():    # the order against every class is what the number says
        for other, y in first.items():
            x = chr(c)
            assert nfd("a" + y + x) == "a" + (x + y if k < other else y + x), (hex(c), other)
            assert nfd("a" + x + y) == "a" + (y + x if k > other else x + y), (hex(c), other)
    return classes


def measure_lower():
    lower = normalizers.Lowercase().normalize_str
    table = {}
    for c in POINTS:
        to = [ord(x) for x in lower(chr(c))]
        if to != [c]:
            assert len(to) == 1 or (c, to) == (0x130, [0x69, 0x307]), hex(c)   # as the C code says
            table[c] = to[0]
    return table


def measure_patterns(patterns):
    """Code point -> the name of the one pattern that matches it, of (name, regular expression)."""
    classes = {}
    for name, pattern in patterns:
        marked = normalizers.Replace(Regex(pattern), "\0").normalize_str
        for at in range(0, len(POINTS), 4096):
            part = POINTS[at:at + 4096]
            text = marked("".join(map(chr, part)))
            assert len(text) == len(part)
            for c, now in zip(part, text):
                if now == "\0" and c:
                    assert c not in classes, hex(c)
                    classes[c] = name
    return classes


def charsmap(keys):
    """A precompiled charsmap (Darts double array, then texts) with these keys and values."""
    units, texts, free, values = [0] * 256, b"", 256, {}
    for key, value in keys.items():
        values[key.encode()] = len(texts)
        texts += value.encode() + b"\0"

    def place(at, prefix):          # at: the unit of the prefix
        nonlocal free
        base, free = free, free + 256
        units.extend([0] * 256)
        units[at] |= (at ^ base if at else base) << 10
        if prefix in values:
            units[at] |= 1 << 8
            units[base] = 1 << 31 | values[prefix]
        for b in sorted({k[len(prefix)] for k in values if k.startswith(prefix) and k != prefix}):
            units[base ^ b] |= b
            place(base ^ b, prefix + bytes([b]))

    place(0, b"")
    data = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(data)) + data + texts


def measure_clusters():
    """Code point -> EXTEND, PREPEND, BREAK: how Precompiled takes clusters together."""
    joined, classes = normalizers.Precompiled(charsmap({"A": "B"})).normalize_str, {}
    for c in POINTS:
        if joined("A" + chr(c)) == "B" and chr(c) != "A":
            classes[c] = "EXTEND"
    for c in POINTS:
        if c < 0x300 and c > 0x20 or 0xAC00 <= c < 0xD7A4 or 0x3400 <= c < 0xA000 or c == 0:
            continue
        if unicodedata.category(chr(c)) in ("Co",) or 0x17000 <= c < 0x18D00 or 0x20000 <= c < 0xE0000:
            continue
        one = normalizers.Precompiled(charsmap({chr(c): "B"})).normalize_str
        if one(chr(c) + "A") == "B":
            classes[c] = "PREPEND"
        elif c not in classes and len(chr(c).encode()) < 4 and one(chr(c) + "\u0301") != "B":
            classes[c] = "BREAK"
    for c in range(0x20):
        classes[c] = "BREAK"
    for c in [*range(0x7F, 0xA0), 0xAD]:
        classes[c] = "BREAK"
    return classes


def measure_categories():
    """Code point -> set of ACCENT (what StripAccents drops), DIGIT, WORD (regex \\w)."""
    strip = normalizers.StripAccents().normalize_str
    digits = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str
    word = pre_tokenizers.Whitespace().pre_tokenize_str
    classes = {}
    for c in POINTS:
        text = f"a{chr(c)}b"
        found = [k for k, on in (("ACCENT", strip(text) == "ab"), ("DIGIT", len(digits(text)) == 3),
                                 ("WORD", len(word(text)) == 1)) if on]
        if found:
            classes[c] = found
    return classes


def measure_compatible():
    """Code point -> its NFKD, where that is not its NFD; code points that NFC takes apart."""
    nfd, nfkd, nfc = (f().normalize_str for f in (normalizers.NFD, normalizers.NFKD,
                                                  normalizers.NFC))
    full = {c: [ord(x) for x in nfkd(chr(c))] for c in POINTS if nfkd(chr(c)) != nfd(chr(c))}
    return full, {c: 1 for c in POINTS if nfc(chr(c)) != chr(c)}


def ranges(table):
    """Consecutive code points of equal value: (first, last, value)."""
    out = []
    for c, value in sorted(table.items()):
        if out and out[-1][1] == c - 1 and out[-1][2] == value:
            out[-1][1] = c
        else:
            out.append([c, c, value])
    return out


def stepped(table):
    """Runs of code points 1 or 2 apart that move by the same distance: (first, last, step, delta)."""
    out = []
    for c, to in sorted(table.items()):
        if out:
            first, last, step, delta = out[-1]
            gap = c - last
            if delta == to - c and (gap == step or (first == last and gap <= 2)):
                out[-1] = [first, c, gap, delta]
                continue
        out.append([c, c, 1, to - c])
    return out


def lines(items, indent="    "):
    """Items joined into lines of at most 100 columns."""
    out, line = [], indent
    for item in items:
        if len(line) + len(item) + 1 > 100:
            out.append(line.rstrip())
            line = indent
        line += item + " "
    out.append(line.rstrip())
    return "\n".join(out)


def array(kind, name, items):
    return f"static const {kind} {name}[] = {{\n{lines(items)}\n}};\n"


# The values that mrc.h has for them, 1 and on; 0: none of these.
CATEGORIES = ("Lu", "Ll", "Lt", "Lm", "Lo", "M", "Nd", "Nl", "No", "P", "S")


def category_runs():
    """What regular expressions call \\p{..}, + 16 for \\w: all code points in order, in runs of
    32 length + value."""
    word = measure_patterns([(16, r"\w")])
    found = measure_patterns((i + 1, rf"\p{{{name}}}") for i, name in enumerate(CATEGORIES))
    values = [found.get(c, 0) + word.get(c, 0) for c in range(0x110000)]
    runs, at = [], 0
    while at < 0x110000:
        n = 1
        while n < 2047 and at + n < 0x110000 and values[at + n] == values[at]:
            n += 1
        runs.append(32 * n + values[at])
        at += n
    return runs


def generate():
    classes = measure_classes()
    decompositions = measure_decompositions()
    combining = measure_combining(decompositions)
    lower = measure_lower()
    bits = {k: i for i, k in enumerate(("DROP", "SPACE", "PUNCT", "CJK", "MARK"))}
    flags = {c: sum(1 << bits[k] for k in v.split("|")) for c, v in classes.items()}
    gpt2 = measure_patterns((("SPACE", r"\s"), ("LETTER", r"\p{L}"), ("NUMBER", r"\p{N}")))
    spaces = [{c for c, v in x.items() if "SPACE" in v} for x in (classes, gpt2)]
    assert spaces[0] == spaces[1]   # Rust's White_Space and the pattern's
    gpt2_bits = {"SPACE": 2, "LETTER": 4, "NUMBER": 8}
    gpt2 = {c: gpt2_bits[v] for c, v in gpt2.items()}
    runs, parts = [], []            # decompositions of equal length, of consecutive code points
    for c, d in sorted(decompositions.items()):
        if runs and runs[-1][0] + runs[-1][1] == c and runs[-1][2] == len(d):
            runs[-1][1] += 1
        else:
            runs.append([c, 1, len(d), len(parts)])
        parts += d
    out = BEGIN
    out += f"// Measured from tokenizers {tokenizers.__version__}.\n"
    out += array("mrc__uni_range", "mrc__uni_classes",
                 [f"{{0x{a:X},0x{b:X},{v}}}," for a, b, v in ranges(flags)])
    out += array("mrc__uni_range", "mrc__uni_combining",
                 [f"{{0x{a:X},0x{b:X},{v}}}," for a, b, v in ranges(combining)])
    out += array("mrc__uni_lower", "mrc__uni_lowers",
                 [f"{{0x{a:X},0x{b:X},{s},{d}}}," for a, b, s, d in stepped(lower)])
    out += array("mrc__uni_run", "mrc__uni_runs",
                 [f"{{0x{c:X},{n},{k},{at}}}," for c, n, k, at in runs])
    out += array("uint32_t", "mrc__uni_parts", [f"0x{c:X}," for c in parts])
    out += array("mrc__uni_range", "mrc__uni_gpt2",
                 [f"{{0x{a:X},0x{b:X},{v}}}," for a, b, v in ranges(gpt2)])
    out += array("uint16_t", "mrc__uni_categories", [f"{x}," for x in category_runs()])
    return out + END


def generate_forms():
    bits = {"ACCENT": 1, "DIGIT": 2, "WORD": 4, "EXTEND": 8, "PREPEND": 16, "BREAK": 32}
    flags = {c: sum(bits[k] for k in v) for c, v in measure_categories().items()}
    for c, v in measure_clusters().items():
        flags[c] = flags.get(c, 0) | bits[v]
    full, apart = measure_compatible()
    moved = [x for x in stepped({c: d[0] for c, d in full.items() if len(d) == 1})
             if x[1] - x[0] >= 5 * x[2]]
    single = {c for a, b, step, _ in moved for c in range(a, b + 1, step)}
    runs, parts, known = [], [], {}
    for c, d in sorted(full.items()):
        if c in single:
            continue
        at = known.get(tuple(d))
        if at is None:
            at = known[tuple(d)] = len(parts)
            parts += d
        if runs and runs[-1][0] + runs[-1][1] == c and runs[-1][2] == len(d) \
                and runs[-1][3] + runs[-1][1] * len(d) == at:
            runs[-1][1] += 1
        else:
            runs.append([c, 1, len(d), at])
    out = FORMS_BEGIN
    out += f"// Measured from tokenizers {tokenizers.__version__}.\n"
    out += array("mrc__uni_range", "mrc__uni_kinds",
                 [f"{{0x{a:X},0x{b:X},{v}}}," for a, b, v in ranges(flags)])
    out += array("mrc__uni_lower", "mrc__uni_compatible",
                 [f"{{0x{a:X},0x{b:X},{s},{d}}}," for a, b, s, d in moved])
    out += array("mrc__uni_run", "mrc__uni_compatible_runs",
                 [f"{{0x{c:X},{n},{k},{at}}}," for c, n, k, at in runs])
    out += array("uint16_t", "mrc__uni_compatible_parts", [f"0x{c:X}," for c in parts])
    out += array("mrc__uni_range", "mrc__uni_apart",
                 [f"{{0x{a:X},0x{b:X},1}}," for a, b, _ in ranges(apart)])
    return out + FORMS_END


def main():
    assert unicodedata.unidata_version == "14.0.0", "Python 3.11 is needed"
    blocks = ((BEGIN, END, generate()), (FORMS_BEGIN, FORMS_END, generate_forms()))
    if not sys.argv[1:]:
        sys.stdout.write("".join(text for _, _, text in blocks))
        return 0
    with open(HEADER, encoding="utf-8") as f:
        header = f.read()
    now = header
    for begin, end, text in blocks:
        now = now[:now.index(begin)] + text + now[now.index(end) + len(end):]
    if sys.argv[1:] == ["--check"]:
        print("the tables in mrc.h are these" if now == header else "the tables in mrc.h are others")
        return now != header
    assert sys.argv[1:] == ["--write"], "usage: make_tables.py [--write | --check]"
    with open(HEADER, "w", encoding="utf-8") as f:
        f.write(now)
    return 0


if __name__ == "__main__":
    sys.exit(main())
