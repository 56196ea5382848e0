"""The nodes of ComfyUI change one clone of a model, in the rows of their prompts, and nothing else."""

from typing import Any

import comfyui_stand_in as comfyui
import pytest
import torch
from comfyui_world import NEGATIVE, PROMPT, apply, image, run

from integrations.comfyui import nodes


def test_only_the_clone_and_only_the_positive_rows_change(world, step):
    plain = world.model()
    before = run(world, plain, step)
    options = dict(plain.model_options["transformer_options"])
    with_subject = run(world, apply(world, plain), step)
    assert torch.equal(run(world, plain, step), before)
    assert plain.model_options["transformer_options"] == options
    assert not plain.wrappers
    half = len(before) // 2
    assert torch.equal(with_subject[:half], before[:half])  # though the negative prompt has the word
    assert all(not torch.equal(one, other) for one, other in zip(with_subject[half:], before[half:], strict=True))


def test_without_effect_everything_is_plain_to_the_bit(world, step):
    plain = run(world, world.model(), step)
    assert torch.equal(run(world, apply(world, scale=0.0), step), plain)
    late = apply(world, start=0.6)
    assert torch.equal(run(world, late, step, sigma=5.0), plain)
    assert not torch.equal(run(world, late, step, sigma=3.0), plain)
    early = apply(world, end=0.6)
    assert torch.equal(run(world, early, step, sigma=3.0), plain)


def test_prompts_of_other_lengths_in_the_batch_change_nothing(world, step):
    """ComfyUI repeats the shorter embeddings, so the word stands twice."""
    model, long = apply(world), torch.cat([world.encode(NEGATIVE), world.encode("a photo")], 1)
    half = len(step[0]) // 2
    expected = run(world, model, step)[half:]
    found = run(world, model, step, negative=[[long, {}]])[half:]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_areas_act_by_their_own_prompts(world, step):
    """One area has the subject and the other has not; their order does not matter."""
    first, other = world.prompt(PROMPT), world.prompt("a watercolor of a king on the beach")
    model = apply(world, positive=[*other, *first])  # the word is missing in one of them
    x, t, _, more, _ = step
    half = len(x) // 2
    conditions = {name: (value[half:], value[:half]) for name, value in more.items()}
    inputs = (x[half:], 5.0, t, conditions)
    both = comfyui.denoise(model, [*other, *first], world.prompt(NEGATIVE), *inputs)
    plain = comfyui.denoise(world.model(), [*other, *first], world.prompt(NEGATIVE), *inputs)
    assert torch.equal(both[0], plain[0])
    assert not torch.allclose(both[1], plain[1], atol=1e-3)
    assert torch.equal(both[2], plain[2])


def test_a_prompt_that_is_also_the_negative_one_acts_on_its_own_side(world, step):
    model, half = apply(world), len(step[0]) // 2
    out = run(world, model, step, negative=world.prompt(PROMPT))
    assert torch.equal(out[:half], run(world, world.model(), step, negative=world.prompt(PROMPT))[:half])
    assert not torch.allclose(out[:half], out[half:], atol=1e-3)


def test_a_subject_is_projected_once_per_sampling_and_released(world, step, monkeypatch):
    adapter = world.adapter
    projected = []
    own = type(adapter.adapter).project_by_layer
    monkeypatch.setattr(type(adapter.adapter), "project_by_layer", lambda *a: projected.append(1) or own(*a))
    positive, negative = world.prompt(PROMPT), world.prompt(NEGATIVE)
    model = nodes.ApplyNestedAdapter().apply(world.model(), adapter, positive, image=image(3))[0]
    assert not projected

    def steps() -> Any:
        return [run(world, model, step, positive, negative, sigma) for sigma in (9.0, 5.0, 1.0)][-1]

    out = comfyui.sample(model, positive, negative, steps)
    assert len(projected) == 1
    subjects = model.model_options["transformer_options"]["nested_adapter"]
    assert subjects._projected == [] and subjects._batches == {} and subjects._last is None
    assert torch.equal(comfyui.sample(model, positive, negative, steps), out)
    assert len(projected) == 2


def test_beside_another_replacement_the_difference_is_added(world, step):
    """As with an IP-Adapter's nodes, before ours or after it."""

    def other(q: Any, k: Any, v: Any, options: Any) -> Any:
        return comfyui.optimized_attention(q, k, v, options["n_heads"]) + added(None, q, k, v, options)

    def added(out: Any, q: Any, k: Any, v: Any, options: Any, **settings: Any) -> Any:
        return 0.1 * q

    keys = [layer.key for layer in nodes.find_layers(world.model().model.diffusion_model).values()]
    before = world.model()
    for key in keys:
        before.set_model_attn2_replace(other, *key)
    first = run(world, apply(world, before), step)
    model = apply(world)
    replaced = model.clone()
    for key in keys:
        patch = replaced.model_options["transformer_options"]["patches_replace"]["attn2"][key]
        patch.add(added, sigma_start=6.0, sigma_end=4.0)
    torch.testing.assert_close(run(world, replaced, step, sigma=5.0), first, atol=1e-4, rtol=0)
    plain = run(world, model, step)
    assert torch.equal(run(world, replaced, step, sigma=3.0), plain)  # outside the other one's limits
    assert not torch.allclose(first, plain, atol=1e-3)
    assert torch.equal(run(world, model, step, sigma=5.0), plain)  # the original is as it was


def test_a_word_belongs_to_one_subject_unless_masks_keep_them_apart(world):
    one = apply(world)
    with pytest.raises(ValueError, match=r"'person'.*Give each its own word"):
        apply(world, one)
    halves = torch.zeros(2, 1, 16, 24)
    halves[0, ..., :12], halves[1, ..., 12:] = 1, 1
    apply(world, apply(world, mask=halves[0]), mask=halves[1], image=image(4))


def test_a_sampler_without_the_prompt_is_refused_before_its_first_step(world):
    model, other = apply(world), world.prompt("a watercolor of a child")
    with pytest.raises(ValueError, match="None of the 2 conditionings"):
        comfyui.sample(model, other, world.prompt(NEGATIVE), lambda: pytest.fail("sampled"))


def test_a_replacement_after_ours_is_refused(world):
    model = apply(world)
    model.set_model_attn2_replace(lambda q, k, v, options: q, "middle", 0, 0)
    with pytest.raises(ValueError, match=r"1 of the model's layers.*after that node"):
        comfyui.sample(model, world.prompt(PROMPT), [], lambda: pytest.fail("sampled"))
