"""Steps that are recorded or compiled. What a CUDA graph does is played on a processor; a GPU must show the rest."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from eyebright.data.sources import load_data
from eyebright.data.split import Splits
from eyebright.device import can_compile, choose_plan
from eyebright.errors import DeviceError, SpeedWarning
from eyebright.training.fit import Fit, Report
from eyebright.training.graphs import MOST_KEPT, CudaGraph, Graphs
from eyebright.training.recipe import load_recipe


class Rerun:
    """Recording leaves gradients and outputs somewhere, and changes nothing; replaying does the work into those."""

    made = 0

    def __init__(self, model, work, *inputs):
        type(self).made += 1
        self.model, self.work, self.inputs = model, work, inputs
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.random.fork_rng():
            self.outputs = work(*inputs)
        model.load_state_dict(before)
        self.gradients = [parameter.grad for parameter in model.parameters()]
        for tensor in (*self.outputs, *self.gradients):
            if tensor is not None:
                tensor.fill_(torch.nan)

    def replay(self):
        for parameter in self.model.parameters():
            parameter.grad = None
        new = self.work(*self.inputs)
        with torch.no_grad():
            for kept, tensor in zip(self.outputs, new, strict=True):
                kept.copy_(tensor)
            for kept, parameter in zip(self.gradients, self.model.parameters(), strict=True):
                assert (kept is None) == (parameter.grad is None)
                if kept is not None:
                    kept.copy_(parameter.grad)
                parameter.grad = None


@pytest.fixture
def played():
    """Has a Fit record its steps so."""

    def play(fit):
        Rerun.made = 0
        fit.graphs = Graphs(fit.model.parameters(), lambda work, *inputs: Rerun(fit.model, work, *inputs))
        return fit

    return play


def make_fit(*changes, device="cpu", execution="plain", **others):
    recipe = load_recipe("lenet5-digits", ["training.epochs=3", "training.batch_size=16", *changes])
    train, val = (load_data("digits").train.select(range(*ends)) for ends in ((0, 72), (72, 96)))
    plan = replace(choose_plan(device, recipe.training.number_format, execution=execution), **others)
    return Fit(recipe, Splits(train, val, None), seed=1, plan=plan)


def train(fit):
    """(what it reports, without times; the whole state in the end)."""
    reports = [
        replace(report, seconds=0.0, images_per_second=0.0) for report in fit.steps() if isinstance(report, Report)
    ]
    return reports, fit.state().tensors


def assert_alike(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for name in one[1]:
        assert torch.equal(one[1][name], other[1][name]), name


KINDS = {
    "plain": [],
    "pieces, clipped": ["training.accumulate=3", "training.clip_norm=0.1"],
    "dropout, average": ['model.name="cnn_mnist"', "training.ema_decay=0.9"],
    "batch norm": ['model.normalisation="batch"', 'training.optimizer="sgd"', "training.learning_rate=0.05"],
    "head first": ["training.head_epochs=1", "training.stage_epochs=1"],
    "frozen": ['training.freeze=["*", "!head"]'],
    "embeddings": [
        'training.freeze=["*", "!head"]', "training.embeddings=true", "augment.random_crop=false", "augment.padding=0",
        "augment.rotation=0",
    ],
    "weighted, smoothed": ['training.class_weights="balanced"', "training.label_smoothing=0.1"],
    "sides": ['model.name="cnn_mnist"', "training.sides=[[0.0,28],[0.5,30]]"],
    "mixed": ["augment.mixup=0.4"],
    "easy": ["training.skip_easy=[0.5,0.6]"],
    "muon": ['training.optimizer="muon"'],
    "observed": ["training.observe_steps=2"],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_steps_are_the_same_steps(kind, played):
    wanted = train(make_fit(*KINDS[kind]))
    assert_alike(train(played(make_fit(*KINDS[kind]))), wanted)
    # batches of 16 and, last in an epoch, of fewer, once they come again; a stage lasts an epoch, mixed ones differ
    assert Rerun.made == {"mixed": 0, "head first": 3, "sides": 3}.get(kind, 2)


def goes_on(make):
    """Asserts that a run that was interrupted ends like one that was not."""
    straight, broken, resumed = make(), make(), make()
    for report in broken.steps():
        if report.step == 8:
            break
    resumed.load_state(broken.state())
    reports, tensors = train(straight)
    again, theirs = train(resumed)
    assert_alike((reports[-len(again) :], tensors), (again, theirs))


def test_a_run_goes_on_with_recorded_steps(played):
    goes_on(lambda: played(make_fit()))


def test_what_callers_are_given_is_theirs_to_keep(played):
    answers = {}
    for name, change in (("plain", lambda fit: fit), ("recorded", played)):
        fit = change(make_fit())
        fit.on_logits = lambda indices, logits, name=name: answers.setdefault(name, []).append(logits)
        train(fit)
    assert len(answers["plain"]) == 15
    assert all(torch.equal(*pair) for pair in zip(*answers.values(), strict=True))


def test_where_nothing_can_be_recorded_steps_are_plain_ones(played):
    wanted = train(make_fit())
    fit = played(make_fit())
    tried = []

    def refuse(work, *inputs):
        tried.append(work)
        first = next(fit.model.parameters())
        first.grad = torch.ones_like(first)  # as far as it came
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    fit.graphs = Graphs(fit.model.parameters(), refuse)
    with pytest.warns(SpeedWarning, match=r"graphs \(operation not permitted when stream is capturing\): they"):
        assert_alike(train(fit), wanted)
    assert len(tried) == 1


def test_few_graphs_are_kept_and_the_one_not_used_for_longest_goes():
    layer = nn.Linear(2, 1)

    def work(x):
        y = layer(x).sum()
        y.backward()
        return (y.detach(),)

    graphs = Graphs(layer.parameters(), lambda work, *inputs: Rerun(layer, work, *inputs))

    def do(rows):
        layer.zero_grad()
        x = torch.full((rows, 2), float(rows))
        assert graphs.do(work, x)[0] == layer(x).sum()
        assert layer.bias.grad.item() == rows

    Rerun.made = 0
    for rows in [*range(1, MOST_KEPT + 1)] * 2:
        do(rows)
    assert Rerun.made == MOST_KEPT
    do(1)  # now the second is the oldest
    do(MOST_KEPT + 1)
    do(1)
    assert Rerun.made == MOST_KEPT
    do(2)  # is met as a new one
    do(2)
    assert Rerun.made == MOST_KEPT + 1


@pytest.fixture
def compiler(monkeypatch):
    """In the place of torch's compiler: what it was given to compile, for which sizes it was then called."""
    seen = []

    def compile(answer, dynamic):
        assert dynamic is False

        def compiled(inputs):
            seen.append((answer, len(inputs)))
            return answer(inputs)

        return compiled

    monkeypatch.setattr(torch, "compile", compile)
    return seen


