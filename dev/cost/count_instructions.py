#!/usr/bin/env python3
"""Writes kernels/kernel_counts.inc: what a warp of each kernel executes, counted in the machine code that nvcc makes.

usage: dev/cost/count_instructions.py [--cuobjdump FILE] [--nvcc FILE] [--cubins DIR] [--output FILE] [sm…]     default: 75 80 90

--cubins DIR  (build/cubins) what nvcc made; what is newer than all sources there is not compiled again.

A kernel's machine code is a graph of basic blocks. Of all ways through it without a back edge, one is counted: the one with the
most tensor-core instructions; of these the one that moves the most bytes by vector accesses of global memory, which is how a
kernel runs where rows are aligned and tiles are whole; of these the shortest, so that slow paths of divisions and masks of edges
are left out. `loop` is that way from head to end of the loop that holds the tensor-core instructions, `once` that from the entry
to the exit with each loop once, less `loop`.

Kernels with such a loop are also simulated: n warps share one of an SM's four schedulers, which issues one instruction a clock.
A warp issues in order. It waits as long as the stall count in an instruction says, for the scoreboards in its wait mask, for a
free pipe, and for groups of asynchronous copies and of wgmma. `clocks` is what a turn of all n warps takes then, `clocks_once` the rest. Of
the kernels of a 16-bit type one is counted, half before sm_80 and bf16 from there on; those of float are not.

Rates of the pipes: CUDA C++ Programming Guide, "Arithmetic Instructions". Latencies: Jia et al. 2018 and 2019 (arXiv 1804.06826,
1903.07486), Sun et al. 2022 (arXiv 2206.02874), Luo et al. 2024 (arXiv 2402.13499); rounded. No GPU was measured here.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys

# Files, and which of their kernels the model of an op's time asks about.
SOURCES = {
    "attention": r"attention_forward_kernel<.*",
    "attention_backward": r"(keys|queries)_kernel<.*",
    "attention_wgmma": r"attention_wgmma_kernel<.*",
    "attention_backward_wgmma": r"(keys|queries)_wgmma_kernel<.*",
    "matmul": r"matmul_mma_kernel<.*",
    "rmsnorm": r"rmsnorm_(forward|backward)_kernel<.*",
    "rope": r"rope_kernel<.*",
    "swiglu": r"swiglu_(forward|backward)_kernel<.*",
    "cross_entropy": r"cross_entropy_kernel<.*",
    "elementwise": r"dropout_kernel<.*",
    "quantized": r"dequantize_kernel<.*",
}

XU = {"MUFU", "I2F", "F2I", "F2F", "FRND", "POPC", "FLO", "BREV"}
FMA = {"FFMA", "FMUL", "FADD", "IMAD", "HFMA2", "HADD2", "HMUL2", "IMUL"}
SHARED = {"LDSM", "LDS", "STS", "LDGSTS", "SHFL"}
# On none of these pipes: memory, control flow, moves of special registers. So is the uniform datapath (U…).
OTHER = {"BRA", "EXIT", "BSSY", "BSYNC", "BAR", "NOP", "CALL", "RET", "WARPSYNC", "DEPBAR", "LDGDEPBAR", "MEMBAR", "ERRBAR", "YIELD",
         "S2R", "S2UR", "CS2R", "LDC", "HMMA", "VOTE", "BREAK", "BMOV", "R2UR", "LDG", "STG", "LDL", "STL", "BRX", "JMP", "HGMMA",
         "WARPGROUP"}  # fmt: skip

# Clocks between two instructions of a pipe of one scheduler. HMMA: 16 x 8 x 8 on sm_75, 16 x 8 x 16 later. On sm_90 `mma` reaches
# five eighths of the peak, which only wgmma has.
INTERVALS = {"75": {"HMMA": 8, "fma": 2}, "80": {"HMMA": 8, "fma": 2}, "90": {"HMMA": 6.5, "fma": 1}}
ALU_INTERVAL, XU_INTERVAL, SCHEDULERS = 2, 8, 4
# wgmma: of a scheduler's warp 16 x N x 16 products, 512 a clock; and the warpgroup's operands from shared memory at 128 bytes a clock.
WGMMA_PRODUCTS, SHARED_BYTES = 512, 128
# Clocks of work that wait in the queue of a pipe before a warp that has more of it must wait.
QUEUES = {"shared": 32, "xu": 32}
# Clocks until what an instruction loads or computes is there; until it has read its registers; a barrier of a block.
LATENCIES = {"LDSM": 33, "LDS": 29, "SHFL": 24, "MUFU": 23, "LDG": 500, "LDGSTS": 500, "LDC": 30, "S2R": 25}
USUAL_LATENCY, READ_LATENCY, BARRIER = 25, 12, 25
WGMMA_LATENCY = 32  # from the last product to the end of a wait; an estimate

FIELDS = ("instructions", "fma", "alu", "xu", "shared", "flops", "bytes")
WARPS = (1, 2, 4, 8)
CALL_COST = 100000  # the way through a slow path is never the shortest


class Instruction:
    def __init__(self, address: int, guarded: bool, opcode: str, operands: str, control: int):
        self.address, self.guarded, self.opcode, self.operands = address, guarded, opcode, operands
        self.parts = opcode.split(".")
        self.name = self.parts[0]
        self.stall, self.writes, self.reads, self.waits = max(control & 15, 1), control >> 5 & 7, control >> 8 & 7, control >> 11 & 63
        self.counts = self.count()

    def width(self) -> int:
        """Bytes that a lane moves."""
        for text, size in (("128", 16), ("64", 8), ("U16", 2), ("S16", 2), ("U8", 1), ("S8", 1), ("16", 2)):
            if text in self.parts:
                return size
        return 4

    def count(self) -> dict:
        c = dict.fromkeys(FIELDS, 0)
        c["instructions"] = 1 + (CALL_COST if self.name == "CALL" and not self.guarded else 0)
        if self.name == "HGMMA":
            c["flops"] = 2 * 16 * self.columns() * 16
            c["shared"] = self.operand_clocks() / SCHEDULERS
        elif self.name == "HMMA":
            c["flops"] = 2 * 16 * 8 * (16 if "16816" in self.parts else 8)
        elif self.name in XU:
            c["xu"] = 1
        elif self.name in FMA:
            c["fma"] = 1
        elif self.name in SHARED:  # clocks at 128 bytes each
            c["shared"] = self.lines()
        elif self.name not in OTHER and not self.name.startswith("U"):
            c["alu"] = 1
        if self.width() >= (8 if self.name == "STG" else 16) and self.name in ("LDG", "STG", "LDGSTS"):
            c["bytes"] = self.width()
        return c

    def lines(self) -> int:
        if self.name == "LDSM":
            return 4 if "4" in self.parts else 2 if "2" in self.parts else 1
        return 1 if self.name == "SHFL" else max(1, self.width() // 4)

    def columns(self) -> int:
        """N of wgmma."""
        return int(re.search(r"64x(\d+)x16", self.opcode)[1])

    def operand_clocks(self) -> float:
        """Of shared memory, for wgmma of a warpgroup: B, and A if it is there too."""
        return (self.columns() + (0 if re.search(r"^R\d+, R\d+, gdesc", self.operands) else 64)) * 32 / SHARED_BYTES

    def pipe(self, sm: str):
        """(pipe, clocks that it is busy)"""
        if self.name == "HGMMA":
            return "HMMA", max(16 * self.columns() * 16 / WGMMA_PRODUCTS, self.operand_clocks())
        if self.name == "HMMA":
            return "HMMA", INTERVALS[sm]["HMMA"]
        if self.name in XU:
            return "xu", XU_INTERVAL
        if self.name in FMA:
            return "fma", ALU_INTERVAL if self.name.startswith("I") else INTERVALS[sm]["fma"]
        if self.name in SHARED:  # which the schedulers share
            return "shared", SCHEDULERS * self.lines()
        return ("alu", ALU_INTERVAL) if self.counts["alu"] else (None, 0)


def add(a: dict, b: dict, sign: int = 1) -> dict:
    return {f: a[f] + sign * b[f] for f in FIELDS}


def total(code: list) -> dict:
    return {f: sum(i.counts[f] for i in code) for f in FIELDS}


def parse(text: str) -> dict:
    """{function: [Instruction]}. The control bits are the upper ones of an instruction's 128."""
    functions, code, lines = {}, None, text.splitlines()
    for i, line in enumerate(lines):
        if "Function : " in line:
            code = functions.setdefault(line.split("Function : ")[1].strip(), [])
        elif code is not None and (found := re.match(r"\s+/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([A-Z0-9_.a-z]+)\s*([^;]*);", line)):
            high = re.search(r"/\* 0x([0-9a-f]{16}) \*/", lines[i + 1])
            code.append(Instruction(int(found[1], 16), bool(found[2]), found[3], found[4].strip(), int(high[1], 16) >> 41))
    return functions


