#!/usr/bin/env python3
"""What a training step will take on a V100 or an H200, from SASS alone.

    predict.py --arch 70|90 PTXAS SASS              each kernel's loop, and the step
    predict.py --arch 70|90 --calibrate PTXAS SASS  tests/cuda/calibrate.cu: what is known

PTXAS is what `nvcc -cubin -Xptxas -v` wrote, SASS what `cuobjdump -sass` prints of the cubin.  The
simulator takes the instructions that a warp executes in a turn of a loop and runs the warps of the
blocks that fit on one processor: four in-order schedulers that issue one instruction a cycle, the
stall counts and scoreboards that the compiler wrote, pipes, one unit for shared and global memory
whose time is the wavefronts of a request, block barriers.  Not in it: instruction caches, banks of
registers, queues of DRAM, clocks under a limit of power.  Kernels that wait for memory or each other
(sweeps in 16 bits, rows, the optimizer) stand as figures of their own: bytes over bandwidth, or a
sum of latencies.  Times are predictions; none was measured.
"""
import argparse
import collections
import heapq
import math
import re
import sys

from ledger import demangle, opcode, ptxas, sass, width

MACHINES = {
    70: dict(name="V100", clock=1.38e9, sms=80, shared=98304, reserved=0, ffma=2, alu=2, hmma=2,
             hmma_wait=12, lds=23, ldg=260, bandwidth=900e9, l2=2.1e12),
    90: dict(name="H200", clock=1.755e9, sms=132, shared=233472, reserved=1024, ffma=1, alu=2,
             hmma=6.4, hmma_wait=33, lds=25, ldg=280, bandwidth=4.8e12, l2=5.5e12),
}
QUEUE = 6                                       # requests of a scheduler that wait for the unit


def kind_of(text):
    base = opcode(text).split(".")[0]
    if base in ("FFMA", "FADD", "FMUL"):
        return "ffma"
    if base == "IMAD":
        return "imad"
    if base == "HMMA":
        return "hmma"
    if base in ("LDS", "STS", "LDSM", "SHFL"):
        return "shared"
    if base in ("LDG", "STG", "LDGSTS", "LDL", "STL", "LDC", "RED", "ATOMG"):
        return "global"
    if base in ("MUFU", "I2F", "F2I", "F2F", "S2R", "POPC"):
        return "xu"
    if base == "BAR":
        return "bar"
    if base in ("BRA", "BSSY", "BSYNC", "NOP", "EXIT", "DEPBAR", "LDGDEPBAR", "WARPSYNC", "BMOV",
                "ULDC", "UMOV", "UIADD3", "ULEA", "USHF", "ULOP3") or text.startswith("@!PT"):
        return "control"
    return "alu"


