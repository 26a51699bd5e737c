"""Multiply 8-bit activations with 4-bit or 8-bit weights, with code compiled at run time for the present CPU.

Knows numbers and addresses; nothing of torch or models. The package llvmlite provides the compiler as a plain wheel;
without it, or on CPUs other than x86-64 with AVX2, `load` raises an error with the reason.

A weight (N rows of K) is cut into tiles of `lanes` rows, a tile into blocks of 64 columns:

* 4 bits: a block is 8 steps × lanes × 4 bytes; byte b of step s contains the codes of columns 8 s + b (low half) and 8
  s + 4 + b (high half). A code is looked up in 16 bytes, so any 4-bit format is supported, including NF4.
* 8 bits: a block is 16 steps × lanes × 4 bytes; byte b of step s is column 4 s + b.

Every row has a float16 scale for each block. Activations are rounded to 8 bits with a scale for every row and block of
64, as llama.cpp does for Q4_0; the table is QLoRA's NF4 (Dettmers et al., NeurIPS 2023). An outlier would reduce the
precision of its 63 neighbours: `finely` also multiplies the rounding remainder in such blocks. Sums within a block are
exact in int32; blocks are summed in float32.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from .code import FIELDS, GIVE_WAY, LINE, TEAM
from .products import Products


class KernelsUnavailable(Exception):
    """The kernels are not available on this machine; the message has the reason."""


class ProductWork(ctypes.Structure):
    """One product y = x · wᵀ: addresses, sizes, and the next row and tile to process.

    x (rows, 64 · blocks) float32 or bfloat16; codes, x_scales and x_sums are buffers for its rounded form: int8 like x,
    float32 and int32 (rows, blocks). y (rows, stride ≥ lanes · tiles) like x. unit: bits of a float32 that multiplies
    all scales.
    """

    _fields_ = [(name, ctypes.c_int64) for name in FIELDS]


class ThreadTeam:
    """Threads that take part in products, and sleep when there are none.

    Torch's OpenMP waits at every product until the last thread was scheduled, which takes milliseconds on a busy
    machine; here only the threads that joined are waited for. They are ordinary Python threads, so this works the same
    on all systems.

    Args:
        member: function of the team's memory that takes part until no work was offered for a while.
    """

    def __init__(self, member):
        self._member = member
        self._memory = ctypes.create_string_buffer(LINE * (len(TEAM) + 2))
        self.address = -(-ctypes.addressof(self._memory) // LINE) * LINE
        self._wake: list[threading.Event] = []
        self._process = os.getpid()

    def call(self, others: int) -> None:
        """Wake `others` threads in addition to the caller's; missing ones are started."""
        if self._process != os.getpid():  # threads don't survive a fork
            self.__init__(self._member)
        while len(self._wake) < others:
            self._wake.append(threading.Event())
            threading.Thread(target=self._run, args=(self._wake[-1],), daemon=True, name="medfm-product").start()
        for event in self._wake[:others]:
            if not event.is_set():
                event.set()

    def _run(self, wake: threading.Event) -> None:
        while True:
            wake.wait()
            self._member(self.address)
            wake.clear()


@dataclass(frozen=True)
class Kernels:
    """Functions compiled for one instruction set.

    Args:
        name: of the instruction set.
        lanes: rows in a tile.
        bias: added to stored weights, because AVX512-VNNI multiplies unsigned by signed bytes.
        multiply: (bits of the weights, dtype of x) → function of the addresses of a `ProductWork` and of the team.
        finely: the same with 15 bits in blocks with outliers, for few rows; needs buffers for twice the codes.
        team: the threads.
        engine: owns the machine code.
    """

    name: str
    lanes: int
    bias: int
    multiply: dict[tuple[int, str], Callable[[int, int], None]]
    finely: dict[tuple[int, str], Callable[[int, int], None]]
    team: ThreadTeam
    engine: object


def instruction_set(features: dict[str, bool]) -> str:
    """Return the best of 'avx512vnni', 'avxvnni' and 'avx2' among a CPU's features; "" if there is none."""
    if features.get("avx512vnni") and features.get("avx512bw") and features.get("avx512vl"):
        return "avx512vnni"
    if features.get("avx2") and features.get("fma") and features.get("f16c"):
        return "avxvnni" if features.get("avxvnni") else "avx2"
    return ""


@cache
def load(instructions: str = "") -> Kernels:
    """Compile the kernels for this machine; takes about half a second, once.

    Args:
        instructions: a value of `instruction_set`; "" for the best one of the machine.

    Raises:
        KernelsUnavailable: if llvmlite is missing, or the CPU lacks the instructions.
    """
    try:
        import llvmlite.binding as llvm
    except (ImportError, OSError) as error:
        raise KernelsUnavailable(f"the package llvmlite is missing ({error})") from error
    try:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = dict(llvm.get_host_cpu_features())
        name = instructions or instruction_set(features)
        if not name or not llvm.get_process_triple().startswith(("x86_64", "amd64")):
            raise KernelsUnavailable("this CPU has no AVX2")
        vector = {"avx512vnni": 16}.get(name, 8)
        system = ctypes.windll.kernel32.SwitchToThread if os.name == "nt" else ctypes.CDLL(None).sched_yield
        llvm.add_symbol(GIVE_WAY, ctypes.cast(system, ctypes.c_void_p).value)
        text = Products(vector, name != "avx2").module()
        wanted = {key: on for key, on in features.items() if vector == 16 or not key.startswith(("avx512", "avx10"))}
        wanted["avxvnni"] = name == "avxvnni"
        flags = ",".join(("+" if on else "-") + key for key, on in wanted.items())
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu="x86-64-v3" if vector == 8 else llvm.get_host_cpu_name(), features=flags, opt=3, jit=True
        )
        module = llvm.parse_assembly(text)
        module.verify()
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
    except RuntimeError as error:
        raise KernelsUnavailable(f"LLVM could not compile ({' '.join(str(error).split())[:200]})") from error
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)
    member = ctypes.CFUNCTYPE(None, ctypes.c_int64)(engine.get_function_address("member"))
    multiply, finely = (
        {
            (bits, dtype): kind(engine.get_function_address(f"{name}_{bits}_{dtype}"))
            for bits in (4, 8)
            for dtype in ("bf16", "fp32")
        }
        for name in ("multiply", "multiply_finely")
    )
    return Kernels(name, vector, 128 if name != "avx2" else 0, multiply, finely, ThreadTeam(member), engine)
