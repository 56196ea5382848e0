"""Rows, summary, plot and subjects by themselves."""

import json
from pathlib import Path

import pytest
from PIL import Image

from diffusers_nested import NestedAdapterError
from diffusers_nested.evaluation import Reference, load_references
from diffusers_nested.evaluation.earlier import check_same
from diffusers_nested.evaluation.plots import trade_off
from diffusers_nested.evaluation.rows import RESULTS, RowWriter, gather_rows, key_of, read_rows
from diffusers_nested.evaluation.shots import load_prompts, plan_shots
from diffusers_nested.evaluation.summary import as_table, summarise


def row(subject: str, seed: int = 0, contestant: str = "a", **scores):
    return {
        "contestant": contestant,
        "scale": 1.0,
        "subject": subject,
        "prompt": "é",
        "seed": seed,
        "picture": None,
        "scores": scores,
    }


def test_rows_of_several_processes_come_into_order(tmp_path):
    rows = [row(subject, seed) for subject in "xy" for seed in range(2)]
    RowWriter(tmp_path, 1).append(rows[3:])
    RowWriter(tmp_path, 0).append(rows[1:3])
    RowWriter(tmp_path, 0).append(rows[:1])
    with (tmp_path / "rows-00001.jsonl").open("a") as file:
        file.write(json.dumps(rows[0])[:-5])  # cut off
    # killed after the results were written, before the parts were deleted: they are there twice
    gather_rows(tmp_path, [key_of(one) for one in rows])
    RowWriter(tmp_path, 0).append(rows[:2])
    gather_rows(tmp_path, [key_of(one) for one in rows])
    assert read_rows(tmp_path / RESULTS) == rows
    assert [path.name for path in tmp_path.iterdir()] == [RESULTS]


@pytest.mark.parametrize(
    "changed",
    [
        {"scale": "1"},
        {"scale": float("nan")},
        {"scale": 10**400},
        {"seed": 0.5},
        {"picture": 3},
        {"scores": [1]},
        {"scores": {"text": "good"}},
        {"scores": {"text": float("inf")}},
        {"subject": None},
        {"contestant": ["a"]},
        {"seed": ...},
    ],
    ids=str,
)
def test_a_line_that_is_no_row_is_named(tmp_path, changed):
    """And nothing is lost for it."""
    (name,) = changed
    bad = {key: value for key, value in {**row("x", 1), **changed}.items() if value is not ...}
    RowWriter(tmp_path, 0).append([row("x", 0), bad, row("x", 2)])
    before = (tmp_path / "rows-00000.jsonl").read_bytes()
    with pytest.raises(NestedAdapterError, match=rf"rows-00000\.jsonl, line 2, .*{name}.*again"):
        gather_rows(tmp_path, [])
    assert [path.name for path in tmp_path.iterdir()] == ["rows-00000.jsonl"]
    assert (tmp_path / "rows-00000.jsonl").read_bytes() == before


def test_summary_as_a_table():
    rows = [row("x", text=0.5, face=0.25), row("y", text=0.5, face=None), row("y", contestant="b", face=None)]
    assert as_table(summarise(rows)).splitlines() == [
        "| contestant | scale | pictures | text | face |",
        "|---|---|---|---|---|",
        "| a | 1 | 2 | 0.500 [0.500, 0.500] | 0.250 [0.250, 0.250], 1 failed |",
        "| b | 1 | 1 |  | –, 1 failed |",
    ]


def test_summary_weighs_subjects_alike_and_counts():
    rows = [row("x", 0, score=1.0), row("x", 1, score=0.0), row("x", 2, score=None), row("y", 0, score=1.0)]
    rows += [row("y", 1), row("z", 0, "b", score=None)]
    first, second = summarise(rows)
    assert first["scores"]["score"].items() >= {"mean": 0.75, "measured": 3, "failed": 1}.items()
    assert (first["scores"]["score"]["low"], first["scores"]["score"]["high"]) == (0.5, 1.0)
    assert second["scores"]["score"] == {"mean": None, "low": None, "high": None, "measured": 0, "failed": 1}
    assert (first["subjects"], first["pictures"]) == (2, 5)


def test_plot_holds_a_curve_per_contestant(tmp_path):
    score = {"low": 0.1, "high": 0.3, "measured": 4, "failed": 1}
    conditions = [
        {
            "contestant": name,
            "scale": scale,
            "pictures": pictures,
            "subjects": 2,
            "scores": {"text": {**score, "mean": 0.2}, "identity": {**score, "mean": 0.2 if scale else None}},
        }
        for name, scale, pictures in (("plain", 0.0, 5), ("ours", 2.0, 15), ("ours", 0.5, 15))
    ]
    trade_off(conditions, "text", "identity", tmp_path / "plot.v1")
    svg = (tmp_path / "plot.v1.svg").read_text()
    for label in (
        "ours",
        "0.5",
        "2 subjects, 5 to 15 pictures",
        "more is closer to the photos",
        "identity failed on 3 pictures",
    ):
        assert label in svg
    assert ">plain<" not in svg  # nothing was measured for it
    with Image.open(tmp_path / "plot.v1.png") as image:
        assert image.size[0] > 500


