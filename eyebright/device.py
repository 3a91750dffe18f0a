"""What machine this is: device, number format, memory layout, threads. The only file that asks."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eyebright.errors import DeviceError
from eyebright.kernels.build import has_tiles, in_use, kernels_version, load_kernels

# mallopt(3): never give the top of the heap back (M_TRIM_THRESHOLD), ask for more at once (M_TOP_PAD), no mapping of
# their own for large blocks (M_MMAP_MAX)
_KEEP_FREED_MEMORY = ((-1, -1), (-2, 64 * 2**20), (-4, 0))

NumberFormat = Literal["float32", "bfloat16"]
Execution = Literal["plain", "graph", "compiled"]


@dataclass(frozen=True)
class Plan:
    """How the arithmetic of a run is carried out: chosen once, written into the run, followed when it is resumed.

    Attributes:
        device: ``"cpu"`` or ``"cuda"`` (``"cuda:1"`` for the second one).
        number_format: of convolutions and matrix products; weights, their sums and losses are float32 always.
        memory_layout: ``"channels_last"``: the channels of one pixel lie side by side in memory.
        threads: processor threads that one operation may use.
        compiled: whether training steps go through torch's compiler.
        instruction_set: what the processor offers to torch, for example ``"AVX512"``.
        torch_version: the version that computed it.
        kernels: of convolutions, normalisation, pools, dropout and large dense layers in training: ``"torch"``, or
            eyebright's own and their version, for example ``"eyebright-1b2c3d4e"``, which multiply less often and read
            memory fewer times.
        graphs: whether training steps are recorded as CUDA graphs.
    """

    device: str
    number_format: NumberFormat
    memory_layout: Literal["channels_last", "contiguous"]
    threads: int
    compiled: bool
    instruction_set: str
    torch_version: str
    kernels: str = "torch"
    graphs: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain values, for a file."""
        return asdict(self)

    @property
    def execution(self) -> Execution:
        """What gives such a plan, asked of `choose_plan`."""
        return "compiled" if self.compiled else "graph" if self.graphs else "plain"

    @property
    def has_kernels(self) -> bool:
        """Whether layers may take our kernels here."""
        return self.kernels != "torch" and load_kernels() is not None

    def differences(self, other: Plan) -> dict[str, tuple[Any, Any]]:
        """What differs between two plans: name → (here, there)."""
        mine, theirs = self.as_dict(), other.as_dict()
        return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}

    def tell_differences(self, before: Plan) -> str:
        """What differs from the plan before, in words; ``""`` where nothing does."""
        differences = self.differences(before).items()
        return ", ".join(f"{name} {here} (was {there})" for name, (here, there) in differences)

    def place_model(self, model: nn.Module) -> nn.Module:
        """Moves a model to the device and lays its weights out in memory."""
        model = model.to(self.device)
        if self.memory_layout == "channels_last":
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def place_inputs(self, inputs: Tensor) -> Tensor:
        """Moves what a network takes, `[N, C, H, W]`, to the device and lays it out in memory."""
        layout = torch.channels_last if self.memory_layout == "channels_last" else torch.preserve_format
        return inputs.to(self.device, memory_format=layout)

    def place_pixels(self, pixels: Tensor) -> Tensor:
        """Moves pixels, uint8 `[N, H, W, C]`, to the device."""
        return pixels.to(self.device, non_blocking=True)

    def has_room_for(self, count: int) -> bool:
        """Whether so many bytes may stay on the device beside what a training needs: a quarter of what is free there.

        On the processor itself nothing has to be brought anywhere, so there it is never worth a copy.
        """
        return self.device != "cpu" and 4 * count <= torch.cuda.mem_get_info(self.device)[0]

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """A context in which layers compute in the plan's number format, with its kernels."""
        half = self.number_format == "bfloat16"
        if half:
            torch.clear_autocast_cache()  # within a context of the caller's it would keep roundings of earlier weights
        before = in_use.set(self.has_kernels)
        try:
            with (
                self.exactly(),
                torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16) if half else nullcontext(),
            ):
                yield
        finally:
            in_use.reset(before)

    @contextmanager
    def exactly(self) -> Iterator[None]:
        """A context in which a GPU's convolutions give the same bits each time, and those in float32 are float32's.

        Otherwise torch lets it add in any order, and leave out 13 of the 23 bits of float32's fractions (TF32). This
        holds for the whole process: threads whose contexts overlap must end them in reverse order.
        """
        if self.device == "cpu":
            yield
            return
        cudnn: Any = torch.backends.cudnn
        before = cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision
        try:
            cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision = False, True, "ieee"
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision = before


