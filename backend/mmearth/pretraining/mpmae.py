"""Multi-pretext masked autoencoder (MP-MAE): see a part of an image, tell the rest and more.

Nedungadi et al. 2024 (MMEarth), after MMEarth-train's models/fcmae.py; with the image as its only
modality it is the fully convolutional masked autoencoder of Woo et al. 2023 (ConvNeXt V2).

The published code has one decoder, which it runs once for each modality with the same result; here
it runs once. What it does wrong is not repeated: no data reaches the encoder as 0, never as NaN;
targets are what they were before the mask; and no data is no target.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmearth.api import PretrainSpec
from mmearth.errors import InputError, ModelError
from mmearth.models.encoders.convnextv2 import EPSILON, Block, ConvNeXtV2Encoder
from mmearth.pretraining.losses import (
    PlainSum,
    Weighting,
    modality_loss,
    patch_statistics,
    patchify,
    unpatchify,
)
from mmearth.pretraining.masking import MaskedConvNeXtV2, random_mask
from mmearth.pretraining.method import Pretext, Step
from mmearth.pretraining.modality import Batch, Modality

from timm.layers.norm import LayerNorm2d  # isort: skip  after mmearth.models.smp

STD = 0.02  # of what is drawn at first, as in the published code


class MPMAE(Pretext):
    """Encoder, decoder and a head for each modality.

    Args:
        encoder: reads the first modality.
        modalities: what is predicted; the first is the image, which is what the encoder is shown.
        mask_ratio: share of patches that is hidden.
        width: channels of the decoder.
        depth: its blocks.
        weighted: weigh tasks by their uncertainty.
    """

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
        super().__init__()
        self.encoder = encoder
        self._masked = masked = MaskedConvNeXtV2(encoder)
        self.modalities = tuple(modalities)
        self.patch = masked.patch
        self._mask_ratio = mask_ratio
        self.proj = nn.Conv2d(masked.width, width, 1)
        self.mask_token = nn.Parameter(torch.empty(1, width, 1, 1))
        self.decoder = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = LayerNorm2d(width, eps=EPSILON)  # of what whole images are told from
        self.heads = (
            nn.ModuleDict(  # "of-": a modality may be called like an attribute of the dictionary
                {f"of-{one.name}": _head(one, width, self.patch) for one in modalities}
            )
        )
        tasks = len(self.modalities)
        self.weighting: nn.Module = Weighting(tasks) if weighted else PlainSum()
        for part in (self.proj, self.decoder, self.heads):
            part.apply(_initialise)
        nn.init.normal_(self.mask_token, std=STD)

    def forward(self, batch: Batch, random: torch.Generator) -> Step:
        """Hide patches at random, and compute how well everything is told from the others.

        Raises:
            InputError: if the sides of the images are no multiples of the patch.
        """
        visible = self.draw_mask(batch, random)
        seen = self._encode(batch, visible)
        predicted = self._decode(seen, visible)
        hidden = ~visible.flatten(1)
        found = [
            modality_loss(one, predicted[one.name], batch[one.name], hidden, self.patch)
            for one in self.modalities
        ]
        losses, counts = (torch.stack(column) for column in zip(*found, strict=True))
        return Step(
            total=self.weighting(losses, counts),
            losses={
                one.name: loss.detach()
                for one, (loss, count) in zip(self.modalities, found, strict=True)
                if count
            },
            # Of visible patches only: the others are 0, and as many in each image.
            features=seen.detach().float().sum(dim=(2, 3)) / visible[0].sum(),
        )

    def draw_mask(self, batch: Batch, random: torch.Generator) -> torch.Tensor:
        """Draw which patches of a batch stay visible. (B, H / patch, W / patch) bool."""
        image = batch[self.modalities[0].name]
        count, _, height, width = image.shape
        _check_sides(height, width, self.patch)
        rows, cols = height // self.patch, width // self.patch
        return random_mask(count, rows, cols, self._mask_ratio, random).to(image.device)

    @torch.inference_mode()
    def reconstruct(self, batch: Batch, visible: torch.Tensor) -> torch.Tensor:
        """Paint the hidden patches of images as they are thought to be.

        A patch that is predicted relative to its own mean and spread is given those of the truth.

        Args:
            batch: of images.
            visible: (B, h, w) bool, of ``draw_mask``.

        Returns:
            (B, C, H, W) float32, standardised; visible patches are the image's own.
        """
        image = self.modalities[0]
        target = patchify(batch[image.name], self.patch)
        predicted = self._decode(self._encode(batch, visible), visible)[image.name]
        if image.patch_norm:
            mean, deviation = patch_statistics(target)
            predicted = predicted * deviation + mean
        known = visible.flatten(1)[..., None] | target.isnan()
        return unpatchify(torch.where(known, target, predicted), self.patch, visible.shape[1])

    def _encode(self, batch: Batch, visible: torch.Tensor) -> torch.Tensor:
        # A copy: the image is a target as well, with its marks of no data.
        image = torch.nan_to_num(batch[self.modalities[0].name], nan=0.0)
        image = image.contiguous(memory_format=torch.channels_last)
        return self._masked(image, visible)

    def _decode(self, seen: torch.Tensor, visible: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what is predicted: (B, L, n) of pixels, (B, n) of whole images, float32."""
        tokens = torch.where(visible[:, None], self.proj(seen), self.mask_token.to(seen.dtype))
        decoded = self.decoder(tokens)
        whole = self.norm(decoded).mean(dim=(2, 3))
        said = {}
        for one, head in zip(self.modalities, self.heads.values(), strict=True):
            if one.level == "pixel":
                said[one.name] = head(decoded).flatten(2).transpose(1, 2).float()
            else:
                said[one.name] = head(whole).float()
        return said


def _check_sides(height: int, width: int, patch: int) -> None:
    if height % patch or width % patch:
        raise InputError(
            f"Images of {height} x {width} pixels cannot be cut into patches of {patch}.",
            f"Choose a multiple of {patch} as the side of crops.",
        )


def _head(modality: Modality, width: int, patch: int) -> nn.Module:
    if modality.level == "pixel":
        return nn.Conv2d(width, patch**2 * modality.channels, 1)
    return nn.Linear(width, modality.channels)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build(encoder: nn.Module, modalities: Sequence[Modality], spec: PretrainSpec) -> MPMAE:
    """Build the method.

    Args:
        encoder: of ``build_encoder``.
        modalities: the image first.
        spec: the request.

    Raises:
        ModelError: if the encoder is no ConvNeXt V2.
        InputError: if crops cannot be cut into its patches.
    """
    if not isinstance(encoder, ConvNeXtV2Encoder):
        raise ModelError(
            f"The method {spec.method} teaches encoders mmearth-… (ConvNeXt V2), not "
            f"{spec.encoder}.",
            "Choose one of those, mmearth-atto-p16 for example.",
        )
    method = MPMAE(
        encoder,
        modalities,
        mask_ratio=spec.mask_ratio,
        width=spec.decoder_width,
        depth=spec.decoder_depth,
        weighted=spec.weighting == "uncertainty",
    )
    _check_sides(spec.crop, spec.crop, method.patch)
    return method
