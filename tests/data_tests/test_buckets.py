"""Buckets: their sizes, which picture belongs to which, and the order of their batches."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusers_nested import SubjectError
from diffusers_nested.data import BucketOrder, bucket_sizes, largest_bucket, nearest_size, size_of

A, B, C = (32, 32), (16, 64), (64, 16)
SIZES = [A, B, A, C, A, A, B, A, A, A, B]  # of 11 examples: seven, three and one


def test_sizes_of_sdxl():
    sizes = bucket_sizes(1024, 64)
    portrait = [(1024, 1024), (1088, 960), (1152, 896), (1216, 832), (1344, 768), (1472, 704), (1600, 640)]
    portrait += [(1792, 576), (2048, 512)]
    assert sizes == sorted({*portrait, *((width, height) for height, width in portrait)})
    assert all(height * width <= 1024**2 for height, width in sizes)
    assert bucket_sizes(512, 64)[0] == (256, 1024)
    assert bucket_sizes(64, 64) == [(64, 64)]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(1000, 1000, (1024, 1024)), (3000, 2000, (1216, 832)), (10, 90, (512, 2048)), (1500, 1600, (960, 1088))],
)
def test_a_picture_goes_where_it_is_cropped_least(height, width, expected):
    assert nearest_size(bucket_sizes(1024, 64), height, width) == expected


def test_a_size_is_read_from_the_head(tmp_path: Path):
    picture = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "lying.jpg")
    picture.save(tmp_path / "standing.jpg", exif=exif)
    assert [size_of(tmp_path / f"{name}.jpg") for name in ("lying", "standing")] == [(20, 30), (30, 20)]
    assert size_of(picture) == (20, 30)
    head = (tmp_path / "lying.jpg").read_bytes()[:300]
    (tmp_path / "cut.jpg").write_bytes(head)
    for name in ("cut.jpg", "gone.jpg"):
        with pytest.raises(SubjectError, match="cannot be read"):
            size_of(tmp_path / name)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 16])
def test_all_examples_are_seen_as_often_and_batches_hold_one_bucket(size: int):
    order = BucketOrder(SIZES, size, 7)
    batches = [order.batch(number) for number in range(11 * 16)]  # 16 · size epochs
    assert all(len(batch) == size and len({SIZES[i] for i in batch}) == 1 for batch in batches)
    times = Counter(i for batch in batches for i in batch)
    assert set(times) == set(range(11))
    assert max(times.values()) - min(times.values()) <= size
    for bucket in (A, B, C):  # each bucket in whole permutations
        members = [i for i, one in enumerate(SIZES) if one == bucket]
        seen = [i for batch in batches for i in batch if SIZES[i] == bucket]
        for first in range(0, len(seen) - len(members), len(members)):
            assert sorted(seen[first : first + len(members)]) == members


def test_order_depends_on_number_and_seed_alone():
    order = BucketOrder(SIZES, 3, 7)
    batches = [order.batch(i) for i in range(40)]
    assert [BucketOrder(SIZES, 3, 7).batch(i) for i in reversed(range(40))] == batches[::-1]
    assert [BucketOrder(SIZES, 3, 8).batch(i) for i in range(40)] != batches


@pytest.mark.parametrize("count", [2, 4])
def test_processes_take_turns(count: int):
    alone = BucketOrder(SIZES, 2, 7)
    orders = [BucketOrder(SIZES, 2, 7, process, count) for process in range(count)]
    shared = [order.batch(number) for number in range(12) for order in orders]
    assert shared == [alone.batch(number) for number in range(12 * count)]


def test_the_largest_bucket():
    assert largest_bucket(SIZES) == [0, 2, 4, 5, 7, 8, 9]
    assert largest_bucket([B, A]) == [0]
