"""From pictures in any supported form to subject tokens."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from diffusers_nested.adapter.qformer import QFormer
from diffusers_nested.errors import SubjectError
from diffusers_nested.vision.encoder import ImageEncoder, to_pil

HEIGHT, WIDTH = 3, 5
COLORS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREYS = COLORS[..., 0]


def grey_as_rgb(greys: np.ndarray) -> np.ndarray:
    return np.stack([greys] * 3, axis=-1)


def on_white(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None].astype(float) / 255
    return share * colors + (1 - share) * 255


# Pictures in these forms must become exactly this.
EXACT = {
    "uint8 array": (COLORS, COLORS),
    "uint8 array, one channel": (GREYS[..., None], grey_as_rgb(GREYS)),
    "uint8 array, grey": (GREYS, grey_as_rgb(GREYS)),
    "array that is not contiguous": (COLORS[:, ::-1], COLORS[:, ::-1]),
    "float64 array": (COLORS / 255, COLORS),
    "float32 array, grey": ((GREYS / 255).astype(np.float32), grey_as_rgb(GREYS)),
    "float16 array": ((COLORS / 255).astype(np.float16), COLORS),
    "black and white floats": (np.array([[0.0, 1.0]]), np.array([[[0] * 3, [255] * 3]])),
    "uint8 tensor": (torch.tensor(COLORS).movedim(-1, 0), COLORS),
    "uint8 tensor, one channel": (torch.tensor(GREYS)[None], grey_as_rgb(GREYS)),
    "float tensor": (torch.tensor(COLORS).movedim(-1, 0) / 255, COLORS),
    "float tensor, one channel": (torch.tensor(GREYS)[None] / 255, grey_as_rgb(GREYS)),
    "float16 tensor": ((torch.tensor(COLORS).movedim(-1, 0) / 255).half(), COLORS),
    "tensor with a gradient": ((torch.tensor(COLORS).movedim(-1, 0) / 255).requires_grad_(), COLORS),
    "PIL RGB": (Image.fromarray(COLORS), COLORS),
    "PIL L": (Image.fromarray(GREYS), grey_as_rgb(GREYS)),
    "PIL 1": (
        Image.fromarray(GREYS).point([255 * (x > 127) for x in range(256)], "1"),
        grey_as_rgb(255 * (GREYS > 127)),
    ),
    "PIL P": (Image.fromarray(COLORS).quantize(HEIGHT * WIDTH), COLORS),
}


@pytest.mark.parametrize(("image", "expected"), EXACT.values(), ids=EXACT)
def test_image_in_any_form(image: Any, expected: np.ndarray):
    result = to_pil(image)
    assert result.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(result), expected)


def test_bfloat16_tensor_up_to_its_precision():
    result = to_pil((torch.tensor(COLORS).movedim(-1, 0) / 255).bfloat16())
    np.testing.assert_allclose(np.asarray(result), COLORS, atol=1)


ALPHA = np.array([[0, 255, 128, 64, 1]] * HEIGHT, dtype=np.uint8)
RGBA = np.concatenate([COLORS, ALPHA[..., None]], axis=-1)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(RGBA),
        RGBA,
        RGBA / 255,
        torch.tensor(RGBA).movedim(-1, 0),
        torch.tensor(RGBA).movedim(-1, 0) / 255,
    ],
    ids=["PIL", "uint8 array", "float array", "uint8 tensor", "float tensor"],
)
def test_transparent_becomes_white(image: Any):
    result = to_pil(image)
    assert result.mode == "RGB"
    np.testing.assert_allclose(np.asarray(result), on_white(COLORS, ALPHA), atol=1)


def test_transparent_grey_becomes_white():
    image = Image.merge("LA", [Image.fromarray(GREYS), Image.fromarray(ALPHA)])
    np.testing.assert_allclose(np.asarray(to_pil(image)), on_white(grey_as_rgb(GREYS), ALPHA), atol=1)


def palette_image(mode: str, palette: list[int]) -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette(palette, mode)
    image.putpixel((0, 0), 0)
    image.putpixel((1, 0), 1)
    return image


def test_transparent_entry_of_a_palette_becomes_white():
    by_index = palette_image("RGB", [10, 20, 30, 40, 50, 60])
    by_index.info["transparency"] = 0
    by_bytes = palette_image("RGB", [10, 20, 30, 40, 50, 60])
    by_bytes.info["transparency"] = bytes([0, 255])
    in_palette = palette_image("RGBA", [10, 20, 30, 0, 40, 50, 60, 255])
    for image in (by_index, by_bytes, in_palette):
        np.testing.assert_array_equal(np.asarray(to_pil(image)), [[[255, 255, 255], [40, 50, 60]]])


def test_transparent_color_becomes_white():
    """A PNG of mode RGB can name a transparent color."""
    image = Image.fromarray(np.array([[[10, 20, 30], [40, 50, 60]]], dtype=np.uint8))
    image.info["transparency"] = (10, 20, 30)
    np.testing.assert_array_equal(np.asarray(to_pil(image)), [[[255, 255, 255], [40, 50, 60]]])


def test_the_given_image_is_not_changed():
    image, array = Image.fromarray(RGBA), COLORS.copy()
    to_pil(image)
    to_pil(array)
    assert image.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(image), RGBA)
    np.testing.assert_array_equal(array, COLORS)


REFUSED = {
    "a path": ("photo.png", "str"),
    "bytes": (b"photo", "bytes"),
    "None": (None, "NoneType"),
    "a list": ([COLORS], "list"),
    "floats above 1": (COLORS.astype(float), "0..1"),
    "floats below 0": (COLORS / 127.5 - 1, "0..1"),
    "float tensor above 1": (torch.tensor(COLORS).movedim(-1, 0).float(), "0..1"),
    "NaN": (np.full((2, 2, 3), np.nan), "nan"),
    "one NaN": (np.array([[0.0, np.nan, 1.0]]), "nan"),
    "int64 array": (COLORS.astype(np.int64), "int64"),
    "uint16 array": (COLORS.astype(np.uint16), "uint16"),
    "bool array": (COLORS > 127, "bool"),
    "int64 tensor": (torch.tensor(COLORS).movedim(-1, 0).long(), "int64"),
    "bool tensor": (torch.tensor(COLORS).movedim(-1, 0) > 127, "bool"),
    "array (C, H, W)": (np.moveaxis(COLORS, -1, 0), r"\(3, 3, 5\)"),
    "tensor (H, W, C)": (torch.zeros(7, 5, 3, dtype=torch.uint8), r"\(7, 5, 3\)"),
    "tensor (H, W)": (torch.tensor(GREYS), r"\(3, 5\)"),
    "tensor (1, C, H, W)": (torch.tensor(COLORS).movedim(-1, 0)[None], r"\(1, 3, 3, 5\)"),
    "array (1, H, W, C)": (COLORS[None], r"\(1, 3, 5, 3\)"),
    "two channels": (COLORS[..., :2], r"\(3, 5, 2\)"),
    "one dimension": (COLORS[0, :, 0], r"\(5,\)"),
    "empty array": (np.zeros((0, 5, 3), np.uint8), r"\(0, 5, 3\)"),
    "empty float array": (np.zeros((0, 5, 3)), r"\(0, 5, 3\)"),
    "16 bits": (Image.fromarray(COLORS[..., 0].astype(np.uint16) * 257), "I;16"),
    "32 bits": (Image.fromarray(COLORS[..., 0].astype(np.int32)), "'I'"),
    "PIL floats": (Image.fromarray(COLORS[..., 0].astype(np.float32)), "'F'"),
}


@pytest.mark.parametrize(("image", "named"), REFUSED.values(), ids=REFUSED)
def test_image_that_is_refused(image: Any, named: str):
    with pytest.raises(SubjectError, match=named):
        to_pil(image)


SIDE, PATCH, FEATURES = 16, 8, 12


def vision_tower() -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=FEATURES,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=6,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CLIPVisionModelWithProjection(config).train()


def image_processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


def photos() -> list[np.ndarray]:
    return list(np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8))


def test_features_are_those_of_the_last_layer_before_pooling():
    tower = vision_tower()
    # CLIP's own preprocessing; pictures of the tower's size need no resizing
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    pixels = (torch.tensor(np.stack(photos())).movedim(-1, 1) / 255 - mean) / std
    with torch.no_grad():
        expected = tower.eval()(pixels, output_hidden_states=True).hidden_states[-1]
    features = ImageEncoder(tower, image_processor())(photos())
    assert features.shape == (2, 1 + (SIDE // PATCH) ** 2, FEATURES)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(features[0], features[1], atol=1e-2)


def test_features_do_not_depend_on_the_form_of_the_image():
    encoder = ImageEncoder(vision_tower(), image_processor())
    array = photos()[0]
    forms = [array, Image.fromarray(array), array / 255, torch.tensor(array).movedim(-1, 0)]
    features = encoder(forms)
    for other in features[1:]:
        torch.testing.assert_close(other, features[0], rtol=0, atol=0)


def test_the_tower_is_frozen():
    encoder = ImageEncoder(vision_tower(), image_processor())
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert not encoder(photos()).requires_grad


def test_features_are_of_the_type_of_the_tower():
    encoder = ImageEncoder(vision_tower().to(torch.bfloat16), image_processor())
    assert encoder(photos()).dtype == torch.bfloat16


def subject_encoder(**changes: int) -> QFormer:
    sizes = {
        "image_feature_dim": FEATURES,
        "num_queries": 5,
        "token_dim": 6,
        "hidden_size": 8,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate_size": 16,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return QFormer(**{**sizes, **changes})


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 7)])
def test_shape_of_subject_tokens(batch: int, length: int):
    assert subject_encoder()(torch.randn(batch, length, FEATURES)).shape == (batch, 5, 6)


def test_every_row_is_encoded_on_its_own():
    encoder, features = subject_encoder(), torch.randn(3, 7, FEATURES)
    together = encoder(features)
    for row in range(3):
        torch.testing.assert_close(together[row], encoder(features[row : row + 1])[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(together[0], together[1], atol=1e-4)


def test_order_of_image_features_does_not_matter():
    """The Q-Former attends to all of them without positions; CLIP's features encode their own."""
    encoder, features = subject_encoder(), torch.randn(2, 7, FEATURES)
    torch.testing.assert_close(encoder(features), encoder(features.flip(1)), rtol=1e-5, atol=1e-6)


def test_training_makes_no_noise():
    encoder, features = subject_encoder().train(), torch.randn(2, 7, FEATURES)
    torch.testing.assert_close(encoder(features), encoder(features), rtol=0, atol=0)


def test_gradient_reaches_every_parameter():
    encoder = subject_encoder()
    (encoder(torch.randn(2, 7, FEATURES)) * torch.randn(2, 5, 6)).sum().backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    # a softmax ignores a constant added to all keys, so the gradient of their bias is only rounding
    assert encoder.queries.grad.abs().sum(dim=-1).min() > 0
    assert not [name for name in without if not name.endswith("key.bias")]


def test_every_query_gives_a_token_of_its_own():
    tokens = subject_encoder()(torch.randn(1, 7, FEATURES))[0]
    distances = torch.cdist(tokens, tokens) + torch.eye(len(tokens)) * 100
    assert distances.min() > 1e-3
