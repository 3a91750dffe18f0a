import pytest
import torch
from torch import nn

from eyebright.errors import InputSizeError
from eyebright.inspection.diagram import make_diagram
from eyebright.inspection.summary import summarise
from eyebright.inspection.trace import trace, without_weights
from eyebright.layers.network import Network
from eyebright.models.catalog import list_models
from eyebright.models.create import create_model


def on_meta(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


# https://distill.pub/2019/computing-receptive-fields (Araujo, Norris, Sim), of the last map; AlexNet's, VGG's and the
# Inceptions' kernels and strides are the same there. ResNet-50 has its strides elsewhere there.
PUBLISHED_FIELDS = {"alexnet": 195, "vgg16": 212, "inception_v2": 699, "inception_v3": 1311, "inception_v4": 2071}


@pytest.mark.parametrize(("name", "pixels"), PUBLISHED_FIELDS.items())
def test_published_receptive_fields(name, pixels):
    fields = [step.receptive_field for step in trace(without_weights(on_meta(name)), 299)]
    assert [field for field in fields if field is not None][-1] == (pixels, pixels)


@pytest.mark.parametrize(
    ("name", "size", "stage"), [("resnet20_cifar", 120, "stage2"), ("googlenet", 150, "inception3b")]
)
def test_a_receptive_field_is_where_gradient_comes_from(name, size, stage):
    """Of one value in the middle of a stage's output, the gradient reaches just that many pixels."""
    model = create_model(name, seed=0).eval()
    diagram = make_diagram(model, size)
    expected = next(s.receptive_field for s in diagram.stages if s.name == stage)
    x = torch.rand(1, 3, size, size, requires_grad=True)
    output = model.forward_stages(x)[stage]
    output[0, :, output.shape[2] // 2, output.shape[3] // 2].sum().backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    columns = x.grad.abs().sum((0, 1, 2)).nonzero()
    assert (int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)) == expected


@pytest.mark.parametrize("name", list_models())
def test_a_diagram_holds_everything_once(name):
    model = on_meta(name)
    diagram, summary = make_diagram(model), summarise(model)
    assert [stage.name for stage in diagram.stages] == [
        s for s, modules in model.stages().items() if any(type(m) is not nn.Sequential or len(m) for m in modules)
    ]
    assert sum(stage.parameters for stage in diagram.stages) == summary.parameters
    assert sum(stage.multiply_adds for stage in diagram.stages) == summary.multiply_adds
    outputs = without_weights(model).forward_stages(
        torch.empty(1, model.in_channels, model.default_input, model.default_input, device="meta")
    )
    assert {s.name: s.output_shape for s in diagram.stages} == {k: tuple(v.shape[1:]) for k, v in outputs.items()}
    layers = sum(unit.times * sum(len(box.lines) for box in unit.boxes if box.kind != "join")
                 + unit.times * sum(len(box.lines) - 1 for box in unit.boxes if box.kind == "join")
                 for stage in diagram.stages for unit in stage.units)  # fmt: skip
    assert layers == len(summary.layers)


def test_blocks_are_folded_and_counted():
    stage3 = next(s for s in make_diagram(on_meta("resnet152")).stages if s.name == "stage3")
    assert [(unit.path, unit.times) for unit in stage3.units] == [("layer3.0", 1), ("layer3.1", 35)]
    assert [len(unit.boxes) for unit in stage3.units] == [5, 4]
    vgg = make_diagram(on_meta("vgg16"))
    assert all(unit.times == 1 for stage in vgg.stages for unit in stage.units)


def test_what_follows_a_layer_alone_is_in_its_box():
    (unit,) = make_diagram(on_meta("resnet18")).stages[1].units
    assert [box.lines for box in unit.boxes] == [
        ("conv 3×3, 64→64", "batch norm", "ReLU"), ("conv 3×3, 64→64", "batch norm"), ("add", "ReLU"),
    ]  # fmt: skip
    assert unit.boxes[2].inputs == (unit.boxes[1].number, unit.entry)
    _, unit = make_diagram(on_meta("resnet18", preactivation=True)).stages[1].units
    assert [box.lines for box in unit.boxes][-1] == ("add",)
    assert [box.kind for box in unit.boxes] == ["other", "convolution", "convolution", "join"]


def test_branches_of_an_inception_module():
    stages = {stage.name: stage for stage in make_diagram(on_meta("googlenet")).stages}
    (unit,) = stages["inception3a"].units
    assert [[box.lines[0] for box in row] for row in unit.branches()] == [
        ["conv 1×1, 192→64"],
        ["conv 1×1, 192→96", "conv 3×3, 96→128"],
        ["conv 1×1, 192→16", "conv 3×3, 16→32"],
        ["max-pool 3×3", "conv 1×1, 192→32"],
    ]
    assert unit.boxes[-1].lines == ("concatenate",)
    assert len(unit.boxes[-1].inputs) == 4
    forked = make_diagram(on_meta("inception_v4")).stages[5].units[0]
    assert len(forked.branches()) == 8
    assert forked.times == 3


class Scaled(Network):
    """Does something between its layers that is neither a sum nor a concatenation."""

    default_input = smallest_input = 8
    head_name = "output"

    def __init__(self):
        super().__init__()
        self.body = Doubling()
        self.output = nn.Linear(4 * 36, 5)


class Doubling(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        return torch.flatten(self.conv(x) * 2, 1)


def test_operations_between_layers_are_named():
    steps = trace(without_weights(Scaled()), 8)
    assert [(step.operation, step.path, step.inputs) for step in steps] == [
        ("Conv2d", "body.conv", (-1,)), ("mul", "body", (0,)), ("flatten", "body", (1,)), ("Linear", "output", (2,)),
    ]  # fmt: skip
    assert steps[2].receptive_field is None


def test_a_picture_that_is_too_small(refuses):
    with refuses(InputSizeError, "alexnet was given pictures of 40×40"):
        make_diagram(on_meta("alexnet"), 40)
