from __future__ import annotations

import random
from pathlib import Path

import pytest

from pyserving.sources.checkpoint_index import shard_sizes
from pyserving.sources.wire import Malformed
from tests.sources.saved_models import block, entry, header, index, table


@pytest.fixture
def sizes(tmp_path):
    def read(content: bytes) -> dict[str, int]:
        path = tmp_path / "variables.index"
        path.write_bytes(content)
        return shard_sizes(str(path))

    return read


def test_a_shard_is_as_large_as_its_last_tensor_ends(sizes):
    tensors = [entry("layer/a", size=8), entry("layer/b", size=400, offset=8), entry("layer/bias", size=4, offset=100)]
    assert sizes(table(block([header(), *tensors]))) == {"data-00000-of-00001": 408}


def test_every_shard_is_named_even_an_empty_one(sizes):
    tensors = [entry("a", size=3), entry("b", size=5, shard=2)]
    assert sizes(table(block([header(3), *tensors]))) == {
        "data-00000-of-00003": 3,
        "data-00001-of-00003": 0,
        "data-00002-of-00003": 5,
    }


def test_entries_are_found_in_all_blocks(sizes):
    tensors = [entry(f"v{i:03d}", size=10, offset=10 * i) for i in range(300)]
    blocks = [block([header(), *tensors[:100]]), block(tensors[100:200]), block(tensors[200:])]
    assert sizes(table(*blocks)) == {"data-00000-of-00001": 3000}


def test_a_compressed_table_tells_nothing(sizes):
    assert sizes(table(block([header(), entry("a", size=3)], compression=1))) == {}


def test_no_proper_beginning_of_an_index_is_an_index(sizes):
    whole = index(1234)
    for length in range(len(whole)):
        with pytest.raises(Malformed):
            sizes(whole[:length])


def test_an_index_whose_middle_is_not_written_yet_is_malformed(sizes):
    whole = index(1234)
    with pytest.raises(Malformed):
        sizes(bytes(len(whole) - 48) + whole[-48:])


def test_a_shard_beyond_the_last_is_malformed(sizes):
    with pytest.raises(Malformed, match="beyond the last"):
        sizes(table(block([header(1), entry("a", size=3, shard=1)])))


def test_damage_is_malformed_or_goes_unseen_but_nothing_else(sizes):
    whole = index(1234)
    damage = random.Random(7)
    for _ in range(300):
        broken = bytearray(whole)
        broken[damage.randrange(len(whole))] = damage.randrange(256)
        try:
            found = sizes(bytes(broken))
        except Malformed:
            continue
        assert all(size >= 0 for size in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("num_variables", [1, 7, 400])
def test_it_agrees_with_checkpoints_written_by_tensorflow(tmp_path: Path, num_variables: int):
    tf = pytest.importorskip("tensorflow")
    module = tf.Module()
    module.variables_of_mine = [tf.Variable(tf.random.uniform([i % 13 + 1, 3])) for i in range(num_variables)]
    module.words = tf.Variable(["some", "strings of different length", ""])
    tf.saved_model.save(module, str(tmp_path))
    expected = {
        path.name.removeprefix("variables."): path.stat().st_size
        for path in (tmp_path / "variables").glob("variables.data-*")
    }
    assert shard_sizes(str(tmp_path / "variables" / "variables.index")) == expected


@pytest.mark.slow
def test_it_agrees_with_a_sharded_checkpoint_written_by_tensorflow(tmp_path: Path):
    tf = pytest.importorskip("tensorflow")
    parts = []
    for number in range(3):
        prefix = str(tmp_path / f"part{number}")
        tf.raw_ops.SaveV2(
            prefix=prefix, tensor_names=[f"t{number}"], shape_and_slices=[""], tensors=[tf.zeros([number + 1, 100])]
        )
        parts.append(prefix)
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts, destination_prefix=str(tmp_path / "variables"), delete_old_dirs=False
    )
    assert shard_sizes(str(tmp_path / "variables.index")) == {
        "data-00000-of-00003": 400,
        "data-00001-of-00003": 800,
        "data-00002-of-00003": 1200,
    }
