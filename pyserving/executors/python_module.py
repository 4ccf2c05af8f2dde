"""The `model.py` of a version folder as a module that can be let go of again.

Each version is a package of its own under a name that nobody else has, so that versions never share state, and may
`from . import` other files of their folder. Compiled files are neither read nor written: the folder stays as it is.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
import uuid
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from types import CodeType, ModuleType
from typing import Any

from pyserving.errors import FailedPrecondition, Internal, NotFound, ServingError, error_for
from pyserving.executors.version_folder import is_remote

MODEL_FILE = "model.py"
FAILURES = BaseException
"""What the code of a model may raise and the server has to outlive: sys.exit, and panics of libraries that are written
in Rust, are no Exceptions. It runs in threads, where nobody else raises anything."""


class PythonModule:
    """A folder's model.py, which has been run."""

    def __init__(self, folder: str) -> None:
        """Raises NotFound where there is none, FailedPrecondition on remote storage, and what `failure` makes of
        whatever the code itself raises.
        """
        self.path = os.path.join(folder, MODEL_FILE)
        if is_remote(folder):
            raise FailedPrecondition(f"{self.path}: a Python model has to lie on a local file system")
        if not os.path.isfile(self.path):
            raise NotFound(f"{self.path}; No such file or directory")
        self._folder = os.path.join(folder, "")
        self._name = f"pyserving_model_{uuid.uuid4().hex}"
        self._finder = _FolderFinder(self._name)
        self._module = self._new_module(folder)
        sys.meta_path.append(self._finder)
        try:
            self._run()
        except BaseException:
            self.close()
            raise

    def _new_module(self, folder: str) -> ModuleType:
        loader = _SourceLoader(self._name, self.path)
        spec = spec_from_file_location(self._name, self.path, loader=loader, submodule_search_locations=[folder])
        assert spec is not None, "given a loader, there is one"
        return module_from_spec(spec)

    def _run(self) -> None:
        sys.modules[self._name] = self._module
        try:
            _SourceLoader(self._name, self.path).exec_module(self._module)
        except FAILURES as error:
            raise self.failure(error) from None

    def get(self, name: str) -> Any:
        """What model.py calls so; None when it has nothing of that name."""
        return self._module.__dict__.get(name)

    def failure(self, error: BaseException) -> ServingError:
        """What to answer for an error of the model's code; a ServingError keeps its code and sentence."""
        if isinstance(error, ServingError):
            return error_for(error.code, error.message)
        text = error.msg if isinstance(error, SyntaxError) else error
        return Internal(f"{self._place(error)}: {type(error).__name__}: {text}")

    def _place(self, error: BaseException) -> str:
        """File and line that the model's own code had come to."""
        if isinstance(error, SyntaxError) and (error.filename or "").startswith(self._folder):
            return f"{error.filename}, line {error.lineno}"
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(self._folder)]
        return f"{own[-1].filename}, line {own[-1].lineno}" if own else self.path

    def close(self) -> None:
        """The module and all that only it holds are gone."""
        sys.meta_path.remove(self._finder)
        for name in [name for name in list(sys.modules) if name == self._name or name.startswith(f"{self._name}.")]:
            # Whoever still holds one of its functions does not hold what the function worked with.
            sys.modules.pop(name).__dict__.clear()
        # Classes and many frameworks' models are circles of references, and what was frozen (see model_server.py) is
        # not collected otherwise. Requests wait for this some 0.1 s, once for each version that goes.
        gc.unfreeze()
        gc.collect()
        gc.freeze()


class _SourceLoader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


class _FolderFinder:
    """Finds what model.py imports from its own folder."""

    def __init__(self, name: str) -> None:
        self._prefix = f"{name}."

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(self._prefix):
            return None
        specs = (FileFinder(folder, (_SourceLoader, SOURCE_SUFFIXES)).find_spec(fullname) for folder in path or ())
        return next((spec for spec in specs if spec is not None), None)
