"""`diffusers-nested prepare`, from photos to an adapter that is trained on them."""

import shutil
from pathlib import Path

import pytest

from accelerate_state import own_accelerator
from diffusers_nested import NestedAdapter, miniature, prepare_face
from diffusers_nested.cli import main
from diffusers_nested.images import open_photo
from tiny_vision import save_captioner, save_segmenter

__all__ = ["own_accelerator"]
PHOTOS = Path(__file__).parents[1] / "data" / "photos"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    save_segmenter(tmp_path / "models" / "segmenter")
    save_captioner(tmp_path / "models" / "captioner", "a dog on the beach")
    return tmp_path / "models"


@pytest.mark.slow
def test_prepared_photos_train_as_they_are(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    flags = ("--segmenter", str(models / "segmenter"), "--captioner", str(models / "captioner"), "--device", "cpu")
    assert main(["prepare", "pets", str(PHOTOS), str(tmp_path / "set"), *flags, "--subject-token", "animal"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"2 examples of 2 photos in {(tmp_path / 'set').resolve()}\n"
    assert "rejects=0" in shown.err and "photo/s" in shown.err
    train = [
        *("--pretrained_model_name_or_path", str(miniature.path())),
        *("--image_encoder_name_or_path", str(miniature.path("pets") / "image_encoder")),
        *("--train_data_dir", str(tmp_path / "set"), "--output_dir", str(tmp_path / "run")),
        *("--subject_token", "animal", "--num_queries", "4"),
        *("--resolution", "32", "--train_batch_size", "2", "--max_train_steps", "1"),
    ]
    assert main(["train", *train]) == 0
    assert NestedAdapter.from_pretrained(tmp_path / "run").config["subject_token"] == "animal"


def test_faces_are_those_of_prepare_face(tmp_path: Path, capsys: pytest.CaptureFixture):
    pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    (tmp_path / "captions.csv").write_text(
        "file_name,text\nastronaut.jpg,An astronaut in orange\ncat.jpg,a woman\nboth.png,a woman\n"
    )
    source = tmp_path / "photos"
    source.mkdir()
    shutil.copy(PHOTOS / "cat.jpg", source)
    shutil.copy(PHOTOS / "astronaut.jpg", source)
    one = open_photo(PHOTOS / "astronaut.jpg")
    both = one.resize((2 * one.width, one.height))
    both.paste(one, (0, 0))
    both.paste(one.transpose(0), (one.width, 0))
    both.save(source / "both.png")
    given = ("--captions", str(tmp_path / "captions.csv"))
    assert main(["prepare", "faces", str(source), str(tmp_path / "largest"), *given]) == 0
    crop = open_photo(tmp_path / "largest" / "inputs" / "astronaut.jpg-1.png")
    assert crop.tobytes() == prepare_face(PHOTOS / "astronaut.jpg").tobytes()
    assert "A person in orange" in (tmp_path / "largest" / "metadata.jsonl").read_text()
    said = capsys.readouterr().out
    assert "1 examples of 3 photos" in said
    assert "1 rejected: no subject found" in said and "1 rejected: several subjects" in said
    assert main(["prepare", "faces", str(source), str(tmp_path / "all"), *given, "--faces", "all"]) == 0
    assert {file.name for file in (tmp_path / "all" / "inputs").iterdir()} == {
        *("astronaut.jpg-1.png", "both.png-1.png", "both.png-2.png")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["facez", "a", "b"], "invalid choice: 'facez'"),
        (["pets", "a", "b"], "--segmenter"),
        (["faces", "a", "b", "--segmenter", "c"], "unrecognized arguments: --segmenter c"),
        (["faces", "a", "b", "--min-size", "0"], "expected a whole number of at least 1"),
        (["faces", "a", "b", "--faces", "some"], "invalid choice: 'some'"),
    ],
)
def test_misspelt_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as end:
        main(["prepare", *arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["prepare", "faces", str(tmp_path / "gone"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        f"diffusers-nested prepare: SOURCE {tmp_path / 'gone'} is not there, expected a folder of photos.\n"
    )