class Graph:
    """Basic blocks, by the address where they begin."""

    def __init__(self, code: list):
        self.entry, self.blocks, self.next, self.exits = code[0].address, {}, {}, set()
        jumps, leaders = {}, {self.entry}
        for i, one in enumerate(code):
            leaves = one.name == "CALL" and one.guarded  # a far jump out of a loop, on sm_80
            if one.name not in ("BRA", "EXIT", "RET", "BRX", "JMP") and not leaves:
                continue
            target = re.search(r"0x([0-9a-f]+)\s*$", one.operands) if one.name in ("BRA", "JMP") or leaves else None
            conditional = one.guarded or (one.name == "BRA" and re.search(r"\bU?P\d|\bUR\d", one.operands) is not None)
            jumps[one.address] = (int(target[1], 16) if target else None, conditional)
            leaders |= {jumps[one.address][0]} if target else set()
            leaders |= {code[i + 1].address} if i + 1 < len(code) else set()
        block = None
        for i, one in enumerate(code):
            if one.address in leaders:
                if block is not None:
                    self.next.setdefault(block, [one.address])
                block = one.address
                self.blocks[block] = []
            self.blocks[block].append(one)
            if one.address in jumps:
                target, conditional = jumps[one.address]
                self.next[block] = [target] if target is not None else []
                if conditional and i + 1 < len(code):
                    self.next[block].append(code[i + 1].address)
                if target is None:
                    self.exits.add(block)
        self.next.setdefault(block, [])
        self.back, self.order = self.search()

    def search(self):
        """Back edges, and the blocks in topological order without them."""
        back, order, open_, stack = [], [], {self.entry: True}, [(self.entry, iter(self.next[self.entry]))]
        while stack:
            node, rest = stack[-1]
            for other in rest:
                if open_.get(other):
                    back.append((node, other))
                elif other not in open_:
                    open_[other] = True
                    stack.append((other, iter(self.next[other])))
                    break
            else:
                open_[node] = False
                order.append(node)
                stack.pop()
        return back, order[::-1]

    def best(self, begin: int, ends: set) -> list:
        """The instructions of the way that counts from begin to one of the ends."""
        key = lambda node: (lambda c: (c["flops"], c["bytes"], -c["instructions"]))(reached[node])
        reached, before, back = {begin: total(self.blocks[begin])}, {}, set(self.back)
        for node in self.order:
            for other in self.next[node] if node in reached else []:
                if (node, other) in back:
                    continue
                old, was = reached.get(other), before.get(other)
                new = add(reached[node], total(self.blocks[other]))
                if old is None or (new["flops"], new["bytes"], -new["instructions"]) > key(other):
                    reached[other], before[other] = new, node
        found = [e for e in ends if e in reached]
        if not found:
            return []
        way = [max(found, key=key)]
        while way[-1] != begin:
            way.append(before[way[-1]])
        return [one for node in reversed(way) for one in self.blocks[node]]

    def ways(self):
        """The whole way, and that through the main loop."""
        loops = [self.best(head, {latch}) for latch, head in self.back]
        loops = [way for way in loops if total(way)["flops"] > 0]
        return self.best(self.entry, self.exits), max(loops, key=lambda w: (total(w)["flops"], -len(w)), default=[])