def choose_plan(
    device: str = "auto", number_format: NumberFormat | Literal["auto"] = "auto", threads: int | None = None,
    *, training: bool = True, execution: Execution | Literal["auto"] = "auto",
) -> Plan:  # fmt: skip
    """The plan for this machine.

    Args:
        device: ``"auto"`` takes a GPU when there is one; otherwise ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        number_format: ``"auto"`` takes bfloat16 where the hardware multiplies it (tensor cores, AMX, AVX-512-BF16)
            and float32 elsewhere.
        threads: for one operation, set for the whole process, as far as there are as many processors; default: as
            torch has it.
        training: whether the plan is good for training: kernels of our own are then compiled where that can be done,
            which takes seconds, once.
        execution: of training steps: ``"plain"``: operation by operation; ``"graph"``: recorded as a CUDA graph, which
            asks a GPU for all of them at once; ``"compiled"``: through torch's compiler, and on a GPU recorded, too;
            ``"auto"``: ``"graph"`` on a GPU, ``"plain"`` elsewhere.

    Raises:
        DeviceError: no such device here, or it cannot carry out steps so.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    _check_device(device)
    if execution == "auto":
        execution = "plain" if device == "cpu" else "graph"
    _check_execution(execution, device)
    if number_format == "auto":
        number_format = "bfloat16" if _multiplies_bfloat16(device) else "float32"
    if threads is not None and threads <= (os.cpu_count() or 1):
        torch.set_num_threads(threads)
    compiled = training and execution == "compiled"
    own = training and device == "cpu" and not compiled and load_kernels() is not None
    return Plan(
        device=device,
        number_format=number_format,
        memory_layout="channels_last",
        threads=torch.get_num_threads(),
        compiled=compiled,
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        torch_version=torch.__version__,
        kernels=f"eyebright-{kernels_version()}" if own else "torch",
        graphs=training and execution != "plain" and device != "cpu",
    )


def nearest_plan(plan: Plan) -> Plan:
    """The plan of this machine that comes nearest to one of another time or machine: the same where that is possible.

    Where its device is not here, another is chosen, and on that what is fastest; but float32 stays float32.
    """
    here = None
    for device, execution in ((plan.device, plan.execution), (plan.device, "auto"), ("auto", plan.execution)):
        with suppress(DeviceError):  # there is no such device, or no compiler
            here = here or _plan_like(plan, device, execution)
    return here or _plan_like(plan, "auto", "auto")


def _plan_like(plan: Plan, device: str, execution: Any) -> Plan:
    if device == "auto":
        return choose_plan(device, "float32" if plan.number_format == "float32" else "auto", execution=execution)
    here = choose_plan(device, plan.number_format, plan.threads, execution=execution)
    alike = plan.kernels == "torch" and here.execution == plan.execution
    return replace(here, kernels="torch") if alike else here


def keep_freed_memory() -> bool:
    """Has the C library keep the memory that tensors free, for the next ones; True where it can (glibc).

    Otherwise every large tensor is made of fresh pages, which the system has to clear first: on a CPU that takes longer
    than most element-wise operations. The process then holds as much memory as it ever needed until it ends.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all(library.mallopt(option, value) == 1 for option, value in _KEEP_FREED_MEMORY)


def can_compile(device: str) -> bool:
    """Whether torch's compiler has here what it works with: a C++ compiler with Python's headers; on a GPU, Triton."""
    compilers = (os.environ.get("CXX", "g++"), "clang++") if device == "cpu" else ("cc", "gcc", "clang")
    headers = Path(sysconfig.get_path("include"), "Python.h")
    triton = device == "cpu" or importlib.util.find_spec("triton") is not None
    return triton and headers.exists() and any(shutil.which(name) for name in compilers)


def describe_machine() -> dict[str, Any]:
    """What a reader of a record needs to know of this machine: processor, cores, memory, GPU, versions."""
    machine: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "multiplies_bfloat16": _multiplies_bfloat16("cpu"),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        bytes_of_memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        machine["memory_gib"] = round(bytes_of_memory / 2**30, 1)
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    return machine


def _check_device(device: str) -> None:
    kind, _, index = device.partition(":")
    there = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if device == "cpu" or (kind == "cuda" and there and (not index or device in there)):
        return
    raise DeviceError(
        f"the device '{device}' is not on this machine",
        expected=" or ".join(["cpu", *there]) + ", or auto",
        remedy="leave `--device` out: the fastest device is then chosen",
    )


def _check_execution(execution: Execution, device: str) -> None:
    if execution == "graph" and device == "cpu":
        raise DeviceError(
            "CUDA graphs were asked for on the processor",
            expected="a GPU: only there are operations asked for ahead of time",
            remedy='leave training.execution out, or set it to "plain"',
        )
    if execution == "compiled" and not can_compile(device):
        raise DeviceError(
            "compiled training steps were asked for, but there is no compiler here",
            expected="g++ or clang++ and Python's headers; on a GPU Triton as well",
            remedy='install them, or set CXX to a C++ compiler; a new run can do with training.execution = "plain"',
        )


def _multiplies_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return has_tiles() or bool(torch.cpu._is_avx512_bf16_supported())  # torch has no public name for this one either


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
