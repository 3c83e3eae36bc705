"""Masked dense convolutions equal sparse ones, and nothing of what is hidden is seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmearth.errors import ModelError
from mmearth.models.encoders.convnextv2 import GRN_EPSILON, ConvNeXtV2Encoder
from mmearth.pretraining.masking import MaskedConvNeXtV2, enlarge, random_mask


def tiny(patch=8, **options) -> ConvNeXtV2Encoder:
    """A network of the usual layers whose every weight matters, those of GRN too."""
    torch.manual_seed(0)
    sizes = {"depths": (1, 2, 1, 1), "widths": (4, 6, 8, 10), "depth": patch.bit_length() - 1}
    encoder = ConvNeXtV2Encoder(patch=patch, **sizes, **options)
    encoder.set_in_channels(3)
    for part in encoder.parameters():
        torch.nn.init.normal_(part, std=0.4)
    return encoder.eval()


# A naive reference: an image is a dictionary from a site to its vector.


def convolved(sites, layer, places):
    """Convolve at some places, over the sites that are there and no others."""
    weight, bias = (part.detach().numpy() for part in (layer.weight, layer.bias))
    side, stride, pad = layer.kernel_size[0], layer.stride[0], layer.padding[0]
    result = {}
    for row, col in places:
        total = bias.copy()
        for i in range(side):
            for j in range(side):
                vector = sites.get((row * stride + i - pad, col * stride + j - pad))
                if vector is not None and layer.groups > 1:
                    total += weight[:, 0, i, j] * vector
                elif vector is not None:
                    total += weight[:, :, i, j] @ vector
        result[row, col] = total
    return result


def each(sites, function):
    return {place: function(vector) for place, vector in sites.items()}


def linear(layer):
    weight, bias = (part.detach().numpy() for part in (layer.weight, layer.bias))
    return lambda vector: weight @ vector + bias


def layer_norm(layer):
    weight, bias = (part.detach().numpy() for part in (layer.weight, layer.bias))
    return lambda v: (v - v.mean()) / math.sqrt(v.var() + layer.eps) * weight + bias


def gelu(vector):
    return vector * np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in vector])


def response_norm(sites, layer):
    gamma, beta = (part.detach().numpy().ravel() for part in (layer.gamma, layer.beta))
    response = np.sqrt(np.sum([vector**2 for vector in sites.values()], axis=0))
    share = response / (response.mean() + GRN_EPSILON)
    return each(sites, lambda vector: gamma * vector * share + beta + vector)


def block(sites, layer):
    y = each(convolved(sites, layer.dwconv, sites), layer_norm(layer.norm))
    y = each(each(y, linear(layer.pwconv1)), gelu)
    y = each(response_norm(y, layer.grn), linear(layer.pwconv2))
    return {place: vector + y[place] for place, vector in sites.items()}


def sparse(encoder, image, visible):
    """Compute what a sparse network says of one image. Site of the coarsest map -> vector."""
    patch = 8 * encoder.stem_stride
    sites = {
        (row, col): image[:, row, col]
        for row in range(image.shape[1])
        for col in range(image.shape[2])
        if visible[row // patch, col // patch]
    }

    def coarser(by):
        return {(row // by, col // by) for row, col in sites}

    if encoder.original_stem:
        stem = encoder.stem_orig
        sites = convolved(sites, stem[0], coarser(encoder.stem_stride))
        sites = each(sites, layer_norm(stem[1]))
    else:
        first = encoder.initial_conv
        sites = each(each(convolved(sites, first[0], sites), layer_norm(first[1])), gelu)
        sites = convolved(sites, encoder.stem[0], coarser(encoder.stem_stride))
        sites = each(sites, layer_norm(encoder.stem[1]))
    for number, stage in enumerate(encoder.stages):
        if number:
            norm, convolution = encoder.downsample_layers[number - 1]
            sites = convolved(each(sites, layer_norm(norm)), convolution, coarser(2))
        for part in stage:
            sites = block(sites, part)
    return sites


@pytest.mark.parametrize(("patch", "original"), [(8, False), (16, False), (16, True)])
def test_masked_dense_equals_sparse(patch, original) -> None:
    encoder = tiny(patch, original_stem=original).double()
    image = torch.randn(2, 3, 2 * patch, 2 * patch, dtype=torch.float64)
    visible = torch.tensor([[[True, False], [True, False]], [[False, True], [True, False]]])
    with torch.inference_mode():
        dense = MaskedConvNeXtV2(encoder)(image, visible)
    for number in range(2):
        expected = sparse(encoder, image[number].numpy(), visible[number].numpy())
        assert set(expected) == set(map(tuple, visible[number].nonzero().tolist()))
        for (row, col), vector in expected.items():
            np.testing.assert_allclose(dense[number, :, row, col], vector, rtol=1e-9, atol=1e-9)
        assert (dense[number, :, ~visible[number]] == 0).all()


def test_with_nothing_hidden_it_is_the_encoder_itself() -> None:
    encoder = tiny(16)
    image = torch.randn(2, 3, 32, 48)
    visible = torch.ones(2, 2, 3, dtype=torch.bool)
    with torch.inference_mode():
        torch.testing.assert_close(MaskedConvNeXtV2(encoder)(image, visible), encoder(image)[-1])


def test_what_is_hidden_changes_nothing_and_the_image_stays_as_it_is() -> None:
    encoder = MaskedConvNeXtV2(tiny(8))
    image = torch.randn(2, 3, 24, 24)
    visible = random_mask(2, 3, 3, 0.6, torch.Generator().manual_seed(0))
    kept = image.clone()
    other = torch.where(enlarge(visible, 8)[:, None], image, 100.0)
    with torch.inference_mode():
        assert torch.equal(encoder(image, visible), encoder(other, visible))
    assert torch.equal(image, kept)


def test_statistics_are_of_each_image_alone() -> None:
    encoder = MaskedConvNeXtV2(tiny(8))
    images = torch.randn(2, 3, 16, 16) * torch.tensor([1.0, 9.0])[:, None, None, None]
    visible = random_mask(2, 2, 2, 0.5, torch.Generator().manual_seed(1))
    with torch.inference_mode():
        both = encoder(images, visible)
        alone = encoder(images[:1], visible[:1])
    torch.testing.assert_close(both[:1], alone)


@pytest.mark.parametrize(
    ("rows", "cols", "ratio", "kept"), [(7, 7, 0.6, 19), (5, 5, 0.6, 10), (1, 2, 0.9, 1)]
)
def test_masks_keep_as_many_patches_in_each_image(rows, cols, ratio, kept) -> None:
    random = torch.Generator().manual_seed(0)
    mask = random_mask(50, rows, cols, ratio, random)
    assert mask.shape == (50, rows, cols)
    assert (mask.sum(dim=(1, 2)) == kept).all()
    assert mask.any(dim=0).all()  # none is always hidden
    assert not torch.equal(mask, random_mask(50, rows, cols, ratio, random))


@pytest.mark.parametrize(
    ("visible", "message"),
    [
        ([[[1, 0], [0, 0]], [[1, 1], [1, 0]]], "leaves 1 to 3 patches visible"),
        ([[[1, 1], [0, 0]]], r"mask of \(1, 2, 2\) patches does not fit"),
        ([[[1, 1, 0], [0, 0, 0]]] * 2, r"mask of \(2, 2, 3\) patches does not fit"),
    ],
)
def test_masks_that_would_mix_images_are_refused(visible, message) -> None:
    with pytest.raises(ModelError, match=message):
        MaskedConvNeXtV2(tiny(8))(torch.randn(2, 3, 16, 16), torch.tensor(visible).bool())


def test_an_encoder_off_the_grid_is_refused() -> None:
    with pytest.raises(ModelError, match="do not lie on a grid of patches"):
        MaskedConvNeXtV2(tiny(8, padding="classification"))