def simulate(code: list, warps: int, sm: str, turns: int) -> float:
    """Clocks of a turn in which each of `warps` warps executes the code: the mean over the later half of so many turns, or, with one
    turn, until the last warp has ended. Of the warps that can issue, the first does, as the oldest on hardware: so they drift apart."""
    if not code:
        return 0.0
    code = [(one, *one.pipe(sm)) for one in code]
    place, ready, boards = [0] * warps, [0.0] * warps, [[0.0] * 6 for _ in range(warps)]
    groups, copies = [[] for _ in range(warps)], [0.0] * warps
    products, product = [[] for _ in range(warps)], [0.0] * warps  # groups of wgmma, the last one's end
    free, issue, length = dict.fromkeys(("HMMA", "fma", "alu", "xu", "shared"), 0.0), 0.0, len(code)
    issued, half, end = 0, 0.0, warps * turns * length
    while issued < end:
        best, when = -1, 0.0
        for w in range(warps):
            if turns == 1 and place[w] == length:
                continue
            one, pipe, _ = code[place[w] % length]
            at = max([issue, ready[w]] + [boards[w][b] for b in range(6) if one.waits >> b & 1])
            if pipe:
                at = max(at, free[pipe] - QUEUES.get(pipe, 0))
            if best < 0 or at < when:
                best, when = w, at
        one, pipe, busy = code[place[best] % length]
        issue, ready[best], begin = when + 1, when + one.stall, when
        if pipe:
            begin = max(when, free[pipe])
            free[pipe] = begin + busy
        if one.writes < 6:
            boards[best][one.writes] = begin + LATENCIES.get(one.name, USUAL_LATENCY)
        if one.reads < 6:
            boards[best][one.reads] = max(boards[best][one.reads], begin + READ_LATENCY)
        if one.name == "HGMMA":
            free["shared"] = max(free["shared"], when) + one.operand_clocks()
            product[best] = begin + busy + WGMMA_LATENCY
            if "gsb0" in one.operands:
                products[best].append(product[best])
        elif one.name == "WARPGROUP" and (left := re.search(r"gsb0, 0x([0-9a-f]+)", one.operands)):
            done = products[best][: max(0, len(products[best]) - int(left[1], 16))]
            ready[best] = max([ready[best], *done])
            products[best] = products[best][len(done) :]
        elif one.name == "LDGSTS":
            copies[best] = max(copies[best], begin + LATENCIES["LDGSTS"])
        elif one.name == "LDGDEPBAR":
            groups[best].append(copies[best])
            copies[best] = 0.0
        elif one.name == "DEPBAR" and (left := re.search(r"SB0, 0x([0-9a-f]+)", one.operands)):
            arrived = groups[best][: max(0, len(groups[best]) - int(left[1], 16))]
            ready[best] = max([ready[best], *arrived])
            groups[best] = groups[best][len(arrived) :]
        elif one.name == "BAR":
            ready[best] += BARRIER
        place[best] += 1
        issued += 1
        if issued == end // 2:
            half = when
    return when if turns == 1 else 2 * (when - half) / turns


