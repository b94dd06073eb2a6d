"""Streamed image trees: the same batches whatever decodes them, and nothing left running behind them."""

import random
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision import transforms
from torchvision.transforms import functional

from noiseutils.config import Data, Evaluation, Model, Run, Schedule
from noiseutils.data import Dataset, Images, batch_parts, batches, load, streaming, to_float
from noiseutils.data.availability import check, fetch
from noiseutils.data.streaming import StreamedImages, random_box
from noiseutils.errors import UserError
from noiseutils.evaluation.evaluate import evaluate
from noiseutils.rng import generator
from noiseutils.training.loop import train

SIDE = 32
SIZES = ((50, 37), (37, 50), (40, 40), (32, 90), (64, 64), (20, 25), (33, 32), (101, 47), (37, 37))


@pytest.fixture
def tree(tmp_path):
    """18 training and 18 test images: JPEG and PNG of many sizes, and of every mode that becomes RGB."""
    draws = np.random.RandomState(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i, (width, height) in enumerate(SIZES):
                pixels = draws.randint(0, 256, (height, width, 3)).astype(np.uint8)
                mode, suffix = (("L", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("RGB", "png"))[min(i, 3)]
                suffix = "jpg" if i > 5 else suffix
                Image.fromarray(pixels).convert(mode).save(tmp_path / split / name / f"{i}.{suffix}")
    return tmp_path


def folder(root, **changes):
    return Data(**{"name": "folder", "root": str(root), "image_size": SIDE, "streamed": True, **changes})


def epoch(images, batch_size=4, seed=5, augmented=True, shard=(0, 1)):
    crops = generator(seed, "augmentation") if augmented else None
    return list(batches(images, batch_size, order=generator(seed, "data"), augmentation=crops, shard=shard))


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(x, a) and torch.equal(y, b) for (x, y), (a, b) in zip(first, second, strict=True)
    )


def decoders():
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def rgb(path):
    with Image.open(path) as image:
        return image.convert("RGB")


# --- pixels


def test_middles_equal_torchvisions_resize_and_center_crop(tree):
    images = load(folder(tree)).train
    reference = transforms.Compose(
        [transforms.Resize(round(SIDE * 256 / 224)), transforms.CenterCrop(SIDE), transforms.PILToTensor()]
    )
    expected = torch.stack([reference(rgb(path)) for path in images.files])
    assert torch.equal(images.take(99).pixels, expected)
    found = list(batches(images, 4))
    assert [len(y) for _, y in found] == [4, 4, 4, 4, 2]
    assert torch.equal(torch.cat([x for x, _ in found]), to_float(expected))
    assert torch.equal(torch.cat([y for _, y in found]), images.labels)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in found)
    assert {x.dtype for x, _ in found} == {torch.float32}


def test_augmented_images_equal_torchvisions_resized_crop_at_the_boxes_drawn(tree):
    images = load(folder(tree)).train
    seeds = torch.randint(2**63 - 1, (18,), generator=generator(5, "augmentation")).tolist()
    order = torch.randperm(18, generator=generator(5, "data")).tolist()
    expected = []
    for place, seed in zip(order, seeds, strict=True):
        draw, image = random.Random(seed).random, rgb(images.files[place])
        left, top, right, bottom = random_box(*image.size, draw)
        image = functional.resized_crop(image, top, left, bottom - top, right - left, [SIDE, SIDE])
        expected.append(functional.pil_to_tensor(functional.hflip(image) if draw() < 0.5 else image))
    assert torch.equal(torch.cat([x for x, _ in epoch(images)]), to_float(torch.stack(expected)))


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (64, 64), (3, 5), (1, 1), (900, 20), (20, 900)])
def test_random_boxes_lie_in_the_image_with_area_and_ratio_in_range(size):
    draws, (width, height) = random.Random(0), size
    boxes = {random_box(width, height, draws.random) for _ in range(2000)}
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        if min(size) > 20:  # else whole pixels are too coarse
            wide, tall = right - left, bottom - top
            assert 0.08 - 0.01 < wide * tall / (width * height) <= 1
            assert 3 / 4 - 0.05 < wide / tall < 4 / 3 + 0.05


def test_random_boxes_are_distributed_as_torchvisions():
    draw, image = random.Random(0).random, Image.new("RGB", (500, 375))
    theirs = [transforms.RandomResizedCrop.get_params(image, [0.08, 1], [3 / 4, 4 / 3]) for _ in range(4000)]
    ours = [
        (top, left, bottom - top, right - left)
        for left, top, right, bottom in (random_box(500, 375, draw) for _ in range(4000))
    ]
    for mine, other in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True):
        assert stats.ks_2samp(mine, other).pvalue > 0.01
    areas = ([h * w for _, _, h, w in boxes] for boxes in (ours, theirs))
    assert stats.ks_2samp(*areas).pvalue > 0.01


