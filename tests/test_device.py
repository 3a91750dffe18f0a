import json
import platform
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from eyebright.device import Plan, can_compile, choose_plan, describe_machine, keep_freed_memory, nearest_plan
from eyebright.errors import DeviceError


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda name: {"cuda:1": (7, 5)}.get(name, (8, 0)))


def processor_that(monkeypatch, amx, avx512):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)


def plan(**changes):
    facts = {
        "device": "cpu",
        "number_format": "float32",
        "memory_layout": "channels_last",
        "threads": 2,
        "compiled": False,
        "instruction_set": "AVX2",
        "torch_version": "2.13.0",
    }
    return Plan(**facts | changes)


def test_without_a_gpu_the_processor_is_chosen(no_gpu):
    assert choose_plan().device == "cpu"


def test_with_a_gpu_the_gpu_is_chosen(two_gpus):
    assert choose_plan().device == "cuda"


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_a_device_that_is_there_is_taken(two_gpus, name):
    assert choose_plan(name).device == name


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "tpu", "", "cpu:1", "CPU"])
def test_a_device_that_is_not_there_is_refused_and_those_there_are_named(no_gpu, refuses, name):
    with refuses(DeviceError, f"the device '{name}' is not on this machine") as raised:
        choose_plan(name)
    assert raised.value.expected == "cpu, or auto"


@pytest.mark.parametrize("name", ["cuda:2", "cuda:x", "mps"])
def test_a_gpu_too_many_is_refused_and_those_there_are_named(two_gpus, refuses, name):
    with refuses(DeviceError, name) as raised:
        choose_plan(name)
    assert raised.value.expected == "cpu or cuda:0 or cuda:1, or auto"


@pytest.mark.parametrize(
    ("amx", "avx512", "chosen"),
    [(False, False, "float32"), (True, False, "bfloat16"), (False, True, "bfloat16")],
)
def test_bfloat16_is_chosen_where_the_processor_multiplies_it(monkeypatch, amx, avx512, chosen):
    processor_that(monkeypatch, amx, avx512)
    assert choose_plan("cpu").number_format == chosen


@pytest.mark.parametrize(("name", "chosen"), [("cuda:0", "bfloat16"), ("cuda:1", "float32")])
def test_bfloat16_is_chosen_where_the_gpu_multiplies_it(two_gpus, name, chosen):
    assert choose_plan(name).number_format == chosen


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
@pytest.mark.parametrize("multiplies", [False, True])
def test_a_number_format_that_is_asked_for_is_taken(monkeypatch, wanted, multiplies):
    processor_that(monkeypatch, multiplies, multiplies)
    assert choose_plan("cpu", wanted).number_format == wanted


def test_the_plan_tells_what_torch_runs_on():
    chosen = choose_plan("cpu")
    assert chosen.threads == torch.get_num_threads()
    assert chosen.torch_version == torch.__version__
    assert chosen.instruction_set == torch.backends.cpu.get_cpu_capability()


@pytest.fixture
def threads_of_torch(monkeypatch):
    """Three of four processors; what is set afterwards is forgotten after the test."""
    asked = [3]
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: asked[-1])
    monkeypatch.setattr("os.cpu_count", lambda: 4)


@pytest.mark.parametrize(
    ("wanted", "used"), [(None, 3), (1, 1), (4, 4), (5, 3)], ids=["as it is", "one", "all", "too many"]
)
def test_as_many_threads_as_asked_for_are_used_where_there_are_processors(threads_of_torch, wanted, used):
    assert choose_plan("cpu", threads=wanted).threads == used
    assert torch.get_num_threads() == used


