"""Masked autoencoder (MAE) for vision transformers: the encoder sees a part of an image only.

He et al. 2022, arXiv:2111.06377, as SSL4EO-S12 (Wang et al. 2023) and SpectralEarth (Braham et al.
2025) train it. Patches that are hidden are dropped before the first layer: of SpectralEarth's
encoder before the spectral adapter, which looks at single pixels, so that its batch norm hears
nothing of what is hidden either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import nn

from mmearth.api import PretrainSpec
from mmearth.errors import ModelError
from mmearth.models.encoders.vit import ViTEncoder
from mmearth.pretraining.autoencoder import MaskedAutoencoder, check_sides
from mmearth.pretraining.losses import PlainSum
from mmearth.pretraining.method import Options, only_image, read_options
from mmearth.pretraining.modality import Modality
from mmearth.pretraining.optimisation import Optimisation

from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed  # isort: skip  after mmearth.models.smp
from timm.models.vision_transformer import Block  # isort: skip

STD = 0.02  # of what is drawn at first, as in the published code
HEAD_WIDTH = 32  # channels of an attention head of the decoder: 16 heads of 512


class MAEOptions(Options):
    """Options of MAE.

    Attributes:
        mask_ratio: share of patches that is hidden; by default 0.75, and 0.9 of hyperspectral
            images (SpectralEarth).
        decoder_width: channels of the decoder, a multiple of 32.
        decoder_depth: its blocks; by default 8, and 1 of hyperspectral images (SpectralEarth).
    """

    mask_ratio: float | None = Field(None, gt=0, lt=1)
    decoder_width: int = Field(512, ge=HEAD_WIDTH, multiple_of=HEAD_WIDTH)
    decoder_depth: int | None = Field(None, ge=1)


class MAE(MaskedAutoencoder):
    """Encoder, and a decoder that is thrown away.

    Positions are a fixed sine and cosine, in the encoder too.

    Args:
        encoder: transformer; its neck takes no part.
        image: what it is shown, and tells.
        mask_ratio: share of patches that is hidden.
        width: channels of the decoder.
        depth: its blocks.
    """

    optimisation = Optimisation(warm_up=40 / 800)
    encoder: ViTEncoder

    def __init__(
        self, encoder: ViTEncoder, image: Modality, *, mask_ratio: float, width: int, depth: int
    ) -> None:
        super().__init__([image], encoder.patch, mask_ratio, PlainSum())
        self.encoder = encoder
        position: nn.Parameter = encoder.vit_core.pos_embed  # type: ignore[assignment]
        side = int((position.shape[1] - 1) ** 0.5)
        position.data = torch.cat(
            [position.new_zeros(1, 1, encoder.width), _positions(side, side, encoder.width)], dim=1
        )
        position.requires_grad_(False)
        self.proj = nn.Linear(encoder.width, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.decoder = nn.Sequential(
            *(Block(width, width // HEAD_WIDTH, qkv_bias=True) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, self.patch**2 * image.channels)
        for part in (self.proj, self.decoder, self.head):
            part.apply(_initialise)
        nn.init.normal_(self.mask_token, std=STD)

    def tell(
        self, image: torch.Tensor, visible: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See ``MaskedAutoencoder.tell``."""
        seen = self.encoder.visible_tokens(image, visible)  # (B, 1 + visible, width)
        known = self.proj(seen)
        count, rows, cols = visible.shape
        tokens = self.mask_token.to(known.dtype).repeat(count, rows * cols, 1)
        tokens[visible.flatten(1)] = known[:, 1:].flatten(0, 1)
        positions = _positions(rows, cols, known.shape[-1]).to(known)
        decoded = self.norm(self.decoder(torch.cat([known[:, :1], tokens + positions], dim=1)))
        told = self.head(decoded[:, 1:]).float()
        return seen[:, 1:].mean(dim=1), {self.modalities[0].name: told}

    def facts(self) -> dict[str, Any]:
        """Return mask ratio and decoder."""
        return {
            "mask ratio": self.mask_ratio,
            "decoder": f"{len(self.decoder)} blocks of {self.proj.out_features} channels",
        }


def _positions(rows: int, cols: int, width: int) -> torch.Tensor:
    """Return the place of each patch as sines and cosines. (1, rows x cols, width) float32."""
    return build_sincos2d_pos_embed([rows, cols], width)[None]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build(
    encoder: nn.Module, modalities: Sequence[Modality], spec: PretrainSpec, places: int | None
) -> MAE:
    """Build the method.

    Args:
        encoder: of ``build_encoder``.
        modalities: the image first; the others are left aside.
        spec: the request.
        places: that it learns from; they are no matter.

    Raises:
        ModelError: if the encoder is no transformer.
        InputError: if crops cannot be cut into its patches, other modalities are asked for, or an
            option is wrong.
    """
    options = read_options(MAEOptions, spec)
    if not isinstance(encoder, ViTEncoder):
        raise ModelError(
            f"The method {spec.method} teaches encoders vit-… and specvit-… (transformers), not "
            f"{spec.encoder}.",
            "Choose one of those, vit-small-p16 for example, or another method.",
        )
    check_sides(spec.crop, spec.crop, encoder.patch)
    ratio, depth = (0.9, 1) if encoder.spectral else (0.75, 8)
    return MAE(
        encoder,
        only_image(modalities, spec),
        mask_ratio=options.mask_ratio or ratio,
        width=options.decoder_width,
        depth=options.decoder_depth or depth,
    )