def test_compiled_steps_are_the_compilers(compiler):
    wanted = train(make_fit(kernels="torch"))
    fit = make_fit(compiled=True, kernels="torch")
    assert_alike(train(fit), wanted)
    assert compiler == [*[(fit.model, 16)] * 4, (fit.model, 8)] * 3  # as a whole, in training alone


def test_auxiliary_heads_are_compiled_too(compiler):
    big = ['model.name="googlenet"', "training.auxiliary_weight=0.3"]
    fit = make_fit(*big, compiled=True, kernels="torch")
    next(fit.steps())
    assert compiler == [(fit.model.forward_training, 16)]


@pytest.mark.parametrize("error", ["InternalTorchDynamoError", "FailOnRecompileLimitHit"])
def test_what_the_compiler_cannot_do_is_said(error, monkeypatch, refuses):
    def fail(inputs):
        assert torch._dynamo.config.recompile_limit > 8
        raise getattr(torch._dynamo.exc, error)("no kernel" + 1000 * " and more")

    monkeypatch.setattr(torch, "compile", lambda answer, dynamic: fail)
    with refuses(DeviceError, r"compiler failed with a training step: no kernel and .{250,300} …\n"):
        next(make_fit(compiled=True, kernels="torch").steps())


@pytest.mark.slow
@pytest.mark.skipif(not can_compile("cpu"), reason="no compiler here")
@pytest.mark.parametrize("number_format", ["float32", "bfloat16"])
def test_compiled_steps_learn_as_plain_ones_do_and_go_on_to_the_same_bits(number_format):
    changes = [*KINDS["dropout, average"], "model.dropout=0.0", f"training.number_format={number_format!r}"]
    (plain, _), (compiled, _) = (train(make_fit(*changes, execution=how)) for how in ("plain", "compiled"))
    near = 1e-4 if number_format == "float32" else 0.05
    assert [report.train_loss for report in compiled] == pytest.approx([r.train_loss for r in plain], rel=near)
    dropping = [change for change in changes if change != "model.dropout=0.0"]
    goes_on(lambda: make_fit(*dropping, execution="compiled"))


@pytest.mark.cuda
@pytest.mark.filterwarnings("error::eyebright.errors.SpeedWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_recorded_steps_give_the_bits_of_plain_ones(kind, monkeypatch):
    wanted = train(make_fit(*KINDS[kind], device="cuda"))
    made = []
    monkeypatch.setattr(CudaGraph, "replay", lambda graph, replay=CudaGraph.replay: made.append(graph) or replay(graph))
    assert_alike(train(make_fit(*KINDS[kind], device="cuda", execution="graph")), wanted)
    assert bool(made) == (kind != "mixed")
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


@pytest.mark.cuda
@pytest.mark.parametrize("execution", ["graph", "compiled"])
def test_on_a_gpu_a_run_goes_on_to_the_same_bits(execution):
    goes_on(lambda: make_fit(*KINDS["dropout, average"], device="cuda", execution=execution))
