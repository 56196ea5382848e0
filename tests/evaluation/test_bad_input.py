"""What is wrong is said before any picture is made."""

from datetime import date

import pytest
from PIL import Image

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapterError
from diffusers_nested.evaluation import evaluate, read_settings

PLAIN = {"kind": "plain"}
PEOPLE = {"kind": "nested", "adapter": "miniature:people"}


@pytest.fixture
def refused(settings, monkeypatch, tmp_path):
    """Runs a comparison that must not get as far as its first picture."""
    from diffusers_nested.evaluation.sweep import _Sweep

    monkeypatch.setattr(_Sweep, "run", lambda self: pytest.fail("it began"))
    monkeypatch.chdir(tmp_path)

    def run(match: str, **changes):
        with pytest.raises(NestedAdapterError, match=match):
            evaluate(settings(**changes))
        assert not (tmp_path / "out").exists()

    return run


@pytest.mark.parametrize(
    ("match", "changes"),
    [
        ("nowhere", {"subjects": [{"name": "ada", "word": "person", "images": ["nowhere.png"]}]}),
        ("no images", {"subjects": [{"name": "ada", "word": "person", "images": []}]}),
        ("nowhere", {"subjects": {"folder": "nowhere", "word": "person"}}),
        ("lacks 'word'", {"subjects": [{"name": "ada", "images": ["a.png"]}]}),
        ("plants", {"subjects": {"source": "miniature:plants"}}),
        ("atlantis", {"subjects": {"source": "atlantis:people"}}),
        ("no subjects", {"subjects": {"source": "miniature:people", "count": 0}}),
        ("no prompts", {"prompts": []}),
        (r"nowhere\.txt", {"prompts": "nowhere.txt"}),
        ("prompts", {"prompts": 5}),
        ("prompts", {"prompts": {"a": "a {}"}}),
        ("call.*'num_inference_stepz'", {"call": {"num_inference_stepz": 2}}),
        ("call.*'prompt'", {"call": {"prompt": "a person"}}),
        ("call.*'nested_adapter_scale'", {"call": {"nested_adapter_scale": 2}}),
        ("call cannot be written", {"call": {"guidance_scale": date(2020, 1, 1)}}),
        ("contestants.*digits", {"contestants": {"it": {"kind": "plain", "scales": [1, 1.0000001]}}}),
        ("x{201}' cannot", {"contestants": {"x" * 201: PLAIN}}),
        ("MODULE:NAME", {"contestants": {"it": {"kind": "function", "function": "contestants:"}}}),
        ("cannot be imported", {"contestants": {"it": {"kind": "function", "function": ".contestants:painted"}}}),
        ("a photo on the beach.*person", {"prompts": ["a photo on the beach"]}),
        ("differ", {"prompts": ["a {}", "a {}"]}),
        ("the same", {"prompts": ["a {}", "a person"]}),
        ("'persn'.*person", {"contestants": {"plain": PLAIN, "it": {**PEOPLE, "words": ["persn"]}}}),
        ("words \\[\\]", {"contestants": {"plain": PLAIN, "it": {**PEOPLE, "words": []}}}),
        ("photos 0", {"contestants": {"plain": PLAIN, "it": {**PEOPLE, "photos": 0}}}),
        ("sorcery", {"contestants": {"it": {"kind": "sorcery"}}}),
        ("adaptor", {"contestants": {"it": {"kind": "nested", "adaptor": "x"}}}),
        ("nowhere", {"contestants": {"it": {"kind": "nested", "adapter": "./nowhere"}, "plain": PLAIN}}),
        ("no_such_module", {"contestants": {"it": {"kind": "function", "function": "no_such_module:f"}}}),
        ("nothing", {"contestants": {"it": {"kind": "function", "function": "contestants:nothing"}}}),
        ("scales", {"contestants": {"plain": PLAIN, "it": {"kind": "nested", "adapter": "x", "scales": [-1]}}}),
        ("a/b", {"contestants": {"plain": PLAIN, "a/b": PLAIN}}),
        ("magic", {"metrics": {"text": "magic"}}),
        ("modell", {"metrics": {"text": {"kind": "clip-text", "modell": "x"}, "identity": "miniature-identity"}}),
        ("nowhere", {"metrics": {"text": {"kind": "clip-text", "model": "./nowhere"}}}),
        ("'identity'", {"metrics": {"text": "miniature-text"}}),
        ('kind "plain"', {"contestants": {"it": {"kind": "function", "function": "contestants:painted"}}}),
        ("box", {"metrics": {"text": {"kind": "outside", "box": [0, 0, 1, 1]}}, "y": "text"}),
        ("box", {"metrics": {"text": {"kind": "outside", "box": [0.9, 0, 0.1, 1]}}, "y": "text"}),
    ],
)
def test_said_before_the_first_picture(refused, match, changes):
    refused(match, **changes)


def test_an_empty_prompt_file(refused, tmp_path):
    (tmp_path / "prompts.txt").write_text("\n  \n")
    refused("no prompts", prompts="prompts.txt")


