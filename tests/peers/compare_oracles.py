#!/usr/bin/env python3
"""Holds the verdicts of a fuzz target against a plain-Python reader of the same format.

    build/fuzz/fuzz_torch --emit 100000 --seed 1 FILE.. | python3 tests/peers/compare_oracles.py pt_ref DIR

reads mutated files with their verdicts from standard input, asks ORACLE.verdict(bytes) of DIR and
prints how many there were and how many disagree; exit code 1 if any does.  Files on which the
two readers differ on purpose are counted apart, by reason."""
import importlib
import struct
import sys


def on_purpose(name, accepted, data):
    """Rules of ours that the oracle does not have."""
    if name == "pt_ref" and not accepted and (b"\x8a\x09" in data or b"\x8a\x0a" in data):
        return "an integer that may not fit 64 bits"
    return None


def main():
    name, folder = sys.argv[1], sys.argv[2]
    sys.path.insert(0, folder)
    oracle = importlib.import_module(name)
    total = wrong = 0
    purpose = {}
    stdin = sys.stdin.buffer
    while True:
        head = stdin.read(8)
        if len(head) < 8:
            break
        n, accepted = struct.unpack("<II", head)
        data = stdin.read(n)
        if len(data) < n:
            break
        try:
            verdict, reason = oracle.verdict(data)
        except RecursionError as error:
            verdict, reason = "bad", str(error)
        total += 1
        if (verdict == "ok") == bool(accepted):
            continue
        why = on_purpose(name, accepted, data)
        if why:
            purpose[why] = purpose.get(why, 0) + 1
            continue
        wrong += 1
        if wrong <= 10:
            path = "/tmp/disagree.%s.%d" % (name, wrong)
            open(path, "wb").write(data)
            print("%s: ours %s, the oracle's %s (%s)" % (path, "ok" if accepted else "bad",
                                                        verdict, reason))
    print("%d files, %d disagreements, on purpose: %s" % (total, wrong, purpose or "none"))
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