@pytest.fixture
def threads():
    """As many threads as torch has now; afterwards it has as many again."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_threads_that_are_asked_for_are_set_for_the_whole_process(monkeypatch, threads):
    monkeypatch.setattr("os.cpu_count", lambda: threads + 1)
    assert choose_plan("cpu", threads=threads + 1).threads == threads + 1
    assert torch.get_num_threads() == threads + 1


def test_more_threads_than_processors_are_not_set(monkeypatch, threads):
    monkeypatch.setattr("os.cpu_count", lambda: threads)
    assert choose_plan("cpu", threads=threads + 1).threads == threads == torch.get_num_threads()


def test_a_plan_goes_through_a_file_unchanged():
    assert Plan(**json.loads(json.dumps(choose_plan("cpu").as_dict()))) == choose_plan("cpu")


def test_a_plan_from_before_there_were_kernels_and_graphs_has_neither():
    assert plan().kernels == "torch" and plan().graphs is False


@pytest.mark.parametrize(
    ("device", "asked", "execution"),
    [
        ("cpu", "auto", "plain"), ("cpu", "plain", "plain"), ("cpu", "compiled", "compiled"),
        ("cuda", "auto", "graph"), ("cuda", "plain", "plain"), ("cuda:1", "graph", "graph"),
    ],
)  # fmt: skip
def test_steps_are_carried_out_as_the_device_likes_it_or_as_asked_for(two_gpus, monkeypatch, device, asked, execution):
    monkeypatch.setattr("eyebright.device.can_compile", lambda device: True)
    chosen = choose_plan(device, execution=asked)
    assert chosen.execution == execution
    assert chosen.graphs == (device != "cpu" and execution != "plain")
    assert choose_plan(chosen.device, execution=chosen.execution) == chosen
    assert choose_plan(device, execution=asked, training=False).execution == "plain"


def test_compiled_steps_on_a_gpu_are_recorded_too(two_gpus, monkeypatch):
    monkeypatch.setattr("eyebright.device.can_compile", lambda device: device == "cuda")
    chosen = choose_plan("cuda", execution="compiled")
    assert chosen.compiled and chosen.graphs and chosen.execution == "compiled"


def test_compiled_steps_are_torchs(monkeypatch):
    monkeypatch.setattr("eyebright.device.can_compile", lambda device: True)
    assert choose_plan("cpu", execution="compiled").kernels == "torch"


def test_a_processor_has_no_cuda_graphs(refuses):
    with refuses(DeviceError, "CUDA graphs were asked for on the processor"):
        choose_plan("cpu", execution="graph")


def test_without_a_compiler_steps_are_not_compiled(refuses, monkeypatch):
    monkeypatch.setattr("eyebright.device.can_compile", lambda device: False)
    with refuses(DeviceError, "there is no compiler here"):
        choose_plan("cpu", execution="compiled")


@pytest.mark.parametrize("callers", ["tf32", "ieee"])
def test_convolutions_on_a_gpu_are_exact(callers):
    flags = torch.backends.cudnn

    def now():
        return flags.benchmark, flags.deterministic, flags.conv.fp32_precision

    first = now()
    try:
        flags.benchmark, flags.conv.fp32_precision = True, callers
        before = now()
        with plan(device="cuda").exactly():
            with plan(device="cuda").exactly():
                assert now() == (False, True, "ieee")
            assert now() == (False, True, "ieee")
        assert now() == before
        with plan().exactly():
            assert now() == before
    finally:
        flags.benchmark, flags.deterministic, flags.conv.fp32_precision = first
    assert flags.allow_tf32  # torch's two ways of asking agree again


@pytest.mark.parametrize(
    ("device", "execution"), [("cpu", "plain"), ("cpu", "compiled"), ("cuda", "graph"), ("cuda:1", "plain")]
)
def test_the_nearest_plan_is_the_same_where_it_can_be(two_gpus, monkeypatch, device, execution):
    monkeypatch.setattr("eyebright.device.can_compile", lambda device: True)
    chosen = choose_plan(device, execution=execution)
    assert nearest_plan(chosen) == chosen
    assert nearest_plan(replace(chosen, kernels="torch")) == replace(chosen, kernels="torch")


def test_without_its_gpu_a_plan_becomes_the_processors_own(no_gpu):
    begun = plan(device="cuda:1", number_format="bfloat16", graphs=True, threads=torch.get_num_threads())
    here = nearest_plan(begun)
    assert here == choose_plan("cpu")
    assert here.tell_differences(begun).startswith("device cpu (was cuda:1)")
    assert "graphs False (was True)" in here.tell_differences(begun)
    assert nearest_plan(plan(device="cuda")).number_format == "float32"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_without_a_compiler_a_compiled_plan_stays_on_its_device(two_gpus, monkeypatch, device):
    monkeypatch.setattr("eyebright.device.can_compile", lambda device: False)
    here = nearest_plan(plan(device=device, compiled=True, graphs=device == "cuda"))
    assert here == choose_plan(device, "float32", 2)


@pytest.mark.parametrize(("execution", "found"), [("plain", "plain"), ("graph", "graph"), ("compiled", "compiled")])
def test_without_its_gpu_a_plan_goes_to_another_as_it_is(two_gpus, monkeypatch, execution, found):
    monkeypatch.setattr("eyebright.device.can_compile", lambda device: True)
    here = nearest_plan(choose_plan("cuda:1", execution=execution))
    assert (here.device, here.execution) == ("cuda:1", found)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    here = nearest_plan(here)
    assert (here.device, here.execution) == ("cuda", found)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    here = nearest_plan(here)
    assert (here.device, here.execution) == ("cpu", "compiled" if execution == "compiled" else "plain")


def test_differences_name_what_differs_here_and_there():
    assert plan().differences(plan()) == {}
    assert plan().differences(plan(threads=8, device="cuda")) == {"device": ("cpu", "cuda"), "threads": (2, 8)}
    assert plan().tell_differences(plan()) == ""
    assert plan().tell_differences(plan(threads=8, device="cuda")) == "device cpu (was cuda), threads 2 (was 8)"


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_a_model_is_laid_out_as_planned_and_keeps_its_values(layout):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2))
    before = [parameter.clone() for parameter in model.parameters()]
    placed = plan(memory_layout=layout).place_model(model)
    assert placed[0].weight.is_contiguous(memory_format=torch.channels_last) == (layout == "channels_last")
    assert all(map(torch.equal, placed.parameters(), before))


def test_pixels_keep_their_values_and_type():
    pixels = torch.arange(24, dtype=torch.uint8).view(1, 2, 4, 3)
    placed = plan().place_pixels(pixels)
    assert placed.dtype == torch.uint8 and torch.equal(placed, pixels)


@pytest.mark.parametrize(("number_format", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_products_are_computed_in_the_plans_format_and_weights_stay_float32(number_format, dtype):
    layer = nn.Linear(4, 2)
    with plan(number_format=number_format).arithmetic():
        assert layer(torch.ones(1, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32
    assert layer(torch.ones(1, 4)).dtype == torch.float32


def test_the_machine_is_described_in_plain_values():
    machine = describe_machine()
    assert json.loads(json.dumps(machine)) == machine
    assert {"system", "python", "torch", "processor", "cores", "threads", "instruction_set"} <= machine.keys()
    assert all(value not in ("", None) for value in machine.values())


def test_memory_is_told_in_gibibytes(monkeypatch):
    monkeypatch.setattr("os.sysconf_names", {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 2}, raising=False)
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 5 * 2**18 // 2, "SC_PAGE_SIZE": 4096}.get, raising=False)
    assert describe_machine()["memory_gib"] == 2.5


def test_a_gpu_is_told_by_its_name(two_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    assert describe_machine()["gpu"] == "NVIDIA H200"


def test_without_a_gpu_none_is_told(no_gpu):
    assert "gpu" not in describe_machine()


@pytest.mark.cuda
def test_on_a_gpu_pixels_and_models_go_there():
    chosen = choose_plan("cuda")
    assert chosen.place_pixels(torch.zeros(1, 2, 2, 3, dtype=torch.uint8)).is_cuda
    assert next(chosen.place_model(nn.Linear(1, 1)).parameters()).is_cuda


CHURN = """
import resource, sys, torch
from eyebright.device import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(20):
    torch.ones(16_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(16_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_freed_memory_is_used_again():
    """20 tensors of 64 MB: 15,600 fresh pages each where pages are not huge, and none of them where they are kept."""
    faults = {
        how: int(subprocess.run([sys.executable, "-c", CHURN, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "as usual")
    }
    assert faults["keep"] < 200 < faults["as usual"]


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()


@pytest.mark.parametrize(
    ("device", "there", "triton", "expected"),
    [
        ("cpu", {"g++", "Python.h"}, False, True),
        ("cpu", {"clang++", "Python.h"}, False, True),
        ("cpu", {"g++"}, False, False),
        ("cpu", {"gcc", "Python.h"}, False, False),
        ("cuda", {"gcc", "Python.h"}, True, True),
        ("cuda", {"gcc", "Python.h"}, False, False),
    ],
)
def test_what_the_compiler_works_with_is_looked_for(monkeypatch, tmp_path, device, there, triton, expected):
    for name in there:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if triton else None)
    assert can_compile(device) == expected
