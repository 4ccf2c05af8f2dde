"""A version folder with a `model.py`: its `signatures`, and its `predict(signature_name, inputs)`, which is given and
gives back a dict of arrays by alias.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from pyserving.codec import signature_def
from pyserving.errors import Cancelled, Internal, InvalidArgument, ServingError, error_for
from pyserving.executors import python_signatures
from pyserving.executors.executor import Plan, Way
from pyserving.executors.python_module import FAILURES, PythonModule
from pyserving.machine import give_back_free_memory
from pyserving.signature import SignatureDef, TensorInfo

_log = logging.getLogger(__name__)


def open_python_model(path: str) -> PythonExecutor:
    """Run `model.py` of the version folder `path`. Raises a ServingError that names file and line of what is wrong."""
    module = PythonModule(path)
    try:
        return PythonExecutor(module)
    except BaseException:
        module.close()
        raise


class PythonExecutor:
    """One loaded model.py. Any number of threads call its `predict` at once."""

    may_be_batched = True
    may_change = True

    def __init__(self, module: PythonModule) -> None:
        """Takes the module over, unless it raises InvalidArgument: for want of a function, or for its signatures."""
        try:
            protos = python_signatures.signature_def_map(module.get("signatures"))
        except InvalidArgument as error:
            raise InvalidArgument(f"{module.path}: {error}") from None
        self.signature_defs: Mapping[str, SignatureDef] = {
            name: signature_def.decode(proto) for name, proto in protos.signature_def.items()
        }
        self.signature_def_map: bytes = protos.SerializeToString(deterministic=True)
        self._predict: Callable[[str, Mapping[str, np.ndarray]], Any] = _checked_predict(module)
        self._module = module

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Plan:
        """Raises InvalidArgument for tensors that are not all of one signature."""
        names = {python_signatures.signature_and_alias(tensor)[0] for tensor in (*feeds, *fetches)}
        signature = self.signature_defs.get(name := names.pop()) if len(names) == 1 else None
        if signature is None:
            raise InvalidArgument(f"Not tensors of one signature of the model: {', '.join((*feeds, *fetches))}")
        fed, fetched = _infos(feeds, signature.inputs), _infos(fetches, signature.outputs)
        run = partial(self._run, name, signature, list(fed.items()), list(fetched.items()))
        return Plan(feeds, fetches, tuple(info.dtype for info in fed.values()), (Way("caller", run),))

    def _run(
        self,
        name: str,
        signature: SignatureDef,
        feeds: Sequence[tuple[str, TensorInfo]],
        fetches: Sequence[tuple[str, TensorInfo]],
        *arrays: np.ndarray,
    ) -> list[np.ndarray]:
        inputs = {}
        for (alias, info), array in zip(feeds, arrays, strict=True):
            python_signatures.check_shape(alias, info, array)
            inputs[alias] = array
        outputs = self._outputs(name, inputs)
        try:
            _check_names(outputs, signature)
            return [python_signatures.answered(alias, info, outputs[alias]) for alias, info in fetches]
        except ServingError as error:
            raise error_for(error.code, f"{self._module.path}: {error}") from None
        except FAILURES as error:  # an answer may be of any class, and its methods do anything
            raise self._module.failure(error) from None

    def _outputs(self, name: str, inputs: Mapping[str, np.ndarray]) -> Any:
        try:
            return self._predict(name, inputs)
        except FAILURES as error:
            _log.debug("A run of %s failed", self._module.path, exc_info=True)
            raise self._module.failure(error) from None

    def close(self) -> None:
        """Calls the model's `close()`, if it has one. Plans that somebody still holds answer as a closed session."""
        self._predict = _closed
        try:
            if (close := self._module.get("close")) is not None:
                close()
        except FAILURES as error:
            _log.warning("Closing a model failed: %s", self._module.failure(error))
        self._module.close()
        give_back_free_memory()


def _closed(name: str, inputs: Mapping[str, np.ndarray]) -> Any:
    raise Cancelled("Session has been closed.")


def _checked_predict(module: PythonModule) -> Callable[[str, Mapping[str, np.ndarray]], Any]:
    predict = module.get("predict")
    if not callable(predict) or inspect.iscoroutinefunction(predict):
        raise InvalidArgument(f"{module.path}: there is no plain function predict(signature_name, inputs)")
    try:
        inspect.signature(predict).bind("signature_name", {})
    except TypeError as error:
        raise InvalidArgument(f"{module.path}: predict(signature_name, inputs) cannot be called: {error}") from None
    except ValueError:  # written in C, it does not say how it is called
        pass
    return predict  # type: ignore[no-any-return]  # whatever the model has under that name


def _infos(tensors: Sequence[str], infos: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """By alias. InvalidArgument for a tensor that is none of them."""
    found = {}
    for tensor in tensors:
        alias = python_signatures.signature_and_alias(tensor)[1]
        if alias not in infos:
            raise InvalidArgument(f"Tensor {tensor} is not in the model")
        found[alias] = infos[alias]
    return found


def _check_names(outputs: Any, signature: SignatureDef) -> None:
    if not isinstance(outputs, Mapping):
        raise Internal(f"predict returned no dict of outputs but {type(outputs).__name__}")
    if outputs.keys() != signature.outputs.keys():
        raise Internal(
            f"predict returned the outputs {', '.join(sorted(map(str, outputs)))}, "
            f"and the signature has {', '.join(sorted(signature.outputs))}"
        )
