"""None of these: how unlike all that a classifier has learned from a picture is, and from where on it says so.

Source:
    maximum softmax: Hendrycks, Gimpel, arXiv 1610.02136; energy: Liu et al., arXiv 2010.03759, §3; Mahalanobis: Lee et
    al., arXiv 1807.03888, §2, on the last features alone; neighbours: Sun et al., arXiv 2204.06507, §3.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

Score = Literal["max_softmax", "energy", "mahalanobis", "neighbours"]
SCORES: tuple[Score, ...] = get_args(Score)

PositiveInt = Annotated[int, Field(ge=1)]


class RejectionOptions(BaseModel):
    """What builds a `Rejection` again.

    Attributes:
        score: by what pictures are told.
        threshold: score from which on a picture is none of these.
        rate: share of pictures of known classes, not learned from, that this rejects; 0…1.
        features: D.
        references: rows that are kept: pictures for ``"neighbours"``, classes for ``"mahalanobis"``, else 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    score: Score
    threshold: float
    rate: Annotated[float, Field(gt=0, lt=1)]
    features: PositiveInt
    references: Annotated[int, Field(ge=0)]


class Rejection(nn.Module):
    """Scores how unlike the known ones a picture is.

    ``"max_softmax"``: one minus the largest probability. ``"energy"``: minus the logarithm of the sum of the logits'
    exponentials. ``"mahalanobis"``: squared distance from the nearest class mean, by the covariance within classes.
    ``"neighbours"``: distance from the nearest picture learned from, of embeddings of length 1; so a class of which a
    single picture was taught is known, too.

    Args:
        options: see there.

    Attributes:
        references: float32 `[R, D]`: class means, or embeddings of length 1.
        whitening: float32 `[D, D]` for ``"mahalanobis"``: distances are those of ``x @ whitening``; else `[0, D]`.
    """

    references: Tensor
    whitening: Tensor

    def __init__(self, options: RejectionOptions):
        super().__init__()
        self.options = options
        self.register_buffer("references", torch.zeros(options.references, options.features))
        rows = options.features if options.score == "mahalanobis" else 0
        self.register_buffer("whitening", torch.zeros(rows, options.features))

    @property
    def needs_embeddings(self) -> bool:
        """Whether it looks at embeddings, not at logits alone."""
        return self.options.references > 0

    @torch.inference_mode()
    def forward(self, logits: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """Scores, float32 `[N]`; the larger, the less known.

        Args:
            logits: float32 `[N, K]`, before any temperature.
            embeddings: float32 `[N, D]`; needed where `needs_embeddings`.
        """
        match self.options.score:
            case "max_softmax":
                return 1 - logits.softmax(dim=1).amax(dim=1)
            case "energy":
                return -logits.logsumexp(dim=1)
        assert embeddings is not None
        if self.options.score == "mahalanobis":
            return torch.cdist(embeddings @ self.whitening, self.references @ self.whitening).square().amin(dim=1)
        return torch.cdist(functional.normalize(embeddings), self.references).amin(dim=1)