def test_a_prompt_file_in_another_encoding(refused, tmp_path):
    (tmp_path / "prompts.txt").write_bytes("a person\na {} in a café\n".encode("latin-1"))
    refused(r"prompts\.txt, line 2, is not in UTF-8", prompts="prompts.txt")


def test_no_photos_of_each(refused, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    refused("at least 1", subjects={"folder": ".", "word": "person", "photos": 0})


def test_a_photo_that_is_cut_off(refused, tmp_path):
    tiny.photo(size=64).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    refused(r"a\.png", subjects={"folder": ".", "word": "person"})


def test_a_file_that_is_no_picture(refused, tmp_path):
    (tmp_path / "a.png").write_text("text")
    refused(r"a\.png", subjects=[{"name": "ada", "word": "person", "images": ["a.png"]}])


def test_two_subjects_of_one_name(refused, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    refused("ada", subjects=[{"name": "ada", "word": "person", "images": ["a.png"]}] * 2)


def test_an_adapter_for_another_base(refused, tmp_path):
    folder = tiny.save_adapter(tmp_path / "other", tiny.adapter(tiny.unet()))
    refused("layers", contestants={"plain": PLAIN, "it": {"kind": "nested", "adapter": str(folder)}})


def test_a_word_for_which_no_adapter_of_several_is(refused, tmp_path):
    tiny.photo(size=32).save(tmp_path / "a.png")
    subject = {"name": "ada", "word": "king", "images": ["a.png"]}
    table = {"kind": "nested", "adapter": ["miniature:people", "miniature:pets"]}
    refused("'it' cannot draw the subject 'ada'.*'king'", subjects=[subject], contestants={"plain": PLAIN, "it": table})


def test_an_ip_adapter_that_is_none(refused, tmp_path):
    (tmp_path / "ip").mkdir()
    table = {"kind": "ip_adapter", "adapter": str(tmp_path / "ip"), "weight_name": "ip.safetensors"}
    refused("'it' cannot be loaded", contestants={"plain": PLAIN, "it": table})


def test_photos_that_show_nobody(refused):
    metrics = {"text": "miniature-text", "identity": {"kind": "identity", "embed": "contestants:embed_nobody"}}
    refused("people-000", metrics=metrics)


@pytest.mark.parametrize("method", ["too_few", "arrays"])
def test_a_method_that_returns_something_else(settings, method):
    table = {"plain": PLAIN, "it": {"kind": "function", "function": f"contestants:{method}"}}
    with pytest.raises(NestedAdapterError, match="'it' must return"):
        evaluate(settings(contestants=table))


@pytest.mark.parametrize("returns", ["few", "no list", "no tables", "text", [1], {}])
def test_a_metric_that_returns_something_else(settings, returns):
    metrics = {"text": {"kind": "contestants:Odd", "returns": returns}}
    with pytest.raises(NestedAdapterError, match=r"metrics\.text must return"):
        evaluate(settings(metrics=metrics, y="text", prompts=["a {}"], contestants={"plain": PLAIN}, batch_size=1))


def test_two_metrics_of_one_column(settings):
    metrics = {"text": "miniature-text", "text shirt": {"kind": "contestants:Odd", "returns": 0.5}}
    with pytest.raises(NestedAdapterError, match="'text shirt', as another metric"):
        evaluate(settings(metrics=metrics, y="text", prompts=["a {} wearing a red shirt"]))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("output = ", "settings.toml"),
        ('output = "x"', "missing: subjects, prompts"),
        ('output = "x"\nspeed = 3', "unknown: speed"),
    ],
)
def test_a_settings_file_that_does_not_fit(tmp_path, text, match):
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(NestedAdapterError, match=match):
        read_settings(tmp_path / "settings.toml")
    with pytest.raises(NestedAdapterError, match="nowhere"):
        read_settings(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": 0},
        {"seeds": [1, 1]},
        {"seeds": [-1]},
        {"scales": []},
        {"scales": [float("nan")]},
        {"batch_size": 0},
        {"contestants": {}},
        {"metrics": {}},
        {"dtype": "float8"},
        {"output": ""},
        {"output": 3},
        {"pipeline": 3},
        {"device": "gpu"},
        {"device": 0},
        {"scales": [1.0, 1.0000001]},
    ],
)
def test_values_out_of_range(settings, changes):
    with pytest.raises(NestedAdapterError, match=next(iter(changes))):
        settings(**changes)


def test_a_device_that_is_not_there(settings):
    with pytest.raises(NestedAdapterError, match=r"device 'cuda:7' cannot be used. Choose one of cpu"):
        evaluate(settings(device="cuda:7"))


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ("plain", r"'x' must be a table such as { kind = \"plain\" }, got 'plain'"),
        ({"kind": ["plain"]}, r"'x' must have one of the kinds plain, .* got \['plain'\]"),
        ({"kind": "plain", "scales": [1.0]}, r"contestants\.x is plain, so it has no scales"),
    ],
    ids=str,
)
def test_contestants_that_are_none(settings, table, match):
    with pytest.raises(NestedAdapterError, match=match):
        evaluate(settings(contestants={"x": table}))


def test_seeds_differ_in_any_digit(settings):
    assert list(settings(seeds=[12_345_678, 12_345_679]).seeds) == [12_345_678, 12_345_679]
