import torch

from noiseutils.rng import SiteStreams, draw_keep, draw_normal, generator, seeded, streams


def test_streams_of_one_seed_repeat_and_differ_between_purposes_and_seeds():
    first, again, other = streams(1), streams(1), streams(2)
    names = ("init", "data", "augmentation", "noise", "attack")
    draws = [
        [tuple(torch.rand(4, generator=getattr(s, name)).tolist()) for name in names]
        for s in (first, again, other)
    ]
    assert draws[0] == draws[1]
    assert len({*draws[0], *draws[2]}) == 2 * len(names)


def test_restored_streams_continue_where_they_were():
    random = streams(5)
    torch.rand(10, generator=random.data)
    state = random.state()
    expected = torch.rand(3, generator=random.data)
    fresh = streams(5)
    fresh.restore(state)
    assert torch.equal(torch.rand(3, generator=fresh.data), expected)


def test_seeded_leaves_the_global_generator_as_it_was():
    before = torch.get_rng_state()
    with seeded(3):
        first = torch.rand(2)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(3):
        assert torch.equal(torch.rand(2), first)


def test_draws_follow_the_layout_of_the_activations():
    x = torch.zeros(4, 3, 5, 6).to(memory_format=torch.channels_last)
    z = draw_normal(x, generator(0, "z"))
    keep = draw_keep(x, 0.75, generator(0, "keep"))
    assert z.shape == keep.shape == x.shape
    assert z.stride() == keep.stride() == x.stride()


def test_draws_have_their_distribution():
    x = torch.zeros(100_000)
    z = draw_normal(x, generator(0, "z"))
    keep = draw_keep(x, 0.75, generator(0, "keep"))
    assert abs(z.mean().item()) < 0.02
    assert abs(z.std().item() - 1) < 0.02
    assert abs(keep.float().mean().item() - 0.75) < 0.01


def test_a_site_has_one_generator_per_purpose_for_good():
    site = SiteStreams(0, "conv1")
    cpu = torch.device("cpu")
    assert site.get("mask", cpu) is site.get("mask", cpu)
    assert site.get("mask", cpu) is not site.get("noise", cpu)
