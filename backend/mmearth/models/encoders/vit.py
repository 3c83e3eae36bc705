"""Vision transformers: SSL4EO-S12's, and SpectralEarth's behind its spectral adapter.

Wang et al. 2023 (SSL4EO-S12); Braham et al. 2025 (SpectralEarth). The transformer itself is timm's,
in whose names the parameters are, under ``vit_core`` as in spectral_earth's spec_vit.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from mmearth.models.encoders.pyramid import PyramidEncoder, register
from mmearth.models.encoders.spectral import ADAPTED, LEAST_BANDS, SpectralAdapter

from timm.layers.pos_embed import resample_abs_pos_embed  # isort: skip  after mmearth.models.smp
from timm.models.vision_transformer import VisionTransformer  # isort: skip

NECK = {2: 64, 4: 128, 8: 256, 16: 512}  # stride -> channels of the maps made of tokens
TAPS = len(NECK)  # blocks whose tokens are used, evenly spread

SIZES = {  # width, blocks, heads
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
    "giant": (1536, 40, 24),
}


class ViTEncoder(PyramidEncoder):
    """A vision transformer, and a small learned neck that makes a pyramid of its tokens.

    Tokens of four blocks, evenly spread, become maps at strides 2, 4, 8 and 16: the earliest block
    the finest. Images of any multiple of the patch are read; position embeddings are interpolated
    (bicubic) where their grid differs from that of pretraining.

    Args:
        width, blocks, heads: of the transformer.
        patch: side of a token in pixels.
        image: side of the images of pretraining, in pixels.
        spectral: whether the spectral adapter comes first.
        full, depth, output_stride: see ``PyramidEncoder``.

    Attributes:
        width, patch, spectral: see above.
    """

    unpublished = ("neck.",)

    def __init__(
        self,
        *,
        width: int,
        blocks: int,
        heads: int,
        patch: int,
        image: int,
        spectral: bool = False,
        full: bool = False,
        depth: int = 4,
        output_stride: int = 16,
    ) -> None:
        channels = [ADAPTED if spectral else 3, *NECK.values()]
        super().__init__(
            channels,
            full=full,
            depth=depth,
            output_stride=output_stride,
            image_first=not spectral,
        )
        if spectral:
            self.spectral_adapter = SpectralAdapter()
        self.vit_core = VisionTransformer(
            img_size=image,
            patch_size=patch,
            in_chans=channels[0],
            num_classes=0,
            embed_dim=width,
            depth=blocks,
            num_heads=heads,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            dynamic_img_size=True,
        )
        self.width, self.patch = width, patch
        self.spectral = spectral
        self._taps = [blocks * (number + 1) // TAPS - 1 for number in range(TAPS)]
        self.neck = nn.ModuleList(
            _rescale(width, out, patch, stride) for stride, out in NECK.items()
        )

    def read_bands(self, count: int) -> None:
        """Exchange the patch embedding for one of ``count`` bands; an adapter takes any from 75."""
        if self.spectral:
            if count < LEAST_BANDS:
                raise ValueError(f"Expected at least {LEAST_BANDS} bands, found {count}.")
            return
        old = self.vit_core.patch_embed.proj
        self.vit_core.patch_embed.proj = nn.Conv2d(
            count, old.out_channels, old.kernel_size, old.stride
        )

    def drop_neck(self) -> None:
        """Leave out the neck, for decoders that read the tokens themselves."""
        del self.neck

    def token_maps(self, x: torch.Tensor, count: int = TAPS) -> list[torch.Tensor]:
        """Return the normalised tokens of the last of ``count`` evenly spread blocks, and before.

        Returns:
            Maps (B, width, H / patch, W / patch), the earliest block's first.
        """
        if self.spectral:
            x = self.spectral_adapter(x)
        return self._token_maps(x, count)

    def class_token(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last block's class token, normalised. (B, C, H, W) to (B, width)."""
        if self.spectral:
            x = self.spectral_adapter(x)
        token: torch.Tensor = self.vit_core(x)
        return token

    def visible_tokens(self, x: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Compute the last block's tokens of some patches; nothing is seen of the others.

        Args:
            x: (B, C, H, W) float32, normalised; sides are multiples of the patch.
            visible: (B, H / patch, W / patch) bool, as many in each image.

        Returns:
            (B, 1 + visible patches, width), normalised: the class token, then the patches in order.
        """
        core, side = self.vit_core, self.patch
        rows, cols = visible.shape[1:]
        patches = x.unflatten(2, (rows, side)).unflatten(4, (cols, side))  # (B, C, h, p, w, p)
        seen = patches.permute(0, 2, 4, 1, 3, 5)[visible]  # (visible of all images, C, p, p)
        if self.spectral:
            seen = self.spectral_adapter(seen)  # it looks at single pixels
        tokens = core.patch_embed.proj(seen).flatten(1).unflatten(0, (len(x), -1))
        positions = resample_abs_pos_embed(core.pos_embed, [rows, cols], num_prefix_tokens=1)
        places = positions[:, 1:].expand(len(x), -1, -1)[visible.flatten(1)]
        tokens = tokens + places.unflatten(0, (len(x), -1))
        first = (core.cls_token + positions[:, :1]).expand(len(x), -1, -1)
        tokens = torch.cat([first.to(tokens.dtype), tokens], dim=1)
        normalised: torch.Tensor = core.norm(core.blocks(core.norm_pre(tokens)))
        return normalised

    def _token_maps(self, x: torch.Tensor, count: int) -> list[torch.Tensor]:
        found = self.vit_core.get_intermediate_layers(
            x, n=self._taps[-count:], reshape=True, norm=True
        )
        return list(found)

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the image (or adapted spectra) and the neck's maps."""
        first = self.spectral_adapter(x) if self.spectral else x
        tokens = self._token_maps(first, TAPS)
        return [first, *(step(t) for step, t in zip(self.neck, tokens, strict=True))]


def _rescale(width: int, out: int, patch: int, stride: int) -> nn.Sequential:
    """Go from tokens at stride ``patch`` to a map at ``stride``, by learned steps of two."""
    steps: list[nn.Module] = []
    while patch > stride:
        patch //= 2
        steps += [nn.ConvTranspose2d(width, out, 2, 2), nn.BatchNorm2d(out), nn.GELU()]
        width = out
    if patch < stride:
        steps.append(nn.MaxPool2d(stride // patch))
    return nn.Sequential(*steps, nn.Conv2d(width, out, 1))


for _size, (_width, _blocks, _heads) in SIZES.items():
    _shape: dict[str, Any] = {"width": _width, "blocks": _blocks, "heads": _heads}
    register(f"vit-{_size}-p16", ViTEncoder, 4, image_first=True, **_shape, patch=16, image=224)
    register(f"specvit-{_size}", ViTEncoder, depth=4, **_shape, patch=4, image=128, spectral=True)
