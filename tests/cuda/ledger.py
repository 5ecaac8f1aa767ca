#!/usr/bin/env python3
"""The ledger of the CUDA kernels: what the compiler made of them, held to bars.

    ledger.py [--all] [--arch 70|80|90|90a] PTXAS [SASS]

PTXAS is what `nvcc -cubin -Xptxas -v` wrote, SASS what `cuobjdump -sass` prints of the cubin; without
it nothing is said of loops, as of 90a, which CUDA 11.8's tools do not know.  For
each kernel of the table below: registers, stack frame, spills and blocks that an SM holds at once
(by arithmetic), and of its main loop, the innermost loop of products with the most HMMA or, where
a kernel has none, FFMA: its bytes (with what is seldom executed, such as slices at an edge), the
share of FFMA or HMMA, instructions per HMMA, FFMA per 128-bit shared load, the width of global
loads, and how many of them are in flight between two waits on them.  Prints the figures; the last
line is the count.  --all also prints kernels without a bar.
"""
import argparse
import collections
import re
import subprocess
import sys

# Kernel (a pattern of the demangled name), figure, relation, bar.  Threads are in the launch bounds
# of the sources and repeated here, as ptxas does not print them.
BARS = {
    70: [
        (r"mrc_cuda_gemm_whole<", "threads", "=", 256),
        (r"mrc_cuda_gemm_whole<", "frame", "<=", 0),
        (r"mrc_cuda_gemm_whole<", "registers", "<=", 128),
        (r"mrc_cuda_gemm_whole<", "blocks", ">=", 2),
        (r"mrc_cuda_gemm_whole<", "ffma_share", ">=", 0.86),
        (r"mrc_cuda_gemm_whole<", "loop_bytes", "<=", 12288),
        (r"mrc_cuda_gemm_whole<", "load_bits", ">=", 128),
        (r"mrc_cuda_attention_", "frame", "<=", 0),
        (r"mrc_cuda_attention_", "spills", "<=", 0),
        (r"mrc_cuda_attention_tc_", "threads", "=", 128),
        (r"mrc_cuda_attention_tc_fwd<.*, 70>", "blocks", ">=", 3),
        (r"mrc_cuda_attention_tc_dq<.*, 70>", "blocks", ">=", 2),
        (r"mrc_cuda_attention_tc_dkv<.*, 70>", "blocks", ">=", 2),
        (r"mrc_cuda_attention_tc_.*, 70>", "hmma_share", ">=", 0.3),
        (r"mrc_cuda_attention_wide_fwd", "threads", "=", 128),
        (r"mrc_cuda_attention_wide_fwd", "blocks", ">=", 2),
        (r"mrc_cuda_attention_wide_bwd", "threads", "=", 256),
        (r"mrc_cuda_attention_wide_bwd", "blocks", ">=", 1),
        (r"mrc_cuda_attention_wide_", "ffma_share", ">=", 0.85),
        (r"mrc_cuda_attention_wide_", "ffma_per_lds", ">=", 10),
        (r"rnn_", "frame", "<=", 0),
        (r"rnn_chip_", "spills", "<=", 0),
        (r"rnn_chip_", "threads", "=", 256),
        (r"rnn_chip_", "blocks", ">=", 1),
        (r"rnn_chip_", "ffma_share", ">=", 0.7),
        (r"tc_gemm_kernel<", "spills", "<=", 0),
        (r"tc_gemm_kernel<__half, 70,", "frame", "<=", 0),
        (r"tc_gemm_kernel<__half, 70, 128,", "threads", "=", 128),
        (r"tc_gemm_kernel<__half, 70, 128,", "blocks", ">=", 2),
        (r"tc_gemm_kernel<__half, 70, 128,", "hmma_share", ">=", 0.55),
        (r"tc_gemm_kernel<__half, 70, 128,", "load_bits", ">=", 128),
    ],
    80: [(r"mrc_cuda_gemm_whole<", "frame", "<=", 0)],
    90: [(r"mrc_cuda_gemm_whole<", "frame", "<=", 0)],
    "90a": [
        (r"wg_gemm_kernel<", "frame", "<=", 0),
        (r"wg_gemm_kernel<", "spills", "<=", 0),
        (r"wg_gemm_kernel<.*, 2, ", "threads", "=", 256),
        (r"wg_gemm_kernel<.*, 2, ", "registers", "<=", 255),
        (r"wg_gemm_kernel<.*, 3, ", "threads", "=", 384),
        (r"wg_gemm_kernel<.*, 3, ", "registers", "<=", 168),
        (r"wg_gemm_kernel<", "blocks", ">=", 1),
    ],
}
for arch in (80, 90):
    BARS[arch] += [
        (r"mrc_cuda_attention_tc_.*, 80>", "frame", "<=", 0),
        (r"mrc_cuda_attention_tc_.*, 80>", "spills", "<=", 0),
        (r"tc_gemm_kernel<.*, 80, ", "frame", "<=", 0),
        (r"tc_gemm_kernel<.*, 80, ", "spills", "<=", 0),
        (r"tc_gemm_kernel<__nv_bfloat16, 80, 128,", "threads", "=", 128),
        (r"tc_gemm_kernel<__nv_bfloat16, 80, 128,", "blocks", ">=", 2),
        (r"tc_gemm_kernel<__nv_bfloat16, 80, 128,", "per_hmma", "<=", 5.5),
    ]