def folder_of(tmp_path: Path) -> Path:
    for name in ("ada.png", "ben/1.png", "ben/2.png", "notes.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.new("RGB", (4, 4)).save(path)
        else:
            path.write_text("of no interest")
    return tmp_path / "photos"


def test_subjects_of_a_folder(tmp_path):
    folder = str(folder_of(tmp_path))
    ada, ben = load_references({"folder": folder, "word": "child"})
    assert (ada.name, ada.words, len(ada.photos())) == ("ada", ("child",), 1)
    assert (ben.name, len(ben.photos())) == ("ben", 2)
    (ada, ben) = load_references({"folder": folder, "word": "child", "photos": 1})
    assert len(ben.photos()) == 1
    assert [one.name for one in load_references({"folder": folder, "word": "child", "count": 1})] == ["ada"]
    (tmp_path / "photos" / "empty").mkdir()
    with pytest.raises(NestedAdapterError, match="empty"):
        load_references({"folder": folder, "word": "child"})


def test_what_is_in_a_folder_beside_subjects(tmp_path, caplog):
    caplog.set_level("INFO")
    folder = folder_of(tmp_path)
    (folder / ".hidden").mkdir()
    (folder / "._ada.png").write_text("of the system")
    (folder / "ben" / ".DS_Store.png").write_text("of the system")
    for name in ("st.john", "st.mary"):
        (folder / name).mkdir()
        Image.new("RGB", (4, 4)).save(folder / name / "1.TIFF")
    found = load_references({"folder": str(folder), "word": "child"})
    assert [(one.name, len(one.photos())) for one in found] == [("ada", 1), ("ben", 2), ("st.john", 1), ("st.mary", 1)]
    assert "notes.txt" in caplog.text and "hidden" not in caplog.text


def test_subjects_of_a_list(tmp_path):
    folder = folder_of(tmp_path)
    files = {"person": [str(folder / "ada.png")], "pet": [str(folder / "ben" / "1.png")]}
    (both, one) = load_references(
        [{"name": "both", "images": files}, {"name": "one", "word": "pet", "images": files["pet"]}]
    )
    assert (both.words, one.words) == (("person", "pet"), ("pet",))
    before = both.fingerprint
    Image.new("RGB", (4, 4), "red").save(folder / "ada.png")
    assert load_references([{"name": "both", "images": files}])[0].fingerprint != before


def test_a_prompt_ends_with_its_line_only(tmp_path):
    prompt = "a \u2028 photo\x85 of\x0b a café"
    (tmp_path / "prompts.txt").write_text(f"{prompt}\n", encoding="utf-8")
    assert load_prompts(tmp_path / "prompts.txt") == [prompt]


def test_prompts(tmp_path):
    (tmp_path / "prompts.txt").write_bytes(b"\xef\xbb\xbfa photo of a {}\r\n\r\n  a drawing of the {} \r\n")
    prompts = load_prompts(str(tmp_path / "prompts.txt"))
    assert prompts == ["a photo of a {}", "a drawing of the {}"]
    shots = plan_shots([Reference("ada", {"child": []}), Reference("tom", {"cat": []})], prompts, [0, 7])
    assert [shot.prompt for shot in shots[::2]] == [
        "a photo of a child",
        "a drawing of the child",
        "a photo of a cat",
        "a drawing of the cat",
    ]
    states = [shot.generator().initial_seed() for shot in shots]
    assert len(set(states)) == 8
    assert states == [shot.generator().initial_seed() for shot in shots]
    with pytest.raises(NestedAdapterError, match="person, pet"):
        plan_shots([Reference("both", {"person": [], "pet": []})], prompts, [0])


def test_a_pipeline_whose_files_have_changed_is_another(tmp_path):
    earlier = {"pipeline": "base", "pipeline_files": "1", "contestants": {}}
    (tmp_path / "settings.json").write_text(json.dumps(earlier))
    check_same(tmp_path, earlier)
    with pytest.raises(NestedAdapterError, match="differ: pipeline_files"):
        check_same(tmp_path, {**earlier, "pipeline_files": "2"})
    (tmp_path / "settings.json").write_text(json.dumps({"pipeline": "base", "contestants": {}}))
    check_same(tmp_path, earlier)  # results from before the files were noted