def test_an_image_in_which_no_box_fits_gives_the_largest_part_of_its_middle():
    def always_all():
        return 1 - 2**-53

    assert random_box(900, 20, always_all) == (436, 0, 463, 20)
    assert random_box(20, 900, always_all) == (0, 436, 20, 463)
    drawn = iter([0.0, 0.5, 0.0, 0.0])
    assert random_box(100, 100, lambda: next(drawn)) == (0, 0, 28, 28)  # 8 % of 100 × 100, ratio 1


# --- what the batches depend on


@pytest.mark.parametrize("augmented", [False, True])
def test_batches_are_the_same_whatever_the_number_of_workers(tree, augmented):
    images = load(folder(tree)).train
    one = epoch(replace(images, workers=1), augmented=augmented)
    for workers in (2, 7):
        assert same(epoch(replace(images, workers=workers), augmented=augmented), one)


def test_batches_follow_their_generators_alone(tree):
    images, state = load(folder(tree)).train, torch.get_rng_state()
    assert same(epoch(images), epoch(images))
    assert not same(epoch(images), epoch(images, seed=6))
    order = torch.cat([y for _, y in epoch(images)])
    assert torch.equal(order, torch.cat([y for _, y in epoch(images, augmented=False)]))
    assert torch.equal(order, images.labels[torch.randperm(18, generator=generator(5, "data"))])
    assert torch.equal(torch.get_rng_state(), state)