# Bytes that the launch asks for.
SHARED = {r"mrc_cuda_gemm_whole<": 16896, r"mrc_cuda_attention_tc_fwd<": 30976,
          r"mrc_cuda_attention_tc_": 41216, r"mrc_cuda_attention_wide_fwd": 49152,
          r"mrc_cuda_attention_wide_bwd": 98304, r"rnn_chip_fwd": 94480, r"rnn_chip_bwd": 67616,
          r"tc_gemm_kernel<.*, 70, 128,": 34816, r"tc_gemm_kernel<.*, 80, 128,": 52224,
          r"wg_gemm_kernel<.*, 2, ": 197632, r"wg_gemm_kernel<.*, 3, ": 230400}


def ptxas(path):
    """name -> registers, stack frame, spilled bytes, static shared bytes"""
    rows, name, frame, spills = {}, None, 0, 0
    for line in open(path):
        m = re.search(r"Compiling entry function '(\S+)'", line)
        if m:
            name = m.group(1)
        m = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads",
                      line)
        if m:
            frame, spills = int(m.group(1)), int(m.group(2)) + int(m.group(3))
        m = re.search(r"Used (\d+) registers", line)
        if m and name:
            shared = re.search(r"(\d+) bytes smem", line)
            rows[name] = dict(registers=int(m.group(1)), frame=frame, spills=spills,
                              shared=int(shared.group(1)) if shared else 0)
            name = None
    return rows


def sass(path):
    """name -> [address, instruction, upper control word]"""
    functions, now, last = {}, None, None
    for line in open(path):
        m = re.match(r"\s*Function : (\S+)", line)
        if m:
            now = functions.setdefault(m.group(1), [])
            continue
        if now is None:
            continue
        m = re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?);\s*/\* 0x([0-9a-f]{16}) \*/", line)
        if m:
            last = [int(m.group(1), 16), m.group(2).strip(), 0]
            now.append(last)
            continue
        m = re.match(r"\s*/\* 0x([0-9a-f]{16}) \*/", line)
        if m and last is not None and last[2] == 0:
            last[2] = int(m.group(1), 16)
    return functions


def demangle(names):
    out = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                         check=True).stdout.splitlines()
    clean = (re.sub(r"^void ", "", re.sub(r"\((bool|int)\)", "", n)) for n in out)
    return dict(zip(names, (re.sub(r"\(.*", "", n) for n in clean)))


def opcode(text):
    return re.sub(r"^@!?U?P\S+\s+", "", text).split()[0].rstrip(",")