def run(*command) -> str:
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


def demangled(text: str) -> str:
    return subprocess.run(["c++filt"], input=text, check=True, capture_output=True, text=True).stdout


def short(name: str) -> str:
    """Without namespaces, parameters and spaces. Of the types of 16 bits there is one."""
    name, depth = re.sub(r"tll::|\(anonymous namespace\)::|^void ", "", name), 0
    for i, c in enumerate(name):
        depth += {"<": 1, ">": -1}.get(c, 0)
        if c == "(" and depth == 0:
            name = name[:i]
            break
    return re.sub(r"\(\w+\)(\d)", r"\1", name.replace(" ", ""))


def rows_of(cubin: pathlib.Path, pattern: str, sm: str, cuobjdump: str) -> list:
    resources, threads, rows, name = {}, {}, [], None
    for line in demangled(run(cuobjdump, "-res-usage", cubin)).splitlines():
        if found := re.match(r"\s*Function (.*):$", line):
            name = short(found[1])
        elif found := re.search(r"REG:(\d+) .*SHARED:(\d+)", line):
            resources[name] = (int(found[1]), int(found[2]))
    lines = demangled(run(cuobjdump, "-elf", cubin).replace("\n.nv.info.", "\n.nv.info. ")).splitlines()
    for i, line in enumerate(lines):
        if line.startswith(".nv.info. "):
            name = short(line.removeprefix(".nv.info. ").strip())
        elif "EIATTR_MAX_THREADS" in line:
            threads[name] = int(re.search(r"0x([0-9a-f]+)", lines[i + 2])[1], 16)
    wanted = "half" if int(sm) < 80 else "bf16"
    for function, code in parse(demangled(run(cuobjdump, "-sass", cubin))).items():
        name = short(function)
        if not re.fullmatch(pattern, name) or not re.search(rf"<{wanted}\b", name):
            continue
        whole, loop = Graph(code).ways()
        if not whole:  # a trap: the kernel is for other architectures
            continue
        once = add(total(whole), total(loop), -1)
        clocks = [simulate(loop, n, sm, 6) for n in WARPS]
        first = [simulate(whole, n, sm, 1) for n in WARPS] if loop else [0] * len(WARPS)
        clocks_once = [max(0, f - c) for f, c in zip(first, clocks)]
        cells = [", ".join(f"{c[f]:g}" if isinstance(c[f], float) else str(c[f]) for f in FIELDS) for c in (once, total(loop))]
        cells += [", ".join(str(round(c)) for c in four) for four in (clocks_once, clocks)]
        name = re.sub(rf"<{wanted}\b,?", "<", name).replace("<>", "")
        registers, shared = resources[short(function)]
        fields = f'"{name}", {sm}0, {threads[short(function)]}, {registers}, {shared}, ' + ", ".join("{" + c + "}" for c in cells)
        rows.append((name, int(sm), "    {" + fields + "},"))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuobjdump", default="cuobjdump")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--cubins", default="build/cubins", type=pathlib.Path)
    parser.add_argument("--output", default="kernels/kernel_counts.inc", type=pathlib.Path)
    parser.add_argument("sm", nargs="*", default=["75", "80", "90"])
    options = parser.parse_args()
    os.chdir(pathlib.Path(__file__).resolve().parents[2])
    options.cubins.mkdir(parents=True, exist_ok=True)
    newest = max(p.stat().st_mtime for p in pathlib.Path("kernels").glob("*.*") if p.suffix in (".cu", ".cuh", ".h"))
    rows = []
    for source, pattern in SOURCES.items():
        for sm in options.sm:
            wgmma = source.endswith("_wgmma")
            if wgmma and sm != "90":
                continue
            cubin = options.cubins / f"{source}.{sm}.cubin"
            if not cubin.exists() or cubin.stat().st_mtime < newest:
                run(options.nvcc, "-std=c++20", "-O3", "-I.", "-DFMT_USE_CONSTEXPR=1", f"-arch=sm_{sm}{'a' * wgmma}", "-cubin", "-o", cubin,
                    f"kernels/{source}.cu")  # fmt: skip
            found = rows_of(cubin, pattern, sm, options.cuobjdump)
            print(f"{source} sm_{sm}: {len(found)} kernels", file=sys.stderr)
            rows += found
    rows.sort()
    version = re.search(r"V[\d.]+", run(options.nvcc, "--version"))[0]
    options.output.write_text(f"""// Written by dev/cost/count_instructions.py from the machine code of nvcc {version}; run it again when a kernel changes.
// Name without the 16-bit type; compute capability; threads of a block; registers of a thread; bytes of static shared memory; of a
// warp, once and in a turn of its main loop: {", ".join(FIELDS)}; clocks once and of a turn, with {WARPS} warps a scheduler.
// clang-format off
""" + "\n".join(text for _, _, text in rows) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