def test_generators_move_as_far_in_an_epoch_that_is_left_early(tree):
    images, states = load(folder(tree)).train, []
    for stop in (1, 99):
        order, crops = generator(5, "data"), generator(5, "augmentation")
        for step, _ in enumerate(batches(images, 4, order=order, augmentation=crops), start=1):
            if step == stop:
                break
        states.append((order.get_state(), crops.get_state()))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def in_memory():
    pixels = torch.randint(256, (18, 8, 8, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    return Images(pixels, torch.arange(18))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("world", [2, 3])
def test_shards_are_disjoint_and_together_the_batches_of_one_process(tree, streamed, augmented, world):
    images = load(folder(tree)).train if streamed else in_memory()
    whole = epoch(images, 8, augmented=augmented)
    shards = [epoch(images, 8, augmented=augmented, shard=(rank, world)) for rank in range(world)]
    assert {len(shard) for shard in shards} == {len(whole)} == {3}
    for step, (x, y) in enumerate(whole):
        for rank, shard in enumerate(shards):
            assert torch.equal(shard[step][0], x[rank::world])
            assert torch.equal(shard[step][1], y[rank::world])


@pytest.mark.parametrize("streamed", [False, True])
def test_a_last_batch_smaller_than_the_number_of_shards_is_empty_for_some(tree, streamed):
    images = load(folder(tree)).train if streamed else in_memory()
    for rank, last in enumerate([1, 1, 0]):  # 18 = 16 + 2
        found = epoch(images, 16, shard=(rank, 3))
        assert [len(y) for _, y in found] == [6 if rank == 0 else 5, last]
        assert found[1][0].shape == (last, *found[0][0].shape[1:])


def test_a_shard_that_cannot_be_is_refused():
    for shard in ((1, 1), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=r"expected \(rank, world\)"):
            batch_parts(19, 8, shard)


# --- what is left behind


def test_threads_end_with_the_epoch_and_when_it_is_closed_or_dropped_early(tree):
    images = load(folder(tree)).train
    assert not decoders()
    stream = batches(images, 2, order=generator(0, "data"))
    next(stream)
    assert decoders()
    stream.close()
    assert not decoders()
    for _ in batches(images, 2):
        break
    assert not decoders()
    epoch(images)
    assert not decoders()


def test_only_a_few_batches_are_decoded_ahead(tree, monkeypatch):
    images, calls, real = replace(load(folder(tree)).train, workers=1), [], streaming._decode_into
    monkeypatch.setattr(streaming, "_decode_into", lambda *given: calls.append(1) or real(*given))
    stream = batches(images, 2)
    for step in range(1, 4):
        next(stream)
        assert 2 * step <= len(calls) <= 2 * (step + streaming.BATCHES_AHEAD)
    stream.close()
    assert len(calls) < 18


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_unreadable_image_is_named_and_leaves_no_thread(tree, content):
    path = tree / "train" / "dog" / "4.png"
    path.write_bytes(path.read_bytes()[:80] if content is None else content)
    with pytest.raises(UserError, match=r"dog/4\.png cannot be read as an image"):
        _ = load(folder(tree)).mean
    images = load(folder(tree)).train
    with pytest.raises(UserError, match=r"dog/4\.png cannot be read as an image"):
        epoch(images)
    assert not decoders()


# --- the set


def test_streamed_set_is_the_tree_that_is_read_whole(tree):
    for path in tree.glob("*/*/0.jpg"):  # a folder read whole refuses grey among colour
        path.unlink()
    data, whole = load(folder(tree)), load(folder(tree, streamed=False))
    assert (data.classes, data.label, data.num_classes) == (whole.classes, whole.label, 2)
    assert (data.channels, data.image_size, len(data.train), len(data.test)) == (3, SIDE, 16, 16)
    assert torch.equal(data.train.labels, whole.train.labels)
    assert torch.equal(data.test.labels, whole.test.labels)


def test_fetching_a_streamed_set_caches_nothing(tree):
    assert "18 training" in fetch(folder(tree)) == check(folder(tree))
    assert not [path for path in tree.rglob("*") if path.name.startswith(".")]


def test_mean_and_std_are_those_of_the_first_images(tree, monkeypatch):
    data = load(folder(tree))
    taken = data.train.take(18)
    held = Dataset(taken, taken, ("a",), "a", "")
    assert (data.mean, data.std) == (held.mean, held.std)
    monkeypatch.setattr(streaming, "STATISTICS_IMAGES", 5)
    floats = taken.pixels[:5].double() / 255
    assert load(folder(tree)).mean == pytest.approx(floats.mean(dim=(0, 2, 3)).tolist(), abs=1e-12)


def test_fingerprint_follows_the_files_that_are_used(tree):
    first = load(folder(tree)).fingerprint
    assert load(folder(tree)).fingerprint == first
    prints = {
        first,
        load(folder(tree, train_size=5)).fingerprint,
        load(folder(tree, test_size=5)).fingerprint,
    }
    path = tree / "test" / "cat" / "3.png"
    path.rename(path.with_name("30.png"))
    prints.add(load(folder(tree)).fingerprint)
    path.with_name("30.png").rename(path)
    assert load(folder(tree)).fingerprint == first
    Image.new("RGB", (8, 8)).save(path)
    prints.add(load(folder(tree)).fingerprint)
    for split in ("train", "test"):
        (tree / split / "dog").rename(tree / split / "eel")
    prints.add(load(folder(tree)).fingerprint)
    assert len(prints) == 6


def test_a_size_takes_a_fixed_choice_and_a_smaller_one_is_part_of_a_larger(tree):
    whole, large, small = (load(folder(tree, train_size=n)).train for n in (None, 12, 5))
    assert small.files == large.files[:5] == whole.files[:5]
    assert set(whole.labels[:5].tolist()) == {0, 1}
    with pytest.raises(UserError, match=r"train_size 19 .* has 18 train images"):
        load(folder(tree, train_size=19))


def test_take_subset_and_to_give_the_images_asked_for(tree):
    images = load(folder(tree)).train
    assert torch.equal(images.take(4).pixels, images.take(9).pixels[:4])
    assert torch.equal(images.take(4).labels, images.labels[:4])
    assert len(images.take(0)) == 0
    chosen = images.subset(torch.tensor([3, 1, 3]))
    assert torch.equal(chosen.take(3).pixels, images.take(4).pixels[[3, 1, 3]])
    assert torch.equal(chosen.labels, images.labels[[3, 1, 3]])
    assert images.to("cpu").device == torch.device("cpu")
    with pytest.raises(UserError, match="18 images are streamed and not held in memory"):
        _ = images.pixels


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "cifar10", "image_size": 32}, "`streamed` is for image trees .* cifar10 is read whole"),
        ({"name": "shapes"}, "`streamed` is for image trees"),
        ({"name": "folder", "root": "x"}, "`streamed` needs `image_size`"),
        ({"name": "imagenet"}, "`streamed` needs `image_size`"),
    ],
)
def test_only_image_trees_of_a_given_size_are_streamed(values, message):
    with pytest.raises(ValueError, match=message):
        Data(streamed=True, **values)


def test_streaming_is_part_of_the_run_key_and_its_absence_is_not():
    plain = Data(name="folder", root="cats", image_size=8)
    assert Run(data=plain).key == Run(data=plain.replace(streamed=False)).key
    assert Run(data=plain).key != Run(data=plain.replace(streamed=True)).key


# --- training


def test_a_network_trains_and_is_evaluated_on_a_streamed_folder(tree):
    data = load(folder(tree))
    tests, rate = Evaluation(noise=(0.1,), fgsm=(2 / 255,)), Schedule(learning_rate=0.01)
    run = Run(data=folder(tree), model=Model(name="babycnn"), schedule=rate, evaluation=tests)
    run = run.replace(epochs=1, batch_size=8, augment=True)
    first, second = (
        train(run, data=replace(data, train=replace(data.train, workers=workers)), device="cpu")
        for workers in (1, 4)
    )
    assert (first.status, first.metrics["images"]) == ("finished", 18)
    assert first.metrics == second.metrics
    assert isinstance(data.test, StreamedImages)
    held = replace(data, train=data.train.take(99), test=data.test.take(99))
    assert evaluate(first.model, held, run.evaluation, seed=run.seed) == first.metrics
    assert not decoders()
