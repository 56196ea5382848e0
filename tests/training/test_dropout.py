"""Examples that lose their caption, their photo, or both."""

from dataclasses import replace

import pytest
import torch

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter, NestedAdapterError
from diffusers_nested.data import bare_captions, seeded_generator, subject_positions
from diffusers_nested.injection import NestedInjector
from diffusers_nested.training.bare import BareCaptions
from diffusers_nested.training.frozen import FrozenModels
from diffusers_nested.training.noise import Dropout, Places
from diffusers_nested.training.objective import Objective
from diffusers_nested.training.samples import RawExamples, SampleEncoder, Samples, collate

RESAMPLER = {
    "mechanism": "decoupled",
    "subject_encoder": "resampler",
    "resampler_hidden_size": 64,
    "resampler_num_layers": 1,
    "resampler_num_heads": 1,
    "num_queries": 5,
    "image_feature_dim": tiny.FEATURES,
    "image_encoder": None,
}


class World:
    """An adapter and its objective on four examples, three of which have lost something."""

    def __init__(self, pipeline, image_encoder, triplets, adapter: NestedAdapter) -> None:
        cpu = torch.device("cpu")
        features = "penultimate" if adapter.reads_empty_image else "last"
        self.frozen = FrozenModels(pipeline, image_encoder, tiny.FEATURES, cpu, torch.float32, features)
        self.adapter, self.pipeline = adapter, pipeline
        captions = bare_captions(triplets, "person")
        bare = [replace(triplets[0], text=text) for text in captions.values()]
        positions = subject_positions([*triplets, *bare], "person", (tiny.tokenizer(),))
        encoder = SampleEncoder(self.frozen, positions, 16)
        raw = RawExamples(triplets, [(16, 16)] * len(triplets))
        samples = encoder.encode(*collate([raw[i] for i in range(4)]))
        self.samples = replace(samples, features=torch.randn(samples.features.shape, generator=seeded_generator(1)))
        injector = NestedInjector(self.frozen.unet)
        injector.inject()
        places_word = adapter.config["mechanism"] == "nested"
        bare = BareCaptions(captions, encoder) if places_word else None
        self.objective = Objective(self.frozen, injector, adapter, Dropout(0.1, 0.1, 0.1), bare)
        self.drawn = self.objective.draw(samples, Places(0, 0, 4))
        lost = (self.drawn.dropped, self.drawn.no_caption, self.drawn.no_photo)
        for row, one in enumerate(lost):
            one.copy_(torch.tensor([i == row for i in range(4)]))

    def losses(self) -> torch.Tensor:
        """As in training."""
        features = self.objective.features(self.samples, self.drawn)
        return self.losses_of(self.samples, features, self.objective.positions(self.samples, self.drawn), self.drawn)

    def losses_of(self, samples: Samples, features, positions, drawn) -> torch.Tensor:
        with torch.no_grad(), self.objective.acting(self.adapter(features), positions):
            return self.objective.losses(samples, drawn)

    def whole(self, prompt: str, positions: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The losses of examples that have lost nothing, with this prompt; "" for the unconditional one."""
        encoded = self.pipeline.encode_prompt(prompt, do_classifier_free_guidance=True)
        words, pooled = (encoded[0], encoded[2]) if prompt else (encoded[1], encoded[3])
        prompts = {"prompt_embeds": words.expand(4, -1, -1), "pooled": pooled.expand(4, -1)}
        none = torch.zeros(4, dtype=torch.bool)
        drawn = replace(self.drawn, dropped=none, no_caption=none, no_photo=none)
        return self.losses_of(replace(self.samples, **prompts), features, positions, drawn)


def test_a_dropped_caption_leaves_the_word(pipeline, image_encoder, triplets):
    world = World(pipeline, image_encoder, triplets, tiny.adapter(pipeline.unet))
    found, at_word = world.losses(), torch.zeros_like(world.samples.positions)
    nowhere = at_word.clone()
    at_word[:, 1] = 1  # the only word of the prompt
    expected = world.whole("person", at_word, world.samples.features)
    torch.testing.assert_close(found[1], expected[1])
    torch.testing.assert_close(found[0], world.whole("", nowhere, world.samples.features)[0])
    assert abs(found[1] - world.whole("person", nowhere, world.samples.features)[1]) > 1e-5


def test_what_an_ip_adapter_loses(pipeline, image_encoder, triplets):
    torch.manual_seed(3)
    adapter = NestedAdapter.from_unet(pipeline.unet, **RESAMPLER).eval()
    world = World(pipeline, image_encoder, triplets, adapter)
    found, own = world.losses(), world.samples
    empty = image_encoder.empty("penultimate").expand_as(own.features)
    nothing, no_caption = (world.whole("", own.positions, features) for features in (empty, own.features))
    torch.testing.assert_close(found[:2], torch.stack([nothing[0], no_caption[1]]))
    kept = {name: torch.zeros(4, dtype=torch.bool) for name in ("dropped", "no_caption", "no_photo")}
    whole = replace(world.drawn, **kept)
    torch.testing.assert_close(found[2], world.losses_of(own, empty, own.positions, whole)[2])
    torch.testing.assert_close(found[3], world.losses_of(own, own.features, own.positions, whole)[3])
    assert len({round(float(x), 6) for x in (nothing[1], no_caption[1], found[1])}) == 2


def test_photos_are_dropped_only_where_it_teaches_something(train, settings):
    config = settings(proportion_empty_images=0.1)
    with pytest.raises(NestedAdapterError, match=r"proportion_empty_images is 0.1, .*would teach the adapter nothing"):
        train(config)
    assert not config.folder.exists()


def test_a_run_with_dropped_captions(train, settings):
    config = settings(max_train_steps=2, proportion_empty_captions=0.5)
    assert all(tensor.isfinite().all() for tensor in train(config).state_dict().values())
