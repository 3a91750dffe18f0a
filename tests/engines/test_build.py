import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from eyebright.classifier import ROWS, Classifier
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.engines.build import ENGINES, INT8, build_engine, check_engine, prepare_some
from eyebright.engines.choose import TOLERANCES, answers, compare
from eyebright.errors import DataError, EngineError, InputSizeError
from eyebright.models.create import create_model

# quantised, an untrained network's answers lie nowhere in particular, only near
WITHIN = {"compiled": TOLERANCES["float32"], "openvino": TOLERANCES["float32"], "bfloat16": TOLERANCES["bfloat16"]}


def build(classifier, name, pictures):
    if name in ("openvino", INT8):
        pytest.importorskip("openvino")
    if name == INT8:
        pytest.importorskip("nncf")
    return build_engine(classifier, name, pictures if name == INT8 else None)


@pytest.mark.filterwarnings("ignore:quantised")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "compiled")) for name in ENGINES]
)
def test_every_engine_answers_as_the_network_and_each_picture_for_itself(name, classifier, pictures, inputs):
    reference, before = answers(classifier, inputs), classifier.engine
    fast = build(classifier, name, pictures)
    difference, agreement = compare(answers(fast, inputs), reference)
    if name in WITHIN:
        assert difference <= WITHIN[name].probability and agreement >= WITHIN[name].agreement
    assert difference < 0.2
    whole = fast.logits(inputs)
    for index in (0, 1, ROWS, 3 * ROWS + 1):
        assert torch.equal(fast.logits(inputs[index : index + 1])[0], whole[index])
    assert classifier.engine is before and torch.equal(answers(classifier, inputs), reference)
    assert fast.engine_name.split()[0] == name


def test_the_network_itself_is_an_engine_in_either_number_format(classifier):
    half = build_engine(classifier, "bfloat16")
    assert (half.engine, half.plan.number_format, half.engine_name) == (None, "bfloat16", "bfloat16")
    back = build_engine(half, "float32")
    assert (back.plan, back.engine_name) == (classifier.plan, "float32")


def test_a_compiled_network_is_given_batches_of_one_size(classifier, inputs, monkeypatch):
    seen = []

    def compile_slowly(model, **options):
        return lambda piece: (seen.append(len(piece)), model(piece))[1]

    monkeypatch.setattr(torch, "compile", compile_slowly)
    fast = build_engine(classifier, "compiled")
    assert torch.equal(fast.logits(inputs), classifier.logits(inputs))
    assert seen == [ROWS] * 4
    assert fast.engine_name == "compiled float32"
    seen.clear()
    small = replace(classifier, prepare=Prepare(crop=32))
    assert torch.equal(build_engine(small, "compiled").logits(inputs), small.logits(inputs))
    assert seen == [4 * ROWS]


def test_an_unknown_engine_is_refused(classifier, refuses):
    with refuses(EngineError, "no engine 'openvin'") as raised:
        build_engine(classifier, "openvin")
    assert "openvino" in raised.value.remedy


@pytest.mark.parametrize(("name", "hidden"), [("openvino", "openvino"), (INT8, "nncf")])
def test_without_its_packages_an_engine_says_what_to_install(classifier, refuses, monkeypatch, name, hidden):
    monkeypatch.setitem(sys.modules, hidden, None)
    with refuses(EngineError, rf"needs (openvino and )?{hidden}, not installed"):
        build_engine(classifier, name)


def test_openvino_answers_on_the_processor_alone(classifier, refuses):
    pytest.importorskip("openvino")
    with refuses(EngineError, "asked for on the device 'cuda'"):
        check_engine("openvino", replace(classifier.plan, device="cuda"))


def test_without_a_compiler_nothing_is_compiled(classifier, refuses, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with refuses(EngineError, "finds no compiler"):
        build_engine(classifier, "compiled")


def test_what_an_engine_cannot_do_is_said(classifier, inputs, refuses, monkeypatch):
    def fail(piece):
        raise RuntimeError("no kernel\n" + "and a trace " * 100)

    monkeypatch.setattr(torch, "compile", lambda model, **options: fail)
    with refuses(EngineError, r"'compiled' failed with resnet20_cifar: no kernel and a .{250,300} …\n"):
        build_engine(classifier, "compiled").logits(inputs)


def test_an_engine_is_not_applied_densely(classifier, inputs, refuses, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    with refuses(EngineError, "'compiled float32' was to be applied densely"):
        build_engine(classifier, "compiled").dense_logits(inputs)
    assert build_engine(classifier, "bfloat16").dense_logits(inputs).shape == (50, 3)


def test_pictures_of_a_wrong_size_are_refused_as_by_the_network(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    model = create_model("lenet5", num_classes=2, seed=0)
    fast = build_engine(Classifier(model, ("a", "b"), Prepare(channels=1)), "compiled")
    with pytest.raises(InputSizeError, match="exactly 32×32"):
        fast.logits(torch.zeros(1, 1, 40, 40))


def test_too_few_pictures_to_calibrate_with_are_refused(classifier, pictures, refuses):
    pytest.importorskip("nncf")
    with refuses(DataError, "95 pictures to calibrate"):
        build_engine(classifier, INT8, pictures.select(range(95)))
    with refuses(DataError, "0 pictures to calibrate"):
        build_engine(classifier, INT8)


class Growing:
    """Pictures of ever other sizes."""

    labels, classes, groups = np.zeros(100, dtype=np.int64), ("a", "b", "c"), None

    def __len__(self):
        return 100

    def read(self, index, at_least=None):
        return np.zeros((32, 32 + index, 3), dtype=np.uint8)


def test_calibration_wants_pictures_of_one_size(classifier, refuses):
    pytest.importorskip("nncf")
    assert prepare_some(classifier, Growing(), 3) is None
    with refuses(DataError, "pictures of different sizes"):
        build_engine(classifier, INT8, Growing())


@pytest.mark.filterwarnings("ignore:quantised")
def test_a_quantised_network_takes_the_size_that_it_was_calibrated_with(classifier, pictures, refuses):
    fast = build(classifier, INT8, pictures)
    with refuses(EngineError, "pictures of 40×36 pixels"):
        fast.logits(torch.zeros(1, 3, 40, 36))


def test_some_pictures_are_taken_evenly_from_all(classifier, pictures):
    some = prepare_some(classifier, pictures, 4)
    assert torch.equal(some, torch.cat([classifier.prepare(pictures.pixels[index]) for index in (0, 33, 66, 99)]))
    few = Images(pictures.pixels[:3], pictures.labels[:3], pictures.classes)
    assert len(prepare_some(classifier, few, 10)) == 3
