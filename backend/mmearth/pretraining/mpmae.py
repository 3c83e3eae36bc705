"""Multi-pretext masked autoencoder (MP-MAE): see a part of an image, tell the rest and more.

Nedungadi et al. 2024 (MMEarth), after MMEarth-train's models/fcmae.py; with the image as its only
modality it is the fully convolutional masked autoencoder of Woo et al. 2023 (ConvNeXt V2).

The published code has one decoder, which it runs once for each modality with the same result; here
it runs once. What it does wrong is not repeated: no data reaches the encoder as 0, never as NaN;
targets are what they were before the mask; and no data is no target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from mmearth.api import PretrainSpec
from mmearth.errors import ModelError
from mmearth.models.encoders.convnextv2 import EPSILON, Block, ConvNeXtV2Encoder
from mmearth.pretraining.autoencoder import MaskedAutoencoder, check_sides
from mmearth.pretraining.losses import PlainSum, Weighting
from mmearth.pretraining.masking import MaskedConvNeXtV2
from mmearth.pretraining.method import Options, read_options
from mmearth.pretraining.modality import Modality
from mmearth.pretraining.optimisation import Optimisation

from timm.layers.norm import LayerNorm2d  # isort: skip  after mmearth.models.smp

STD = 0.02  # of what is drawn at first, as in the published code


class MPMAEOptions(Options):
    """Options of MP-MAE; the defaults are MMEarth's.

    Attributes:
        mask_ratio: share of patches that is hidden.
        decoder_width: channels of the decoder.
        decoder_depth: its blocks.
        weighting: how the losses of several modalities are added up.
    """

    mask_ratio: float = Field(0.6, gt=0, lt=1)
    decoder_width: int = Field(512, ge=8)
    decoder_depth: int = Field(1, ge=1)
    weighting: Literal["uncertainty", "equal"] = "uncertainty"


class MPMAE(MaskedAutoencoder):
    """Encoder, decoder and a head for each modality.

    Args:
        encoder: reads the first modality.
        modalities: what is predicted; the first is the image, which is what the encoder is shown.
        mask_ratio: share of patches that is hidden.
        width: channels of the decoder.
        depth: its blocks.
        weighted: weigh tasks by their uncertainty.
    """

    optimisation = Optimisation()

    def __init__(
        self,
        encoder: ConvNeXtV2Encoder,
        modalities: Sequence[Modality],
        *,
        mask_ratio: float = 0.6,
        width: int = 512,
        depth: int = 1,
        weighted: bool = True,
    ) -> None:
        masked = MaskedConvNeXtV2(encoder)
        weighting = Weighting(len(modalities)) if weighted else PlainSum()
        super().__init__(modalities, masked.patch, mask_ratio, weighting)
        self.encoder = encoder
        self._masked = masked
        self.proj = nn.Conv2d(masked.width, width, 1)
        self.mask_token = nn.Parameter(torch.empty(1, width, 1, 1))
        self.decoder = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = LayerNorm2d(width, eps=EPSILON)  # of what whole images are told from
        self.heads = (
            nn.ModuleDict(  # "of-": a modality may be called like an attribute of the dictionary
                {f"of-{one.name}": _head(one, width, self.patch) for one in modalities}
            )
        )
        for part in (self.proj, self.decoder, self.heads):
            part.apply(_initialise)
        nn.init.normal_(self.mask_token, std=STD)

    def tell(
        self, image: torch.Tensor, visible: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See ``MaskedAutoencoder.tell``."""
        seen = self._masked(image.contiguous(memory_format=torch.channels_last), visible)
        tokens = torch.where(visible[:, None], self.proj(seen), self.mask_token.to(seen.dtype))
        decoded = self.decoder(tokens)
        whole = self.norm(decoded).mean(dim=(2, 3))
        told = {}
        for one, head in zip(self.modalities, self.heads.values(), strict=True):
            if one.level == "pixel":
                told[one.name] = head(decoded).flatten(2).transpose(1, 2).float()
            else:
                told[one.name] = head(whole).float()
        # Of visible patches only: the others are 0, and as many in each image.
        return seen.detach().float().sum(dim=(2, 3)) / visible[0].sum(), told

    def facts(self) -> dict[str, Any]:
        """Return mask ratio, decoder, weighting and normalisation."""
        return {
            "mask ratio": self.mask_ratio,
            "decoder": f"{len(self.decoder)} blocks of {self.proj.out_channels} channels",
            "weighting": "uncertainty" if isinstance(self.weighting, Weighting) else "equal",
            "response normalisation": "over the visible patches of each image",
        }


def _head(modality: Modality, width: int, patch: int) -> nn.Module:
    if modality.level == "pixel":
        return nn.Conv2d(width, patch**2 * modality.channels, 1)
    return nn.Linear(width, modality.channels)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build(
    encoder: nn.Module, modalities: Sequence[Modality], spec: PretrainSpec, places: int | None
) -> MPMAE:
    """Build the method.

    Args:
        encoder: of ``build_encoder``.
        modalities: the image first.
        spec: the request.
        places: that it learns from; they are no matter.

    Raises:
        ModelError: if the encoder is no ConvNeXt V2.
        InputError: if crops cannot be cut into its patches, or an option is wrong.
    """
    options = read_options(MPMAEOptions, spec)
    if not isinstance(encoder, ConvNeXtV2Encoder):
        raise ModelError(
            f"The method {spec.method} teaches encoders mmearth-… (ConvNeXt V2), not "
            f"{spec.encoder}.",
            "Choose one of those, mmearth-atto-p16 for example.",
        )
    method = MPMAE(
        encoder,
        modalities,
        mask_ratio=options.mask_ratio,
        width=options.decoder_width,
        depth=options.decoder_depth,
        weighted=options.weighting == "uncertainty",
    )
    check_sides(spec.crop, spec.crop, method.patch)
    return method
