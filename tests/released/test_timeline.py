"""One pass operation by operation: its sums and its peak are those that were counted in other ways."""

from collections import Counter

import pytest
import torch
from plain_process import computed

from vdmlib import MemoryOptions, Release, estimate_memory
from vdmlib.released.timeline import Operation, stored_bytes, timeline

pytestmark = pytest.mark.usefixtures("unchecked")  # Checks of shapes are slow on fake tensors.


AT_FULL_SIZE = """
from vdmlib import Release
from vdmlib.released.timeline import timeline

result = [vars(operation) for operation in timeline(Release.videocrafter2(), guidance=False)]
"""


@pytest.fixture(scope="module")
def full_size():
    return [Operation(**operation) for operation in computed(AT_FULL_SIZE)]


def test_operations_are_those_of_flop_counter_mode(full_size):
    """As the benchmark counts them; the released code repeats the text for every frame and so makes a few more."""
    assert sum(o.flops for o in full_size) == 12_522_369_515_520
    of_kind = Counter()
    for operation in full_size:
        of_kind[operation.kind] += operation.flops
    assert of_kind["temporal convolution"] == pytest.approx(1.686e12, rel=1e-3)
    assert of_kind["ResNet, space"] == pytest.approx(3.446e12, rel=1e-3)
    assert of_kind["other"] < 1e-3 * of_kind.total()


def test_layers_of_transformers_do_what_their_widths_say(full_size):
    """Operations by formula: of each width so many transformers, over 16 frames of so many pixels."""
    found = Counter()
    for operation in full_size:
        found[operation.layer] += operation.flops
    levels = [(5, 40 * 64, 320), (5, 20 * 32, 640), (5, 10 * 16, 1280), (1, 5 * 8, 1280)]
    first = (1, 40 * 64, 512)  # init_attention, over time only, has eight heads of 64 whatever its channels

    def operations(each, where):
        return sum(number * 16 * pixels * each(pixels, width) for number, pixels, width in where)

    def attention(keys, projections, width):  # two products with each key, and layers of width × width
        return 4 * keys * width + projections * 2 * width**2

    over_time = operations(lambda _, w: 2 * attention(16, 4, w), [*levels, first])
    assert found["attention over time"] == over_time
    assert found["attention over space"] == operations(lambda pixels, w: attention(pixels, 4, w), levels)
    keys_and_values = sum(number * 2 * 2 * 77 * 1024 * width for number, _, width in levels)  # once, for all frames
    assert found["attention to text"] == operations(lambda _, w: attention(77, 2, w), levels) + keys_and_values
    both = operations(lambda _, w: 2 * 24 * w**2, levels)
    assert found["feed-forward"] == both + operations(lambda _, w: 24 * w**2, [first])
    assert all("transformer" in o.kind for o in full_size if o.layer)


def test_skips_wait_until_the_decoder_takes_them(full_size):
    # 320 channels three times at 40 × 64, ...; see the last column of the dimension table.
    assert max(o.skips for o in full_size) == 132_710_400
    assert full_size[0].skips == full_size[-1].skips == 0
    assert all(o.skips <= o.live for o in full_size if o.block.startswith("decoder"))
    blocks = list(dict.fromkeys(o.block for o in full_size if o.block))
    assert blocks == [
        "encoder 0", "init_attention", *(f"encoder {i}" for i in range(1, 12)), "middle",
        *(f"decoder {i}" for i in range(12)), "out",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["t2v", "i2v"])
@pytest.mark.parametrize("options", [{}, dict(sliced_attention=True)], ids=["fastest", "sliced"])
def test_the_peak_is_that_of_the_estimate(kind, options):
    release, options = Release.tiny(kind), MemoryOptions(**options)
    estimate = estimate_memory(release, options).activations["denoising"]
    assert max(o.live for o in timeline(release, options)) == pytest.approx(estimate, rel=0.03)


def test_views_move_nothing_and_guidance_in_turn_halves():
    both, one = timeline(Release.tiny()), timeline(Release.tiny(), MemoryOptions(guidance_in_one_batch=False))
    assert sum(o.flops for o in both) == pytest.approx(2 * sum(o.flops for o in one), rel=0.01)
    assert any(o.moved == 0 for o in one) and all(o.moved >= 0 for o in one)


def test_what_is_repeated_is_read_once():
    weight = torch.zeros(3, 4)
    assert stored_bytes(weight) == stored_bytes(weight.t()) == stored_bytes(weight.expand(100, 3, 4)) == 48
    assert stored_bytes(weight[:, :1]) == 12 and stored_bytes(torch.zeros(())) == 4


def test_arguments_of_another_kind():
    with pytest.raises(TypeError, match="release is 'tiny': pass one such as"):
        timeline("tiny")
    with pytest.raises(TypeError, match="options is 'all': pass one such as"):
        timeline(Release.tiny(), "all")
