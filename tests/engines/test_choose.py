import json
from dataclasses import replace

import pytest
import torch

from eyebright.classifier import Engine
from eyebright.data.images import Images
from eyebright.engines import choose
from eyebright.engines.build import build_engine
from eyebright.engines.choose import Speed, compare, fastest, use_engine
from eyebright.errors import EngineError
from eyebright.evaluation.evaluate import evaluate
from eyebright.models.create import create_model


@pytest.fixture
def engines(monkeypatch, classifier):
    """Engines that answer as the network does, or fail; name → seconds for each picture, or None.

    `engines.asked` counts how often each was built.
    """

    class Engines(dict):
        wrong = frozenset()

    table = Engines(float32=0.01, compiled=0.003, openvino=0.005)
    table.built = []

    def build(plain, name, calibrate=None):
        table.built.append(name)
        if table.get(name) is None:
            raise EngineError("it is not here", expected="that it is", remedy="install it")
        made = build_engine(plain, "float32")
        model = plain.model if name not in table.wrong else create_model("resnet20_cifar", num_classes=3, seed=9)
        if name != "float32":
            made.engine = Engine(name, lambda inputs: model.eval()(inputs))
        return made

    monkeypatch.setattr(choose, "build_engine", build)
    monkeypatch.setattr(choose, "_seconds", lambda one, inputs: table[one.engine_name] * len(inputs))
    monkeypatch.setattr(choose, "LEAST_PICTURES", 100)
    monkeypatch.setattr(choose, "WORTH_SECONDS", 0.9)
    return table


def test_the_fastest_is_measured_once_kept_and_said(classifier, pictures, engines, own_cache):
    said = []
    chosen = use_engine(classifier, pictures=pictures, say=said.append)
    assert chosen.engine_name == "compiled" and classifier.engine is None
    assert said == ["measuring engines for resnet20_cifar, once on this machine", "answering by the engine compiled"]
    (record,) = own_cache.glob("engines/speeds-*.json")
    assert json.loads(record.read_text())["speeds"]["openvino"]["picture"] == pytest.approx(0.005)
    engines.built.clear()
    assert use_engine(classifier, pictures=pictures).engine_name == "compiled"
    assert sorted(engines.built) == ["compiled", "float32"]
    record.write_text("{}")
    use_engine(classifier, pictures=pictures)
    assert "openvino" in engines.built


def test_another_size_is_measured_anew(classifier, pictures, engines, own_cache):
    larger = Images(pictures.pixels.repeat(2, axis=1), pictures.labels, pictures.classes)
    for one in (pictures, larger):
        use_engine(classifier, pictures=one)
    assert len(list(own_cache.glob("engines/speeds-*.json"))) == 2


def test_few_pictures_wait_for_nothing(classifier, pictures, engines):
    assert use_engine(classifier, pictures=pictures.select(range(99))).engine is None
    assert use_engine(classifier).engine is None
    assert engines.built == []


def test_what_takes_less_than_a_minute_is_not_measured(classifier, pictures, engines, monkeypatch):
    monkeypatch.setattr(choose, "WORTH_SECONDS", 1.1)
    assert use_engine(classifier, pictures=pictures).engine is None
    assert engines.built == []


def test_pictures_of_different_sizes_are_left_to_the_network(classifier, pictures, engines, monkeypatch):
    monkeypatch.setattr(choose, "prepare_some", lambda *_: None)
    assert use_engine(classifier, pictures=pictures).engine is None


@pytest.mark.parametrize("how", ["wrong", "absent"])
def test_who_answers_otherwise_or_not_at_all_is_not_chosen(classifier, pictures, engines, how):
    if how == "wrong":
        engines.wrong = {"compiled"}
    else:
        engines["compiled"] = None
    assert use_engine(classifier, pictures=pictures).engine_name == "openvino"


@pytest.mark.parametrize("how", ["wrong", "absent"])
def test_what_was_measured_is_looked_at_again_with_other_weights(classifier, pictures, engines, how):
    use_engine(classifier, pictures=pictures)
    if how == "wrong":
        engines.wrong = {"compiled"}
    else:
        engines["compiled"] = None
    assert use_engine(classifier, pictures=pictures).engine is None


def test_without_a_cache_it_chooses_all_the_same(classifier, pictures, engines, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EYEBRIGHT_CACHE", str(tmp_path / "file"))
    assert use_engine(classifier, pictures=pictures).engine_name == "compiled"


SPEEDS = {"float32": Speed(0, 0.010), "bfloat16": Speed(0, 0.006), "compiled": Speed(30, 0.002)}


@pytest.mark.parametrize(
    ("usual", "count", "speeds", "expected"),
    [
        ("bfloat16", 10_000, SPEEDS, "compiled"),  # 50 s instead of 60
        ("bfloat16", 8_000, SPEEDS, "bfloat16"),  # 46 s instead of 48: not worth it
        ("bfloat16", 5_000, SPEEDS, "bfloat16"),
        ("float32", 1_000, {"float32": Speed(1, 0.01), "openvino": Speed(1, 0.0095)}, "float32"),
        ("bfloat16", 1_000, {"float32": Speed(1, 0.01)}, "float32"),  # bfloat16 was not within the tolerance
    ],
)
def test_time_to_build_and_a_margin_count(usual, count, speeds, expected):
    assert fastest(speeds, usual, count) == expected


def test_without_compiler_and_packages_there_is_float32(classifier, pictures, inputs, monkeypatch):
    def refuse(name, plan):
        if name != "float32":
            raise EngineError("it is not here", expected="that it is", remedy="install it")

    monkeypatch.setattr("eyebright.engines.build.check_engine", refuse)
    assert list(choose.measure(classifier, inputs)) == ["float32"]


def test_quantised_networks_are_never_chosen_and_real_ones_are_measured(classifier, inputs, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    assert set(choose.measure(classifier, inputs)) <= {"float32", "compiled", "openvino"}
    assert all(speed.build > 0 < speed.picture for speed in choose.measure(classifier, inputs).values())


def test_float32_stands_in_for_bfloat16_beyond_its_tolerance(classifier, inputs, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    half = replace(classifier, plan=replace(classifier.plan, number_format="bfloat16"))
    found = set(choose.measure(half, inputs))
    assert "bfloat16" in found and "float32" not in found
    monkeypatch.setitem(choose.TOLERANCES, "bfloat16", choose.Tolerance(0.0, 1.0))
    assert set(choose.measure(half, inputs)) == {"float32"}


def test_comparing_counts_as_by_hand():
    one = torch.tensor([[0.6, 0.4], [0.2, 0.8], [0.5, 0.5]])
    other = torch.tensor([[0.7, 0.3], [0.55, 0.45], [0.5, 0.5]])
    assert compare(one, other) == (pytest.approx(0.35), pytest.approx(2 / 3))


def test_an_evaluation_says_what_answered(classifier, pictures, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    some = Images(pictures.pixels[:20], pictures.labels[:20], pictures.classes)
    with pytest.warns(UserWarning, match="no pictures of b, c"):
        assert evaluate(classifier, some).as_dict()["engine"] == "float32"
    with pytest.warns(UserWarning, match="no pictures of b, c"):
        assert evaluate(use_engine(classifier, "compiled"), some).as_dict()["engine"] == "compiled float32"
