"""What a session's config does to the model that is opened in it, as far as answers and refusals show."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pyserving import machine, protos
from pyserving.errors import InvalidArgument
from pyserving.executors import saved_model_config
from pyserving.executors.tf_session import open_saved_model
from pyserving.platforms import Platform
from pyserving.types import ServableId
from tests import models

X = np.random.default_rng(0).normal(size=(8, 256)).astype(np.float32)


def answers(path: Path, session_config: protos.ConfigProto) -> list[np.ndarray]:
    """Of `models.dense`, from each way of running it."""
    executor = open_saved_model(str(path), session_config=session_config.SerializeToString())
    try:
        signature = executor.signature_defs["serving_default"]
        plan = executor.plan((signature.inputs["x"].name,), (signature.outputs["y"].name,))
        return [way.run(X)[0] for way in plan.ways]
    finally:
        executor.close()


@pytest.fixture
def bfloat16() -> protos.ConfigProto:
    config = protos.ConfigProto()
    config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = protos.RewriterConfig.ON
    return config


needs_bfloat16 = pytest.mark.skipif(machine.why_no_bfloat16() is not None, reason=str(machine.why_no_bfloat16()))


@needs_bfloat16
def test_mixed_precision_answers_with_the_precision_of_bfloat16(exported, bfloat16, session_kind):
    exact = answers(exported(models.dense), protos.ConfigProto())
    rounded = answers(exported(models.dense), bfloat16)
    for one, other in zip(exact, rounded, strict=True):
        assert 1e-4 < np.abs(one - other).max() < 0.05


@pytest.mark.proves("field SessionOverrides.disable_meta_optimizer")
@needs_bfloat16
def test_a_version_may_keep_its_graph_from_being_optimized(exported, bfloat16, tmp_path):
    path = shutil.copytree(exported(models.dense), tmp_path / "1")
    overrides = protos.SavedModelConfig(session_overrides={"disable_meta_optimizer": True})
    (path / "assets.extra").mkdir()
    (path / saved_model_config.FILE).write_bytes(overrides.SerializeToString())
    (exact, *_) = answers(exported(models.dense), protos.ConfigProto())
    (kept, *_) = answers(path, bfloat16)
    np.testing.assert_allclose(kept, exact, atol=1e-5)


def test_rewriters_that_nobody_has_keep_no_model_from_loading(exported, tmp_path):
    path = shutil.copytree(exported(models.dense), tmp_path / "1")
    overrides = protos.SavedModelConfig(
        session_overrides={
            "batch_op_rewriter_config": {},
            "remote_op_remap_config": {},
            "disable_meta_optimizer": False,
        }
    )
    (path / "assets.extra").mkdir()
    (path / saved_model_config.FILE).write_bytes(overrides.SerializeToString())
    assert answers(path, protos.ConfigProto())[0].shape == X.shape


@pytest.mark.proves("field SessionBundleConfig.session_run_load_threadpool_index")
def test_the_pool_that_loads_a_model_must_be_one_of_the_session(exported, session_kind):
    path = str(exported(models.half_plus_two))
    open_saved_model(path, load_thread_pool=0).close()
    with pytest.raises(InvalidArgument, match="Invalid inter_op_thread_pool: 7"):
        open_saved_model(path, load_thread_pool=7)


@pytest.mark.proves("field SessionBundleConfig.session_run_load_threadpool_index")
def test_a_pool_of_its_own_may_load_a_model(exported):
    config = protos.ConfigProto(session_inter_op_thread_pool=[{"num_threads": 1}, {"num_threads": 2}])
    legacy = protos.SessionBundleConfig(session_run_load_threadpool_index={"value": 1})
    platform = Platform("tensorflow", legacy, config.SerializeToString())
    executor = platform.open(ServableId("m", 1), str(exported(models.half_plus_two)))
    assert executor.plan(("x:0",), ("y:0",)).ways[0].run(np.array([[2]], np.float32))[0].tolist() == [[3.0]]
    executor.close()


@pytest.mark.proves("field SessionBundleConfig.enable_session_metadata")
def test_named_sessions_are_known_to_tensorflow_which_refuses_a_second_of_the_name(exported):
    platform = Platform("tensorflow", protos.SessionBundleConfig(), b"", names_sessions=True)
    path = str(exported(models.half_plus_two))
    first = platform.open(ServableId("m", 1), path)
    platform.open(ServableId("m", 2), path).close()
    with pytest.raises(InvalidArgument, match="A session with the same name and version has already been created"):
        platform.open(ServableId("m", 1), path)
    first.close()
    platform.open(ServableId("m", 1), path).close()