def wavefronts(text, conflicts):
    base, bits = opcode(text).split(".")[0], width(text)
    if base == "LDC":
        return 1
    if base in ("LDSM", "LDGSTS"):
        return 4 * conflicts.get(base, 1)
    if base in ("LDS", "STS"):
        return max(1, bits // 32) * conflicts.get(base, 1)
    if base in ("LDG", "STG"):
        return max(2, bits // 16)
    return 1


def executed(code, start, end, trips, skip):
    """What a warp executes from start to the branch back at `end`: an inner loop trips(its opcodes)
    times; a branch ahead is taken where skip(the opcodes it jumps over)."""
    at = {x[0]: i for i, x in enumerate(code)}
    seen, out, i = collections.Counter(), [], at[start]
    while len(out) < 100000:
        address, text, control = code[i]
        out.append((text, control))
        if address == end:
            return out
        i += 1
        m = re.search(r"0x([0-9a-f]+)", text.split("BRA", 1)[1]) if opcode(text)[:3] == "BRA" \
            and "BRA.DIV" not in text else None
        if not m:
            continue
        target = int(m.group(1), 16)
        if target not in at or target > end or target < start:
            continue
        always = not text.startswith("@") and not re.search(r"BRA(\.\w+)*\s+!?U?P\d", text)
        over = [opcode(x[1]) for x in code[min(at[target], i - 1):max(at[target], i)]]
        if target <= address:
            seen[address] += 1
            if seen[address] % trips(over):
                i = at[target]
        elif always or skip(over):
            i = at[target]
    raise ValueError("a loop does not end: its branches are not understood")


def simulate(m, program, warps, blocks, turns=9):
    """Cycles of a turn in which every warp of `blocks` blocks executes the program once, and how
    long each pipe is busy in it."""
    all_warps = [dict(block=b, at=0, turn=0, ready=(b * 37 + w * 3) % 23, board=[0] * 6,
                      waits=False, done=False) for b in range(blocks) for w in range(warps)]
    lists = [all_warps[s::4] for s in range(4)]
    free = [collections.defaultdict(float) for _ in range(4)]
    pending, unit = [[] for _ in range(4)], 0.0
    events, order, busy = [], 0, collections.Counter()
    arrived, turned, ends, last = [0] * blocks, collections.Counter(), {}, [0] * 4
    cost = {"ffma": m["ffma"], "imad": 2, "alu": m["alu"], "hmma": m["hmma"], "xu": 8}
    t = done = 0
    while done < len(all_warps):
        while events and events[0][0] <= t:
            _, _, w, s = heapq.heappop(events)
            w["board"][s] -= 1
        for s in range(4):
            picked = None
            for w in lists[s][last[s]:] + lists[s][:last[s]]:
                if w["done"] or w["waits"] or w["ready"] > t:
                    continue
                kind, stall, writes, reads, wait, waves, latency = program[w["at"]]
                if wait and any(w["board"][q] for q in range(6) if wait >> q & 1):
                    continue
                pipe = "ffma" if kind == "imad" else kind
                if pipe in cost and free[s][pipe] > t:
                    continue
                if kind in ("shared", "global"):
                    pending[s] = [x for x in pending[s] if x > t]
                    if len(pending[s]) >= QUEUE or free[s]["queue"] > t:
                        continue
                picked = w
                break
            if picked is None:
                continue
            w = picked
            last[s] = next(i for i, x in enumerate(lists[s]) if x is w)
            busy["issue"] += 1
            finish = read = t + 4
            if kind in cost:
                start = max(free[s][pipe], t)
                free[s][pipe] = start + cost[kind]
                busy[pipe] += cost[kind]
                finish = t + (m["hmma_wait"] if kind == "hmma" else 24 if kind == "xu" else 4)
            elif kind in ("shared", "global"):
                free[s]["queue"] = t + 2
                start = max(unit, t + 1)
                unit = start + waves
                busy["memory"] += waves
                pending[s].append(unit)
                finish, read = unit + latency, unit + 2
            w["ready"] = t + stall
            if kind == "bar":
                arrived[w["block"]] += 1
                w["waits"] = True
                if arrived[w["block"]] == warps:
                    arrived[w["block"]] = 0
                    for x in all_warps:
                        if x["block"] == w["block"]:
                            x["waits"], x["ready"] = False, t + 10
            else:
                for board, when in ((writes, finish), (reads, read)):
                    if board < 6:
                        order += 1
                        w["board"][board] += 1
                        heapq.heappush(events, (when, order, w, board))
            w["at"] += 1
            if w["at"] == len(program):
                w["at"] = 0
                w["turn"] += 1
                turned[w["turn"]] += 1
                if turned[w["turn"]] == len(all_warps):
                    ends[w["turn"]] = t
                if w["turn"] == turns:
                    w["done"] = True
                    done += 1
        t += 1
        if t > 3000000:
            raise ValueError("the simulator does not end")
    first = turns // 3
    return ((ends[turns - 1] - ends[first]) / (turns - 1 - first),
            {k: v / turns for k, v in busy.items()})


def program_of(m, body, conflicts):
    out = []
    for text, control in body:
        kind = kind_of(text)
        latency = 30 if opcode(text).startswith("LDC") else \
            m["lds"] if kind == "shared" else m["ldg"]
        if opcode(text).split(".")[0] in ("STS", "STG", "STL"):
            latency = 2
        out.append((kind, max(1, control >> 41 & 15), control >> 46 & 7, control >> 49 & 7,
                    control >> 52 & 63, wavefronts(text, conflicts), latency))
    return out


def main_loop(code, inner=False):
    """The largest loop with a barrier and products, or the smallest; addresses."""
    found = []
    for address, text, _ in code:
        if opcode(text).split(".")[0] != "BRA":
            continue
        m = re.search(r"0x([0-9a-f]+)", text.split("BRA", 1)[1])
        if not m or int(m.group(1), 16) >= address - 16:
            continue
        start = int(m.group(1), 16)
        body = {opcode(x[1]).split(".")[0] for x in code if start <= x[0] <= address}
        if "BAR" in body and body & {"FFMA", "HMMA", "LDS"}:
            found.append((address - start, start, address))
    return (min if inner else max)(found)[1:] if found else None


class Kernels:
    """A cubin's kernels by their demangled names, each simulated once for a number of blocks."""

    def __init__(self, arch, log, listing):
        self.arch, self.machine = arch, MACHINES[arch]
        self.rows, self.code = ptxas(log), sass(listing)
        names = demangle(sorted(set(self.rows) & set(self.code)))
        self.names = {v: k for k, v in names.items()}
        self.known = {}

    def find(self, pattern):
        found = [n for n in self.names if re.search(pattern, n)]
        if len(found) != 1:
            raise ValueError(f"kernels called {pattern} (found {len(found)}, expected 1)")
        return self.names[found[0]]

    def blocks(self, pattern, threads, shared):
        row, m = self.rows[self.find(pattern)], self.machine
        warps = threads // 32
        registers = (row["registers"] + 7) // 8 * 8 * 32
        return max(1, min(65536 // 4 // registers * 4 // warps,
                          m["shared"] // (shared + row["shared"] + m["reserved"] or 1),
                          64 // warps))

    def turn(self, pattern, threads, blocks, conflicts=None, trips=lambda over: 1,
             skip=lambda over: False, inner=False):
        """Cycles of a turn of the main loop with so many blocks on a processor."""
        key = (pattern, blocks)
        if key not in self.known:
            code = self.code[self.find(pattern)]
            start, end = main_loop(code, inner)
            body = executed(code, start, end, trips, skip)
            program = program_of(self.machine, body, conflicts or {})
            cycles, busy = simulate(self.machine, program, threads // 32, blocks)
            count = collections.Counter(opcode(t).split(".")[0] for t, _ in body)
            self.known[key] = cycles
            print(f"{pattern}: {len(body)} instructions, {count['FFMA']} FFMA, "
                  f"{count['HMMA']} HMMA, {blocks} blocks of {threads}: {cycles:.0f} cycles, "
                  + ", ".join(f"{k} {v / cycles / (1 if k == 'memory' else 4):.2f}"
                              for k, v in sorted(busy.items())))
        return self.known[key]

    def busiest(self, blocks_in_all, at_once, turn):
        """Cycles of the processor with the most blocks; turn(n): of one wave of n blocks."""
        n = math.ceil(blocks_in_all / self.machine["sms"])
        return n // at_once * turn(at_once) + (turn(n % at_once) if n % at_once else 0)


#===================================================================================================
# The step: klue/roberta-large with two BiLSTM layers, 10 x 512 tokens
#===================================================================================================
LAYERS, ROWS, HIDDEN, FFN, HEADS, LENGTH = 24, 5120, 1024, 4096, 16, 512

# Kernels of rows in a layer: how often, and what one reads and writes once, as multiples of ROWS x
# HIDDEN elements; the shim counts the same (tests/cuda/count.h), and weights and second reads of a
# row, which caches have.
ROW_KERNELS = [
    ("norm_fwd", 2, 2 + 2), ("norm_bwd", 2, 2 + 2), ("activation_fwd", 1, 4 + 4),
    ("an activation's slope and its bias", 1, 8 + 4), ("the bias of query, key and value", 1, 3),
    ("other biases", 2, 1), ("weight and bias of a norm", 2, 2),
]
# The share of the bandwidth that such kernels reach, and seconds in which a launch fills and
# empties the processors.
STREAM, RAMP = {70: .83, 90: .76}, 2e-6
LAUNCHES, GAP = 646, {70: 2.8e-6, 90: .9e-6}    # tests/cuda/count_run.c counts them

# name -> milliseconds of what else is not simulated here, and how far all such may be off: sweeps
# in 16 bits (a sum of latencies), embeddings, the optimizer.
OTHER = {
    "V100 fp32": dict(embedding=.8, optimizer=16),
    "V100 fp16": dict(sweeps=20, embedding=.8, optimizer=17),
    "H200 bf16": dict(sweeps=5, embedding=.4, optimizer=4),
}
RANGE = dict(products=.12, attention=.3, sweeps=.4, rows=.3, embedding=.5, optimizer=.15,
             launches=.5)


def products():
    """(m, n, k, form, how often) of a step: form NT forward, NN of dx, TN of dW."""
    n, h, f = ROWS, HIDDEN, FFN
    maps = [(h, h, 4 * LAYERS), (f, h, LAYERS), (h, f, LAYERS)]     # out, in
    maps += [(4 * h, h, 2), (4 * h, 2 * h, 2)]                      # of the LSTM's two layers
    out = []
    for o, i, times in maps:
        out += [(n, o, i, "NT", times), (n, i, o, "NN", times), (o, i, n, "TN", times)]
    return out + [(4 * h, h, n, "TN", 4)]                           # dW_hh


def parts_of(tiles, k, slots, price, least):
    """As mrc_cuda_waves() of backends/cuda/gemm.cuh."""
    best, cost = 1, None
    for parts in range(1, 33):
        if parts > 1 and k // parts < least:
            break
        waves = -(-tiles * parts // slots)
        now = waves * slots * k // (tiles * parts) + (price * parts if parts > 1 else 0)
        if cost is None or now < cost:
            best, cost = parts, now
    return best


def product_ms(kernels, shape, pattern, threads, shared, slice_k, price, least, epilogue, **rules):
    m, n, k, form, times = shape
    machine = kernels.machine
    tiles = -(-m // 128) * -(-n // 128)
    parts = parts_of(tiles, k, 160 if machine["name"] == "V100" else 264, price, least)
    at_once = kernels.blocks(pattern, threads, shared)
    slices = math.ceil(k / parts / slice_k)
    cycles = kernels.busiest(tiles * parts, at_once, lambda b: slices * kernels.turn(
        pattern, threads, b, **rules) + epilogue * b)
    ms = cycles / machine["clock"] * 1e3
    if parts > 1:
        ms += (parts + 1) * m * n * 4 / machine["bandwidth"] / .8 * 1e3
    return ms * times


def f32_products(kernels):
    total = 0
    for shape in products():
        form = {"NT": "true, true, 0", "NN": "true, false, 0", "TN": "false, false, 0"}[shape[3]]
        total += product_ms(kernels, shape, f"gemm_whole<{form}>", 256, 16896, 8, 64, 128, 3000)
    return total


# wgmma in 16 bits: four tensor cores multiply and add 2048 pairs a cycle together, NVIDIA's 989
# TFLOP/s at 1.83 GHz.  The share that large products reach of it is assumed, not known: the best
# published ones come to 0.75 to 0.8.
WGMMA_RATE, WGMMA_SHARE = 2048, .75


def wgmma_wave(machine, groups, slices, blocks):
    """Cycles of a wave of blocks, one on a processor, each a tile of 64 groups x 256: of its slices
    of 64 k the tensor cores, shared memory (operands are read by 128 bytes a cycle, a and b by each
    warpgroup, and written), or the L2 cache, which all blocks share; and a beginning and an end."""
    if blocks == 0:
        return 0
    tensor = 64 * groups * 256 * 64 / WGMMA_RATE / WGMMA_SHARE
    shared = (groups * 4 * (64 + 256) * 32 + (64 * groups + 256) * 128) / 128
    cache = (64 * groups + 256) * 128 * blocks / machine["l2"] * machine["clock"]
    return slices * max(tensor, shared, cache) + 2000 + 2000 * groups


def wgmma_cycles(machine, shape, groups, parts):
    """As wg_cost() of backends/cuda/gemm_wgmma.cuh, which has it in whole numbers."""
    m, n, k = shape[:3]
    blocks = -(-m // (64 * groups)) * -(-n // 256) * parts
    slices = math.ceil(k / parts / 64)
    sum_parts = 5000 + (parts + 1) * m * n * 4 / machine["bandwidth"] / .8 * machine["clock"]
    return blocks // machine["sms"] * wgmma_wave(machine, groups, slices, machine["sms"]) \
        + wgmma_wave(machine, groups, slices, blocks % machine["sms"]) \
        + (sum_parts if parts > 1 else 0)


def wgmma_products(machine):
    total = useful = 0
    for shape in products():
        m, n, k, form, times = shape
        plans = [(groups, parts) for groups in (2, 3) for parts in range(1, 33)
                 if parts == 1 or k // parts >= 256]
        best = min(plans, key=lambda plan: wgmma_cycles(machine, shape, *plan))
        ms = times * wgmma_cycles(machine, shape, *best) / machine["clock"] * 1e3
        print(f"  wgmma {m} x {n} x {k} {form}, {times} times: tiles of {64 * best[0]} x 256, "
              f"{best[1]} parts of k, {ms:.2f} ms, "
              f"{2e-9 * times * m * n * k / ms:.0f} TFLOP/s")
        total += ms
        useful += 2e-9 * times * m * n * k
    print(f"  wgmma, all: {total:.1f} ms, {useful / total:.0f} TFLOP/s")
    return total


def is_slow_copy(over):
    """Whether these instructions move an operand's chunks one by one, by elements where need be."""
    narrow = sum(bool(re.match(r"LDG\S*\.[US](16|8)|LDG\.E(\.SYS)?$", x)) for x in over)
    wide = sum(bool(re.match(r"LDGSTS|LDG\S*\.128", x)) for x in over)
    return narrow > 0 and wide <= 2 and not any(x[:4] == "HMMA" for x in over)


def tc_products(kernels, type_name, path):
    total = 0
    for shape in products():
        form = {"NT": "true, true", "NN": "true, false", "TN": "false, false"}[shape[3]]
        threads, shared, name = TC_FORM[path]
        total += product_ms(
            kernels, shape, name.format(type=type_name, path=path, form=form), threads,
            shared[shape[3]], 32, 400, 256, 5000,
            trips=lambda over: 2 if any(x.startswith("LDGSTS") for x in over) else 1,
            skip=is_slow_copy)
    return total


# Of the large tile: threads, shared memory by form, the kernel's name.
TC_FORM = {
    70: (128, dict(NT=32768, NN=33792, TN=34816),
         r"tc_gemm_kernel<{type}, {path}, 128, 128, 64, 64, {form}>"),
    80: (128, dict(NT=49152, NN=50688, TN=52224),
         r"tc_gemm_kernel<{type}, {path}, 128, 128, 64, 64, {form}>"),
}


def tc_attention(kernels, type_name, path):
    """Milliseconds of a step's attention, forward and backward."""
    machine, pairs = kernels.machine, ROWS // LENGTH * HEADS
    walk = 32 if path == 70 else 64
    turn = 4 * (16 * 48 + 64) if path == 70 else 16
    forward = 64 * 144 + 4 * walk * 144 + turn
    backward = 2 * 64 * 144 + 4 * 32 * 144 + 1024 + turn
    total = 0
    for name, shared, rows in (("fwd", forward, walk), ("dq", backward, 32),
                               ("dkv", backward, 32)):
        pattern = f"attention_tc_{name}<{type_name}, {path}>"
        at_once = kernels.blocks(pattern, 128, shared)
        # A block of 64 rows walks over the others; a turn more stands for its start and end.
        cycles = kernels.busiest(
            pairs * LENGTH // 64, at_once, lambda b: (LENGTH // rows + 1) * kernels.turn(
                pattern, 128, b,
                trips=lambda over: 2 if any(x[:4] == "HMMA" for x in over) else 1,
                skip=lambda over: any(x[:4] == "LDSM" for x in over)
                and not any(x[:4] == "HMMA" for x in over)))
        ms = LAYERS * cycles / machine["clock"] * 1e3
        print(f"  attention {name}: {ms:.2f} ms a step, {at_once} blocks a processor")
        total += ms
    return total


def f32_attention(kernels):
    """The same in f32, where backward has a block for a head, in a loop in a loop."""
    machine, tiles = kernels.machine, LENGTH // 64
    pairs = ROWS // LENGTH * HEADS

    def trips(over):
        """A thread sums 2048 products of two tiles by 8 x 4, or 1024 by 4 x 4."""
        n, loads = (sum(x.startswith(w) for x in over) for w in ("FFMA", "LDS"))
        return max(1, (1024 if loads * 8 >= n else 2048) // n) if n else 1
    total = 0
    for name, threads, shared, blocks, turns in (
            ("fwd", 128, 49152, pairs * tiles, tiles + 1),
            ("bwd", 256, 98304, pairs, tiles * (tiles + 1))):
        pattern = f"attention_wide_{name}"
        at_once = kernels.blocks(pattern, threads, shared)
        # A turn more than there are tiles stands for a block's start and end, of backward for each
        # tile of keys.
        cycles = kernels.busiest(blocks, at_once, lambda b: turns * kernels.turn(
            pattern, threads, b, trips=trips, inner=True))
        ms = LAYERS * cycles / machine["clock"] * 1e3
        print(f"  attention {name}: {ms:.2f} ms a step, {at_once} blocks a processor")
        total += ms
    return total


GRID_BARRIER = 1500             # cycles: a fence, an arrival, and the poll that sees the last one


def f32_sweeps(kernels):
    """Of the LSTM's two layers, one direction after the other: a step is what the simulator says of
    a block, a grid barrier, and what all blocks ask of the L2 cache beside it, h of the step before
    or, backward, all parts of dh, whose 13 floats touch 2.5 sectors."""
    machine, sequences, total = kernels.machine, ROWS // LENGTH, 0
    blocks = -(-HIDDEN // 13)

    def trips(over):
        n = {w: sum(x.startswith(w) for x in over) for w in ("BAR", "FFMA", "FADD", "LDG")}
        if n["BAR"]:
            return 1
        if n["FFMA"] >= 400:
            return sequences // 2               # pairs of sequences
        return -(-blocks // 16) if n["LDG"] >= 16 and n["FADD"] >= 16 else 1

    def skip(over):
        """What only more sequences than a group has do, waiting for others, slow divisions."""
        n = {w: sum(x.startswith(w) for x in over) for w in ("MEMBAR", "CALL", "SHFL", "LDG")}
        return n["MEMBAR"] > 0 or 0 < n["CALL"] and len(over) < 16 \
            or 0 < n["LDG"] <= 2 and len(over) < 20
    for name, asked in (("fwd", sequences * HIDDEN * 4), ("bwd", blocks * sequences * 80)):
        cycles = kernels.turn(f"rnn_chip_{name}", 256, 1, trips=trips, skip=skip) + GRID_BARRIER \
            + asked * blocks / machine["l2"] * machine["clock"]
        ms = 2 * 2 * LENGTH * cycles / machine["clock"] * 1e3
        print(f"  sweep {name}: {cycles / machine['clock'] * 1e6:.1f} us a step, {ms:.1f} ms")
        total += ms
    return total


def rows_ms(arch, element):
    """All kernels of ROW_KERNELS, of elements of so many bytes."""
    moved = sum(times * arrays for _, times, arrays in ROW_KERNELS) * ROWS * HIDDEN * element
    seconds = moved / (MACHINES[arch]["bandwidth"] * STREAM[arch])
    return LAYERS * (seconds + RAMP * sum(times for _, times, _ in ROW_KERNELS)) * 1e3


def step(kernels, name, parts):
    arch = kernels.arch
    parts = {**OTHER[name.split(",")[0]], "rows": rows_ms(arch, 4 if "fp32" in name else 2),
             "launches": LAUNCHES * GAP[arch] * 1e3, **parts}
    spread = math.sqrt(sum((RANGE[k] * v) ** 2 for k, v in parts.items()))
    total = sum(parts.values())
    print(f"{name}: " + ", ".join(f"{k} {v:.1f}" for k, v in parts.items())
          + f": {total:.0f} ms, {total - spread:.0f} to {total + spread:.0f}")


# Of calibrate.cu: the loop, warps, blocks, and the share of its time that a pipe must be busy, or
# the cycles of each of its instructions.
CALIBRATION = [
    ("calibrate_ffma", 256, 1, "ffma", 1.0), ("calibrate_chain", 32, 1, "cycles", 4.0),
    ("calibrate_lds", 256, 2, "memory", 1.0), ("calibrate_hmma", 256, 1, "hmma", 1.0),
]


def calibrate(kernels):
    passed = failed = 0
    m = kernels.machine
    for name, threads, blocks, what, known in CALIBRATION:
        code = kernels.code[kernels.find(name)]
        start, end = main_loop(code)
        body = executed(code, start, end, lambda over: 1, lambda over: False)
        cycles, busy = simulate(m, program_of(m, body, {}), threads // 32, blocks)
        if what == "cycles":
            found = cycles / sum(opcode(t).startswith("FFMA") for t, _ in body)
        else:
            found = busy[what] / cycles / (1 if what == "memory" else 4)
        good = abs(found - known) <= .12 * known
        passed, failed = passed + good, failed + (not good)
        print(f"{'' if good else 'FAIL '}{name}: {what} (found {found:.2f}, expected {known})")
    return passed, failed


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--arch", type=int, required=True, choices=sorted(MACHINES))
    p.add_argument("--calibrate", action="store_true")
    p.add_argument("ptxas")
    p.add_argument("sass")
    a = p.parse_args()
    kernels = Kernels(a.arch, a.ptxas, a.sass)
    if a.calibrate:
        passed, failed = calibrate(kernels)
        print(f"{passed} passed, {failed} failed")
        return failed > 0
    if a.arch == 70:
        step(kernels, "V100 fp32", dict(products=f32_products(kernels),
                                        attention=f32_attention(kernels),
                                        sweeps=f32_sweeps(kernels)))
        step(kernels, "V100 fp16", dict(products=tc_products(kernels, "__half", 70),
                                        attention=tc_attention(kernels, "__half", 70)))
    else:
        attention = tc_attention(kernels, "__nv_bfloat16", 80)
        step(kernels, "H200 bf16, MRC_CUDA_PATH=80", dict(
            products=tc_products(kernels, "__nv_bfloat16", 80), attention=attention))
        step(kernels, "H200 bf16", dict(products=wgmma_products(kernels.machine),
                                        attention=attention))
    return 0


if __name__ == "__main__":
    sys.exit(main())
