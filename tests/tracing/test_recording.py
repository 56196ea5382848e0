"""What a trace records, against the formulas written out, and that nothing else changes."""

import threading

import numpy as np
import pytest
import torch
from addons import add_image_encoder, load_ip_adapters
from cases import BY_MECHANISM, CASES, PROMPT

from diffusers_nested import NestedAdapterError, PromptTokenError, Subject, trace
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo

XL = CASES[0]
TWO = {"person": photo(1), "pet": [photo(2), photo(3)]}
PERSON, PET = 5, 8  # their positions in the prompt
LAYER = "up_blocks.0.attentions.0.transformer_blocks.0.attn2"
OTHERS = ("XLPAGPipeline", "AnimateDiffSDXL", "StableDiffusionImg2Img", "simple", "multiple_tokens", "located")
SOME = [XL, *[next(case for case in CASES + BY_MECHANISM if name in str(case)) for name in OTHERS]]


def hooks_of(unet):
    return sum(len(one._forward_pre_hooks) + len(one._forward_hooks) for one in unet.modules())


@pytest.mark.parametrize("case", SOME, ids=str)
def test_pictures_stay_the_same_and_every_mechanism_shows_what_it_has(case, loaded_of):
    pipeline = loaded_of(case)
    before = case.run(pipeline, nested_adapter_image=TWO, num_inference_steps=2)
    hooks = hooks_of(pipeline.unet)
    with trace(pipeline) as inside:
        traced = case.run(pipeline, nested_adapter_image=TWO, num_inference_steps=2)
    assert np.array_equal(traced, before) and hooks_of(pipeline.unet) == hooks
    assert inside.num_pictures == case.frames and inside.num_steps in (1, 2)
    shown = inside.word_map("person", picture=case.frames - 1)
    assert shown.positions == (PERSON,) and shown.map.shape == (8, 8) and 0 < shown.share < 1
    assert shown.overlay().size == (256, 256)
    assert len(inside.queries(subject="pet").photos) == 2
    if case.mechanism in ("global_value", "multiple_tokens"):
        for ask in (lambda: inside.values(subject="pet"), lambda: inside.follow((3, 3), subject="pet")):
            with pytest.raises(NestedAdapterError, match=f"'{case.mechanism}' no query chose .* There are word_map"):
                ask()
    else:
        assert inside.values(subject="pet").values.shape == (8, 8, 32)
        assert inside.follow((3, 15.9), subject="pet").tokens.sum() == pytest.approx(1, abs=1e-5)
    total = sum(one["share"] for one in inside.numbers()["attention_of_the_prompt"])
    assert total == pytest.approx(1, abs=1e-4) or (case.mechanism == "simple" and 0 < total < 1)


def test_words_equal_the_formula_by_layer_head_and_step(inputs_of, attention):
    pipeline = XL.build()  # without an adapter
    with trace(pipeline, heads=True, steps=True) as inside, inputs_of(pipeline.unet) as inputs:
        XL.run(pipeline, num_inference_steps=2)
    layer = cross_attention_layers(pipeline.unet)[LAYER]
    for step, (hidden, text) in enumerate(inputs.of[LAYER]):
        query, key = (hidden[1] @ layer.to_q.weight.T), (text[1] @ layer.to_k.weight.T)  # the row with the prompt
        for head in range(layer.heads):
            width = query.shape[1] // layer.heads
            q, k = (x[:, head * width : (head + 1) * width] for x in (query, key))
            expected = torch.stack([attention(one, k)[PERSON] for one in q]).reshape(4, 4)
            shown = inside.word_map("person", layer=LAYER, head=head, step=step)
            assert torch.allclose(shown.map, expected, atol=1e-6)
    heads = [inside.word_map("person", layer=LAYER, head=head).map for head in range(layer.heads)]
    assert torch.allclose(inside.word_map("person", layer=LAYER).map, torch.stack(heads).mean(0))
    with pytest.raises(NestedAdapterError, match="no subject, so there are words only"):
        inside.values()


