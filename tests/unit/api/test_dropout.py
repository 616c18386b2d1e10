"""Dropout by key: SplitMix64 against integers of Python, shares, independence, and what a model without an engine gets."""

import torch

from repkit.api import Dropout
from repkit.api.dropout import keyed_dropouts, mixed, module_key


def split_mix_64(state):
    """Steele, Lea and Flood 2014, in integers without end."""
    most = (1 << 64) - 1
    z = state & most
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & most
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & most
    return z ^ (z >> 31)


def test_bits_are_those_of_split_mix_64():
    for key in (0, 1234567, -5, 2**62 + 11):
        found = mixed(torch.tensor(key), torch.arange(50)).tolist()
        assert [value % (1 << 64) for value in found] == [split_mix_64(key + i * 0x9E3779B97F4A7C15) for i in range(50)]
    # the published first output of the generator started at 0, whose first step adds the golden constant
    assert int(mixed(torch.tensor(0), torch.tensor(1))) % (1 << 64) == 0xE220A8397B1DCDAF


def keyed(p, key):
    module = Dropout(p)
    keyed_dropouts(module)
    module.key.fill_(key)
    return module


def test_the_share_that_is_kept_and_its_scale():
    kept = keyed(0.8, 3)(torch.ones(400, 500))
    assert set(kept.unique().tolist()) == {0.0, 5.0}
    # 200 000 draws: three standard deviations are 0.0027
    assert abs(float((kept > 0).float().mean()) - 0.2) < 0.0027


def test_keys_of_neighbouring_steps_and_modules_give_independent_masks():
    ones = torch.ones(200_000)
    masks = [keyed(0.5, key)(ones) > 0 for key in (7, 8, int(module_key(torch.tensor(7), 1)))]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(float((masks[a] == masks[b]).float().mean()) - 0.5) < 0.0034  # three standard deviations


def test_the_mask_depends_on_the_key_alone():
    torch.manual_seed(1)
    first = keyed(0.5, 9)(torch.ones(30, 30))
    torch.manual_seed(2)
    assert torch.equal(first, keyed(0.5, 9)(torch.ones(30, 30)))
    assert not torch.equal(first, keyed(0.5, 10)(torch.ones(30, 30)))


def test_without_an_engine_torch_draws():
    module = Dropout(0.5)
    torch.manual_seed(1)
    first = module(torch.ones(100))
    assert not torch.equal(first, module(torch.ones(100)))
    torch.manual_seed(1)
    assert torch.equal(first, module(torch.ones(100)))


def test_nothing_is_dropped_in_evaluation_and_the_key_is_not_saved():
    module = keyed(0.5, 1).eval()
    assert torch.equal(module(torch.ones(9)), torch.ones(9))
    assert not module.state_dict()
