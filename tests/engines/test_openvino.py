import ctypes
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from eyebright.engines import openvino
from eyebright.engines.build import INT8, build_engine
from eyebright.engines.openvino import import_openvino
from eyebright.errors import DataWarning
from eyebright.models.create import create_model

pytest.importorskip("openvino")

SILENT = """
import socket, sys, threading
asked = []
def refuse(self, address): asked.append(address); raise OSError
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda *given, **more: asked.append(given) or refuse(None, given)
import numpy as np
import eyebright as eb
from eyebright.models.create import create_model
pixels = np.random.default_rng(0).integers(0, 256, (96, 32, 32, 1), dtype=np.uint8)
pictures = eb.Images(pixels, np.zeros(96, dtype=np.int64), ("a", "b"))
classifier = eb.Classifier(create_model("lenet5", num_classes=2, seed=0), ("a", "b"), eb.Prepare(channels=1))
for name in ("openvino", "openvino-int8"):
    eb.use_engine(classifier, name, calibrate=pictures)(pixels[0])
assert not asked, asked
assert sys.modules["openvino_telemetry"] is None
assert not [thread for thread in threading.enumerate() if "telemetry" in repr(thread).lower()]
"""


def test_nothing_is_sent_over_the_network(own_cache):
    pytest.importorskip("nncf")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", SILENT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # NNCF draws bars
    assert list(own_cache.glob("engines/int8-*.safetensors"))


def test_who_was_loaded_before_is_silenced(monkeypatch):
    sent = []
    sender = type("TelemetrySender", (), {"send": lambda self, *given: sent.append(given)})
    loaded = types.SimpleNamespace(main=types.SimpleNamespace(TelemetrySender=sender))
    monkeypatch.setitem(sys.modules, "openvino_telemetry", loaded)
    import_openvino()
    sender().send("backend", "message")
    assert not sent


def test_pictures_of_several_sizes_go_through_one_engine(classifier, monkeypatch):
    monkeypatch.setattr(openvino, "KEPT_GRAPHS", 1)
    fast = build_engine(classifier, "openvino")
    for side in (32, 40, 32):
        inputs = torch.randn(3, 3, side, 40, generator=torch.Generator().manual_seed(side))
        torch.testing.assert_close(fast.logits(inputs), classifier.logits(inputs), rtol=1e-4, atol=1e-4)


def test_a_bfloat16_plan_is_passed_on_or_answered_in_float32(classifier, inputs):
    half = replace(classifier, plan=replace(classifier.plan, number_format="bfloat16"))
    fast = build_engine(half, "openvino")
    assert fast.engine_name == "openvino bfloat16"
    torch.testing.assert_close(fast.logits(inputs), classifier.logits(inputs), rtol=0.05, atol=0.2)


def test_one_output_and_two_callers_at_once(noise):
    from eyebright.classifier import Classifier
    from eyebright.data.prepare import Prepare

    model = create_model("cnn_cifar", num_classes=1, seed=0)
    classifier = Classifier(model, ("ant", "bee"), Prepare())
    fast = build_engine(classifier, "openvino")
    batches = [classifier.prepare.normalise(torch.from_numpy(noise(40, 32, 32, 3, seed=seed))) for seed in range(8)]
    with ThreadPoolExecutor(4) as several:
        together = list(several.map(fast.logits, batches))
    for batch, logits in zip(batches, together, strict=True):
        assert torch.equal(logits, fast.logits(batch))
        assert logits.shape == (40, 2)


@pytest.fixture
def quantised(classifier, pictures, inputs, own_cache):
    """The answers of the quantised network, and its file."""
    pytest.importorskip("nncf")
    with pytest.warns(DataWarning, match="of the calibration pictures as before"):  # it has learned nothing
        answers = build_engine(classifier, INT8, pictures).logits(inputs)
    (path,) = own_cache.glob("engines/int8-*.safetensors")
    return answers, path


@pytest.mark.filterwarnings("ignore:quantised")
def test_a_quantised_network_is_kept_for_these_weights_and_pictures(
    quantised, classifier, pictures, inputs, own_cache, monkeypatch
):
    answers, path = quantised
    made = path.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr("nncf.quantize", None)
        assert torch.equal(build_engine(classifier, INT8, pictures).logits(inputs), answers)
    assert path.stat().st_mtime_ns == made
    path.write_bytes(path.read_bytes()[:-1])  # damaged: made again
    assert torch.equal(build_engine(classifier, INT8, pictures).logits(inputs), answers)
    other = replace(classifier, model=create_model("resnet20_cifar", num_classes=3, seed=1))
    assert not torch.equal(build_engine(other, INT8, pictures).logits(inputs), answers)
    assert len(list(own_cache.glob("engines/int8-*"))) == 2


@pytest.mark.filterwarnings("ignore:quantised")
def test_without_a_cache_it_is_quantised_all_the_same(classifier, pictures, inputs, tmp_path, monkeypatch):
    pytest.importorskip("nncf")
    (tmp_path / "file").touch()
    monkeypatch.setenv("EYEBRIGHT_CACHE", str(tmp_path / "file"))
    assert build_engine(classifier, INT8, pictures).logits(inputs).shape == (50, 3)


class SignalStack(ctypes.Structure):
    """What sigaltstack(2) tells."""

    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack():
    stack = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack.place, stack.flags, stack.size


@pytest.mark.skipif(sys.platform != "linux", reason="sigaltstack's structure is laid out differently elsewhere")
@pytest.mark.filterwarnings("ignore:quantised")
@pytest.mark.parametrize("name", ["openvino", INT8])
def test_a_signal_finds_the_stack_it_had_before(classifier, pictures, inputs, own_cache, name):
    if name == INT8:
        pytest.importorskip("nncf")
    before = signal_stack()
    build_engine(classifier, name, pictures).logits(inputs)
    assert signal_stack() == before