def loops(code):
    """(start, end, products) of loops of products that have none inside; products: HMMA, or FFMA
    where the kernel has no HMMA"""
    base = "HMMA" if any(opcode(t).startswith("HMMA") for _, t, _ in code) else "FFMA"
    found = []
    for address, text, _ in code:
        if opcode(text).split(".")[0] in ("BRA", "JMP"):
            m = re.search(r"0x([0-9a-f]+)", text)
            if m and int(m.group(1), 16) < address - 16:
                start = int(m.group(1), 16)
                n = sum(opcode(t).startswith(base) for a, t, _ in code if start <= a <= address)
                if n:
                    found.append((start, address, n))
    return [x for x in found
            if not any(y != x and y[0] >= x[0] and y[1] <= x[1] for y in found)]


def width(text):
    m = re.search(r"\.(128|64|U16|S16|U8|S8)\b", opcode(text))
    return {None: 32, "U16": 16, "S16": 16, "U8": 8, "S8": 8}.get(m and m.group(1)) \
        or int(m.group(1))


def in_flight(body):
    """The most global loads that are issued before an instruction waits for one of them."""
    best, pending = 0, collections.Counter()
    for _, text, control in body:
        wait, barrier = control >> 52 & 63, control >> 46 & 7
        if any(wait >> b & 1 and pending[b] for b in range(6)):
            pending = collections.Counter()
        if opcode(text).startswith("LDG") and barrier < 6:
            pending[barrier] += 1
            best = max(best, sum(pending.values()))
    return best


def figures(code, row, threads, shared, of_processor):
    f = dict(row)
    if threads:
        warps = threads // 32
        by_registers = 65536 // 4 // ((row["registers"] + 7) // 8 * 8 * 32) * 4 // warps
        by_shared = of_processor // (shared + row["shared"]) if shared + row["shared"] else 32
        f["threads"], f["blocks"] = threads, min(by_registers, by_shared, 64 // warps)
    best = None
    for start, end, weight in loops(code):
        if best is None or weight > best[0]:
            best = (weight, [x for x in code if start <= x[0] <= end])
    if best is None:
        return f
    body = best[1]
    count = collections.Counter(opcode(t).split(".")[0] for _, t, _ in body)
    loads = [t for _, t, _ in body if opcode(t).startswith("LDG")]
    shared_loads = sum(opcode(t).startswith("LDS") and width(t) == 128 for _, t, _ in body)
    f["loop_bytes"] = 16 * len(body)
    f["ffma_share"] = count["FFMA"] / len(body)
    f["hmma_share"] = count["HMMA"] / len(body)
    if count["HMMA"]:
        f["per_hmma"] = len(body) / count["HMMA"]
    if shared_loads:
        f["ffma_per_lds"] = count["FFMA"] / shared_loads
    if loads:
        f["load_bits"] = max(width(t) for t in loads)
        f["in_flight"] = in_flight(body)
    return f


def holds(value, relation, bar):
    return {"<=": value <= bar, ">=": value >= bar, "=": value == bar}[relation]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--all", action="store_true")
    p.add_argument("--arch", type=lambda x: x if x == "90a" else int(x), default=70,
                   choices=list(BARS))
    p.add_argument("ptxas")
    p.add_argument("sass", nargs="?")
    a = p.parse_args()
    rows = ptxas(a.ptxas)
    code = sass(a.sass) if a.sass else {name: [] for name in rows}
    names = demangle(sorted(set(rows) & set(code)))
    passed = failed = 0
    used = set()
    for mangled, name in sorted(names.items(), key=lambda x: x[1]):
        bars = [b for b in BARS[a.arch] if re.search(b[0], name)]
        if not bars and not a.all:
            continue
        threads = next((b[3] for b in bars if b[1] == "threads"), 0)
        shared = next((s for k, s in SHARED.items() if re.search(k, name)), 0)
        f = figures(code[mangled], rows[mangled], threads, shared,
                    98304 if a.arch == 70 else 167936 if a.arch == 80 else 233472)
        print(name + ": " + ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}"
                                      for k, v in f.items()))
        for pattern, figure, relation, bar in bars:
            used.add((pattern, figure))
            if figure in f and holds(f[figure], relation, bar):
                passed += 1
            else:
                failed += 1
                print(f"FAIL {name}: {figure} (found {f.get(figure, 'none')}, "
                      f"expected {relation} {bar})")
    for b in BARS[a.arch]:
        if (b[0], b[1]) not in used:
            failed += 1
            print(f"FAIL no kernel is called {b[0]}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
