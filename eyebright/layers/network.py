"""The contract that every network keeps: named stages, a head that can be exchanged, a smallest input."""

from __future__ import annotations

import math
from typing import Any, Self, cast

import torch.nn.functional as F
from torch import Tensor, nn

from eyebright.errors import InputSizeError, ModelError
from eyebright.layers.blocks import STYLE, Style
from eyebright.layers.fused import in_a_row, in_turn


class Network(nn.Module):
    """A convolutional network as an ordered table of named stages.

    A subclass defines its layers under the published state-dict keys and says in `stages` which of them make up which
    stage, in the order in which they are applied. `forward` is that table applied to a batch, so summaries, transfer
    and explanations can speak of stages by name and never disagree with what is computed.

    Attributes:
        default_input: height and width, in pixels, of the pictures the network was designed for.
        smallest_input: least height and width, in pixels, that it can take.
        fixed_input: whether it takes pictures of `default_input` only (a dense layer directly on the feature map).
        style: what stands after its layers, and its first weights.
        pictures_wanted: training pictures from which some first weights are computed, see `meet`; 0: none.
        head_name: the state-dict prefix of the last dense layer, for example ``"classifier.6"``; or of what stands in
            its place (see `layers.heads`).
        model_name: the name under which `create_model` built it; empty when a builder was called directly.
        model_options: what builds it again: ``create_model(model_name, **model_options)``.
        still: state-dict prefixes of frozen modules that are in evaluation mode always: their statistics stay as they
            are (see `layers.freezing`).
    """

    default_input: int
    smallest_input: int
    fixed_input: bool = False
    pictures_wanted: int = 0
    style: Style = STYLE
    head_name: str
    still: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.model_name = ""
        self.model_options: dict[str, Any] = {}

    def stages(self) -> dict[str, tuple[nn.Module, ...]]:
        """The stages in order: name → the modules that are applied one after the other.

        Without published state-dict keys to keep, the direct children are the stages, in the order of their definition,
        and the last dense layer is the stage ``"head"``.
        """
        return {"head" if name == self.head_name else name: (module,) for name, module in self.named_children()}

    def initialise(self, layer: nn.Module) -> None:
        """Gives one layer its first weights: those that `style` chooses, or the paper's."""
        if self.style.initialisation == "paper":
            self.initialise_paper(layer)
        else:
            self.style.initialise(layer)

    def initialise_paper(self, layer: nn.Module) -> None:
        """Gives one layer the first weights of the paper; here those that torch gave it, a subclass says otherwise."""

    def train(self, mode: bool = True) -> Self:
        """Into training mode or out of it; what is `still` stays in evaluation mode."""
        super().train(mode)
        for name in self.still:
            self.get_submodule(name).eval()
        return self

    def meet(self, pictures: Tensor) -> None:
        """Computes first weights that depend on the data; here there are none.

        Args:
            pictures: float `[N, C, H, W]`, the first `pictures_wanted` for training, normalised, on the CPU.
        """

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        """The output of every stage by name, in order; the last one is what `forward` returns.

        Args:
            x: pictures, float `[N, C, H, W]`, normalised as the network expects.

        Raises:
            InputSizeError: the pictures are smaller than `smallest_input`, or not of the one size it takes.
        """
        self.check_input_size(*x.shape[-2:])
        outputs = {}
        for name, modules in self.stages().items():
            outputs[name] = x = in_turn(modules, x)
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[N, num_classes]` of pictures, float `[N, C, H, W]`.

        Raises:
            InputSizeError: the pictures are smaller than `smallest_input`, or not of the one size it takes.
        """
        self.check_input_size(*x.shape[-2:])
        # as forward_stages, but no stage's output is kept in memory
        return in_turn([module for modules in self.stages().values() for module in modules], x)

    def score_map(self, x: Tensor) -> Tensor:
        """Logits at every place of larger pictures, by the same weights applied as convolutions alone.

        Pools to a fixed size and flattening are left out, and each dense layer becomes a convolution over as many
        places as it was built for. With global average pooling, the mean over all places is what `forward` gives.

        Args:
            x: pictures, float `[N, C, H, W]`, normalised as the network expects; the network is in evaluation mode.

        Returns:
            `[N, num_classes, h, w]`.

        Raises:
            InputSizeError: the pictures are smaller than the network was built for.

        Source:
            Sermanet et al.: OverFeat, arXiv 1312.6229, §3.5; Simonyan, Zisserman, arXiv 1409.1556, §3.2.
        """
        height, width = x.shape[-2:]
        if min(height, width) < self.smallest_input:
            raise self._too_small_for_a_map(height, width)
        for module in in_a_row(module for modules in self.stages().values() for module in modules):
            if isinstance(module, nn.Linear):
                side = math.isqrt(module.in_features // x.shape[1])
                if min(x.shape[2:]) < side:
                    raise self._too_small_for_a_map(height, width)
                x = F.conv2d(x, module.weight.view(len(module.weight), -1, side, side), module.bias)
            elif module is self.head:
                x = module(x.movedim(1, -1)).movedim(-1, 1)
            elif not isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d | nn.Flatten):
                x = module(x)
        return x

    def auxiliary_heads(self) -> dict[str, nn.Module]:
        """Heads that help to train and are not used otherwise: name of the stage whose output they take → head."""
        return {}

    def forward_training(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits `[N, num_classes]` of pictures, as `forward` gives them, and those of each auxiliary head.

        Raises:
            InputSizeError: the pictures are smaller than `smallest_input`, or not of the one size it takes.
        """
        outputs, heads = self.forward_stages(x), self.auxiliary_heads()
        return list(outputs.values())[-1], tuple(head(outputs[stage]) for stage, head in heads.items())

    def remove_auxiliary_heads(self) -> None:
        """Takes auxiliary heads away, for good: what the network answers stays the same."""
        heads = list(self.auxiliary_heads().values())
        for name, child in list(self.named_children()):
            if any(child is head for head in heads):
                setattr(self, name, None)
        if "auxiliary_heads" in self.model_options:
            self.model_options = {**self.model_options, "auxiliary_heads": False}

    @property
    def head(self) -> nn.Linear:
        """The last dense layer."""
        standing = self.standing_head
        return cast(nn.Linear, standing[-1] if isinstance(standing, nn.Sequential) else standing)

    @property
    def standing_head(self) -> nn.Module:
        """What stands in the place of the last dense layer: that layer itself, or another head (see `layers.heads`)."""
        return self.get_submodule(self.head_name)

    @property
    def last_name(self) -> str:
        """The state-dict prefix of `head`."""
        standing = self.standing_head
        return f"{self.head_name}.{len(standing) - 1}" if isinstance(standing, nn.Sequential) else self.head_name

    def last_pool(self) -> nn.Module:
        """The pooling over all places whose values the head is given.

        Raises:
            ModelError: there are dense layers before the head.
        """
        modules = list(in_a_row(module for modules in self.stages().values() for module in modules))
        for module in reversed(modules[: modules.index(self.head)]):
            if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d) and module.output_size in (1, (1, 1)):
                return module
            if list(module.parameters()):
                break
        raise ModelError(
            f"{self._name} does not pool over all places before its last layer",
            expected="a network that does, such as a ResNet, where its last maps are asked for",
            remedy="take what its last layer is given",
        )

    @property
    def num_classes(self) -> int:
        """How many logits come out."""
        return self.head.out_features

    @property
    def in_channels(self) -> int:
        """How many channels a picture has: 1 grey, 3 colour."""
        layers = (layer for modules in self.stages().values() for module in modules for layer in module.modules())
        return next(layer.in_channels for layer in layers if isinstance(layer, nn.Conv2d))

    def make_head(self, num_classes: int) -> nn.Module:
        """A fresh last layer with `num_classes` outputs, with its first weights."""
        new = nn.Linear(self.head.in_features, num_classes)
        self.initialise(new)
        return new

    def replace_head(self, num_classes: int) -> None:
        """Puts a freshly initialised last layer with `num_classes` outputs in the place of the last one.

        Auxiliary heads get one too.

        Raises:
            ModelError: `num_classes` is less than 1.
        """
        if num_classes < 1:
            raise ModelError(
                f"{self._name} was asked for a head of {num_classes} classes",
                expected="at least 1",
                remedy="give the number of classes of the data",
            )
        some = next(self.parameters())
        with some.device:
            put_module(self, self.last_name, self.make_head(num_classes).to(some.dtype))
            for auxiliary in self.auxiliary_heads().values():
                name, last = [(name, m) for name, m in auxiliary.named_modules() if isinstance(m, nn.Linear)][-1]
                fresh = nn.Linear(last.in_features, num_classes).to(last.weight.dtype)
                self.initialise(fresh)
                put_module(auxiliary, name, fresh)
        options = {**self.model_options, "num_classes": num_classes}
        if not isinstance(self.standing_head, nn.Sequential):  # of two dense layers the last is fresh
            options.pop("head", None)
        self.model_options = options

    def check_input_size(self, height: int, width: int) -> None:
        """Says whether the network can take pictures of this size, in pixels, before anything is computed.

        Raises:
            InputSizeError: they are smaller than `smallest_input`, or not of the one size it takes.
        """
        if self.fixed_input and (height, width) != (self.default_input, self.default_input):
            raise InputSizeError(
                f"{self._name} was given pictures of {height}×{width} pixels",
                expected=f"exactly {self.default_input}×{self.default_input}",
                remedy=f"prepare them with `crop = {self.default_input}`",
            )
        if min(height, width) < self.smallest_input:
            raise InputSizeError(
                f"{self._name} was given pictures of {height}×{width} pixels",
                expected=f"at least {self.smallest_input}×{self.smallest_input}: below that a feature map is empty",
                remedy=f"scale the pictures up with `resize = [{self.smallest_input}, {self.smallest_input}]` or more",
            )

    def _too_small_for_a_map(self, height: int, width: int) -> InputSizeError:
        return InputSizeError(
            f"{self._name} was to be applied densely to pictures of {height}×{width} pixels",
            expected="pictures whose last map is as large as its dense layers were built for, or larger",
            remedy=f"scale them up: it was designed for {self.default_input}×{self.default_input}",
        )

    @property
    def _name(self) -> str:
        return self.model_name or type(self).__name__


def put_module(parent: nn.Module, name: str, new: nn.Module) -> None:
    """Puts a layer in the place of the one of that name, in the same mode."""
    inner, _, child = name.rpartition(".")
    setattr(parent.get_submodule(inner), child, new.train(parent.get_submodule(name).training))
