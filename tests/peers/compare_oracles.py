#!/usr/bin/env python3
"""Holds what a fuzz target reads against a plain reader of the same format: verdicts and values.

    build/fuzz/fuzz_torch --emit 100000 --seed 1 FILE.. | python3 tests/peers/compare_oracles.py pt_ref DIR

reads mutated files, each with the target's verdict and a digest of its values, from standard input, and
prints how many there were and how many disagree; exit code 1 if any does.  The oracles: st_ref and pt_ref
(ORACLE.verdict and ORACLE.load of DIR), arrow_stream (ORACLE.read; values only, as it checks nothing), and
json (Python's own).  Files on which the two readers differ on purpose are counted apart, by reason."""
import importlib
import json
import math
import os
import struct
import sys
import zlib

BYTES = {"F32": 4, "F64": 8, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def tensor_crc(name, dtype, shape, data):
    """As fuzz_tensor_crc() in tests/support/fuzz.h."""
    text = b"%s|%s|%s|" % (name.encode(), dtype.encode(), b",".join(b"%d" % n for n in shape))
    return zlib.crc32(text + (data if len(data) <= 4096 else b""))


def st_values(oracle, data):
    tensors, _ = oracle.load(data)
    return sum(tensor_crc(k, *v) for k, v in tensors.items()), len(tensors)


def pt_values(oracle, data):
    tensors, storages = oracle.load(data)
    total = 0
    for name, t in tensors.items():
        each = BYTES[t.sto.dt] if t.sto.dt in BYTES else oracle.ST[t.sto.dt][1]
        dtype = t.sto.dt if t.sto.dt in BYTES else oracle.ST[t.sto.dt][0]
        n = math.prod(t.size)
        out = b""
        if n * each <= 4096:
            raw = storages[t.sto.key]
            for i in range(n):
                at, left = t.off, i
                for size, stride in zip(reversed(t.size), reversed(t.stride)):
                    at += left % size * stride
                    left //= size
                out += raw[at * each:(at + 1) * each]
        else:
            out = b"x" * 4097
        total += tensor_crc(name, dtype, t.size, out)
    return total, len(tensors)


def row_crc(row):
    """As fuzz_example_crc() in fuzz_dataset.c; None: the reader leaves the row out."""
    ident = row.get("id") if row.get("id") is not None else row.get("guid")
    context, question, answers = row.get("context"), row.get("question"), row.get("answers")
    if isinstance(ident, int):
        ident = str(ident)
    if not isinstance(ident, str) or not ident or "\0" in ident:
        return None
    if not isinstance(context, str) or not context.strip() or not isinstance(question, str) or not question.strip():
        return None
    if isinstance(answers, list):
        if any(not isinstance(a, dict) for a in answers):
            return None
        pairs = [(a.get("text"), a.get("answer_start")) for a in answers]
    elif isinstance(answers, dict):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if isinstance(texts, str):
            raise NotImplementedError
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            return None
        pairs = list(zip(texts, starts))
    else:
        pairs = []
    said = row.get("is_impossible")
    if not pairs and not (said is True or (said is None and answers is not None)):
        return None
    text = "%s|%s|%s|" % (ident, question, context)
    for answer, start in pairs:
        if not isinstance(answer, str) or not isinstance(start, int) or not answer or not 0 <= start < len(context):
            return None
        if context[start:start + len(answer)] != answer:
            return None
        text += "%d:%s|" % (start, answer)
    return zlib.crc32(text.encode())


def arrow_values(oracle, data):
    path = "/dev/shm/compare_oracles.%d" % os.getpid()
    with open(path, "wb") as f:
        f.write(data)
    try:
        rows = oracle.read(path)[2]
    finally:
        os.remove(path)
    crcs = [row_crc(row) for row in rows]
    return sum(c for c in crcs if c is not None), 0


class Pairs(list):
    pass


def json_bytes(v):
    if v is None or v is True or v is False:
        return {None: b"n", True: b"t", False: b"f"}[v]
    if isinstance(v, float):
        return b"d%x" % struct.unpack("<Q", struct.pack("<d", v))
    if isinstance(v, str):
        return b"s%d:" % len(v.encode()) + v.encode()
    if isinstance(v, Pairs):
        return b"{" + b"".join(b"k%d:" % len(k.encode()) + k.encode() + json_bytes(x) for k, x in v) + b"]"
    return b"[" + b"".join(json_bytes(x) for x in v) + b"]"


class JSON:
    """Python's json, made strict where it is not."""

    @staticmethod
    def load(data):
        def number(text):
            x = float(text)
            if math.isinf(x):
                raise ValueError("out of range")
            return x

        def constant(text):
            raise ValueError(text)
        data = data[3:] if data[:3] == b"\xef\xbb\xbf" else data
        return json.loads(data.decode("utf-8"), parse_float=number, parse_int=number, parse_constant=constant,
                          object_pairs_hook=Pairs)

    @staticmethod
    def verdict(data):
        try:
            json_bytes(JSON.load(data))
        except (ValueError, RecursionError) as error:
            return "bad", str(error)
        return "ok", ""


def json_values(oracle, data):
    return zlib.crc32(json_bytes(oracle.load(data))), 0


VALUES = {"st_ref": st_values, "pt_ref": pt_values, "arrow_stream": arrow_values, "json": json_values}


def on_purpose(name, accepted, data):
    """Rules of ours that the oracle does not have."""
    if name == "pt_ref" and not accepted and (b"\x8a\x09" in data or b"\x8a\x0a" in data):
        return "an integer that may not fit 64 bits"
    if name == "json" and not accepted and (data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]):
        return "another encoding"
    if name == "json" and not accepted and data.count(b"[") + data.count(b"{") > 512:
        return "nested deeper than 512"
    return None


def main():
    name, folder = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "."
    sys.path.insert(0, folder)
    sys.setrecursionlimit(5000)
    oracle = JSON if name == "json" else importlib.import_module(name)
    total = wrong = compared = 0
    purpose = {}
    stdin = sys.stdin.buffer
    while True:
        head = stdin.read(12)
        if len(head) < 12:
            break
        n, accepted, digest = struct.unpack("<III", head)
        data = stdin.read(n)
        if len(data) < n:
            break
        total += 1
        try:
            verdict, reason = oracle.verdict(data) if hasattr(oracle, "verdict") else ("ok" if accepted else "bad", "")
        except RecursionError as error:
            verdict, reason = "bad", str(error)
        if (verdict == "ok") == bool(accepted):
            if not accepted:
                continue
            try:
                found, tensors = VALUES[name](oracle, data)
            except Exception as error:
                if name != "arrow_stream":
                    raise
                why = "the oracle cannot: " + type(error).__name__
                purpose[why] = purpose.get(why, 0) + 1
                continue
            if tensors > 64:                            # the target looks at the first 64
                continue
            compared += 1
            if found & 0xffffffff == digest:
                continue
            verdict = reason = "other values"
        why = on_purpose(name, accepted, data)
        if why:
            purpose[why] = purpose.get(why, 0) + 1
            continue
        wrong += 1
        if wrong <= 10:
            path = "/tmp/disagree.%s.%d" % (name, wrong)
            with open(path, "wb") as f:
                f.write(data)
            print("%s: ours %s, the oracle's %s (%s)" % (path, "ok" if accepted else "bad", verdict, reason))
    print("%d files, %d with values compared, %d disagreements, on purpose: %s"
          % (total, compared, wrong, purpose or "none"))
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