def test_means_over_heads_and_steps_are_those_of_the_parts(loaded_of):
    pipeline = loaded_of(XL)
    with trace(pipeline, heads=True, steps=True) as parts, trace(pipeline) as means:
        XL.run(pipeline, nested_adapter_image=TWO)
    for ask in (
        lambda one: one.word_map("pet").map,
        lambda one: one.values(LAYER, subject="pet").values,
        lambda one: one.follow((9, 4), subject="pet").tokens,
    ):
        assert torch.allclose(ask(parts), ask(means), atol=1e-5)
    assert not torch.allclose(parts.values(LAYER, 0, subject="pet").values, means.values(LAYER, subject="pet").values)
    for wrong in ({"step": 1}, {"head": 0}):
        with pytest.raises(NestedAdapterError, match=r"not kept apart .* Use trace\(pipe, (steps|heads)=True\)"):
            means.word_map("pet", **wrong)
        with pytest.raises(NestedAdapterError, match="There is no"):
            parts.word_map("pet", **dict.fromkeys(wrong, 9))


def test_raised_words_values_and_tokens_equal_the_formula(loaded_of, inputs_of, attention):
    pipeline = loaded_of(XL)
    subject = Subject([photo(2), photo(3)], token="pet", image_weights=[1, 3], scale=2.5)
    with trace(pipeline, layers=LAYER) as inside, inputs_of(pipeline.unet) as inputs:
        XL.run(pipeline, nested_adapter_image=subject, num_inference_steps=1)
    layer, adapter = cross_attention_layers(pipeline.unet)[LAYER], pipeline.nested_adapters["pet"]
    hidden, text = (x[1] for x in inputs.of[LAYER][0])
    tokens = pipeline.encode_nested_adapter_image([photo(2), photo(3)], "pet").flatten(0, 1)[None]
    query, key, value = hidden @ layer.to_q.weight.T, text @ layer.to_k.weight.T, text @ layer.to_v.weight.T
    nested_key, nested_value = (x[0] for x in adapter.project(tokens)[LAYER])
    shares = torch.tensor([0.25] * 5 + [0.75] * 5)
    width, words, read, values = query.shape[1] // layer.heads, [], [], []
    for q in query:  # one place of the picture after another
        parts = []
        for head in range(layer.heads):
            of_head = slice(head * width, (head + 1) * width)
            logits = torch.stack([torch.dot(q[of_head], k[of_head]) for k in key]) / width**0.5
            logits[PET] = max(logits[PET], 2.5 * logits[PET])
            words.append(logits.softmax(0)[PET])
            weighted = attention(q[of_head], nested_key[:, of_head]) * shares
            read.append(weighted / weighted.sum())
            parts.append((read[-1][:, None] * nested_value[:, of_head]).sum(0))
        whole = torch.cat(parts)
        values.append(2 * value[PET].norm() * whole / whole.norm())
    assert torch.allclose(
        inside.word_map("pet").map.flatten(), torch.stack(words).unflatten(0, (16, -1)).mean(1), atol=1e-6
    )
    assert torch.allclose(inside.values().values.flatten(0, 1), torch.stack(values), atol=1e-5)
    expected = (torch.stack(read) * torch.stack(words)[:, None]).unflatten(0, (16, -1)).sum(1)
    expected = expected / expected.sum(1, keepdim=True)  # the heads' parts by what the word gets in each
    for x, y in ((0, 0), (7, 3), (15, 15)):  # 4 pixels for each place
        found = inside.follow((x, y)).tokens.flatten()
        assert torch.allclose(found, expected[y // 4 * 4 + x // 4], atol=1e-6)
    entropy = -(torch.stack(read) * torch.stack(read).log()).sum(1).mean()
    assert inside.numbers()["subjects"][0]["entropy"] == pytest.approx(float(entropy.detach()), abs=1e-5)


def test_memory_does_not_grow_with_the_steps(loaded_of):
    pipeline, sizes = loaded_of(XL), []
    for steps in (1, 3):
        with trace(pipeline) as inside:
            XL.run(pipeline, nested_adapter_image=TWO, num_inference_steps=steps)
        sizes.append(inside.num_bytes)
    assert sizes[0] == sizes[1] > 0
    with trace(pipeline, steps=True, layers=["mid_block", LAYER]) as inside:
        XL.run(pipeline, nested_adapter_image=TWO)
    assert inside.layers == [LAYER, "mid_block.attentions.0.transformer_blocks.0.attn2"]
    with pytest.raises(NestedAdapterError, match=r"No traced layer is 'left' .* mid_block, up_blocks.0"):
        inside.word_map("pet", layer="left")


def test_pictures_of_several_prompts_that_are_not_square(loaded_of):
    pipeline, other = loaded_of(XL), "a watercolor of a king on the beach"
    subjects = [{"pet": photo(2)}, [Subject(photo(1), token="king", adapter_name="person")]]
    settings = {"num_images_per_prompt": 2, "num_inference_steps": 1, "output_type": "pil", "width": 32, "height": 16}
    generator = torch.Generator().manual_seed(0)
    with trace(pipeline) as inside:
        pipeline([PROMPT, other], nested_adapter_image=subjects, generator=generator, **settings)
    assert inside.num_pictures == 4
    maps = [inside.word_map("a", picture=i).map for i in range(4)]
    assert all(one.shape == (8, 16) for one in maps) and len({one.numpy().tobytes() for one in maps}) == 4
    assert inside.word_map("king", picture=2).positions == (5,)
    with pytest.raises(PromptTokenError, match=r"'king' is not in the prompt\. prompt is read as: 0:<"):
        inside.word_map("king", picture=1)
    assert inside.follow((31, 15), picture=3).word == "king"
    with pytest.raises(NestedAdapterError, match="32 x 16 pixels"):
        inside.follow((32, 15), picture=3)
    with pytest.raises(NestedAdapterError, match=r"no picture 4: the call has 4"):
        inside.word_map("a", picture=4)


def test_beside_an_ip_adapter_and_given_as_embeddings(loaded_of):
    pipeline = add_image_encoder(XL.build())
    load_ip_adapters(pipeline, 21)
    pipeline.load_nested_adapter(loaded_of(XL).nested_adapters["person"], image_encoder_folder=None)
    tokens = torch.randn(1, 5, 40, generator=torch.Generator().manual_seed(3))
    given = {"nested_adapter_image_embeds": tokens, "ip_adapter_image": photo(4), "num_inference_steps": 1}
    before = XL.run(pipeline, **given)
    with trace(pipeline) as inside:
        assert np.array_equal(XL.run(pipeline, **given), before)
    assert inside.values().values.shape == (8, 8, 32)
    for ask in (lambda: inside.follow((3, 3)), inside.queries):
        with pytest.raises(NestedAdapterError, match="given as embeddings, so its photo is unknown"):
            ask()


def test_nothing_before_a_call_and_after_one_that_raises(loaded_of):
    pipeline, hooks = loaded_of(XL), hooks_of(loaded_of(XL).unet)

    def stop(*args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), trace(pipeline) as inside:
        with pytest.raises(
            NestedAdapterError, match=r"Nothing has been traced yet. Call the pipeline inside the block"
        ):
            inside.word_map("person")
        with pytest.raises(NestedAdapterError, match="recording already"):
            inside.__enter__()
        XL.run(pipeline, callback_on_step_end=stop)
    assert hooks_of(pipeline.unet) == hooks
    with pytest.raises(NestedAdapterError, match="raised an error, and what it did until then is not kept"):
        inside.word_map("person")


def test_the_last_call_counts_and_those_in_callbacks_are_kept_apart(loaded_of):
    pipeline, inner, seen = loaded_of(XL), [], []

    def call_again(pipe, step, timestep, tensors):
        if step == 0:
            seen.append((outer.num_steps, outer.word_map("person").map))
            with trace(pipe) as one:
                pipe("a king", num_inference_steps=1, height=16, width=16)
            inner.append(one)
        return tensors

    alone = trace(pipeline)
    with alone:
        XL.run(pipeline, nested_adapter_image={"person": photo(1)}, num_inference_steps=2)
    with trace(pipeline) as outer:
        pipeline("a child", num_inference_steps=1, height=16, width=16)
        assert outer.word_map("child").share > 0
        XL.run(
            pipeline, nested_adapter_image={"person": photo(1)}, num_inference_steps=2, callback_on_step_end=call_again
        )
    assert torch.equal(outer.word_map("person").map, alone.word_map("person").map) and seen[0][0] == 1
    assert inner[0].word_map("king").share > 0
    with pytest.raises(PromptTokenError, match="'person' is not in the prompt"):
        inner[0].word_map("person")


def test_calls_of_other_threads_and_pipelines_are_not_recorded(loaded_of):
    pipeline = loaded_of(XL)
    same_unet = type(pipeline).from_pipe(pipeline)

    def elsewhere():
        XL.run(pipeline, num_inference_steps=1)

    with trace(pipeline) as inside:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        with pytest.raises(NestedAdapterError, match="Nothing has been traced yet"):
            inside.word_map("person")
        XL.run(same_unet, num_inference_steps=1)
    with pytest.raises(NestedAdapterError, match="trace the one that makes the picture"):
        inside.numbers()


def test_results_stay_after_unloading(loaded_of):
    pipeline = loaded_of.__wrapped__(XL)
    with trace(pipeline) as inside:
        XL.run(pipeline, nested_adapter_image={"pet": photo(1)}, num_inference_steps=1)
        before = inside.follow((3, 3)).places()
        pipeline.unload_nested_adapter()
    assert torch.equal(inside.follow((3, 3)).places(), before)
    assert hooks_of(pipeline.unet) == 0


def test_subjects_that_a_class_of_ones_own_fills_in_are_recorded(loaded_of):
    class Mine(XL.cls):
        def __call__(self, *args, face=None, **kwargs):
            return super().__call__(*args, nested_adapter_image=face, **kwargs)

    pipeline = loaded_of(XL)
    own = Mine(**pipeline.components, add_watermarker=False)
    own.set_progress_bar_config(disable=True)
    shown = []
    for each, given in ((pipeline, {"nested_adapter_image": TWO}), (own, {"face": TWO}), (own, {"face": TWO})):
        with trace(each) as inside:
            XL.run(each, num_inference_steps=2, **given)
        shown.append((inside.word_map("person").map, inside.values(subject="pet").values))
    for one in shown[1:]:
        assert all(torch.equal(*pair) for pair in zip(shown[0], one, strict=True))


def test_a_compiled_unet_is_refused(loaded_of):
    pipeline = XL.build()
    pipeline.unet.mid_block.compile(backend="eager")
    with pytest.raises(NestedAdapterError, match="The UNet is compiled"):
        trace(pipeline)


def test_points_to_follow_lie_where_a_subject_acts(loaded_of):
    pipeline, left = loaded_of(XL), np.zeros((16, 16), np.float32)
    left[:, :8] = 1
    people = [Subject(photo(i), token="person", adapter_name="person", mask=m) for i, m in ((1, left), (2, 1 - left))]
    with trace(pipeline) as inside:
        XL.run(pipeline, nested_adapter_image=people, num_inference_steps=1)
    points = [inside.points(2, subject=i) for i in (0, 1)]
    assert all(x < 8 for x, _ in points[0]) and all(x > 8 for x, _ in points[1])
    for i in (0, 1):  # however many are asked for, none is where only the mean of a coarse layer would reach
        assert all(i * 8 < x < 8 + i * 8 and inside.follow((x, y), subject=i) for x, y in inside.points(50, subject=i))
    for i, (first, second) in enumerate(points):
        assert max(abs(first[0] - second[0]), abs(first[1] - second[1])) >= 2
        assert inside.follow(first, subject=i).tokens.sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(NestedAdapterError, match=r"at the words person, person\. Give one of these words, or the"):
        inside.points()
    with pytest.raises(NestedAdapterError, match="did not act at this place"):
        inside.follow(points[0][0], subject=1)
