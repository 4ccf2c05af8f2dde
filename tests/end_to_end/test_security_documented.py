"""What docs/operations.md says of TLS and tokens, typed as it stands there; ports and the model's folder are ours."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import models
from tests.conftest import Exported
from tests.end_to_end.server_process import ROOT, START_SECONDS, ServerProcess, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="needs curl and openssl"),
]


class Terminal:
    """A shell in a folder, where `pyserving` is this one."""

    def __init__(self, folder: Path, replaced: dict[str, str]) -> None:
        self.folder = folder
        self._replaced = replaced

    def blocks(self, heading: str) -> list[str]:
        """The commands of a section, as somebody with these ports and this model types them."""
        text = (ROOT / "docs" / "operations.md").read_text()
        section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        for written, meant in self._replaced.items():
            section = section.replace(written, meant)
        return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)

    def type(self, commands: str) -> str:
        pyserving = f'pyserving() {{ PYTHONPATH={ROOT} {sys.executable} -m pyserving "$@"; }}\n'
        words = ["bash", "-euc", pyserving + commands]
        ended = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=START_SECONDS)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def serve(self, line: str) -> ServerProcess:
        """What a line that begins with `pyserving` starts."""
        command, *flags = line.split()
        assert command == "pyserving"
        return ServerProcess(*(re.sub(r"=(tokens|ssl\.config)$", rf"={self.folder}/\1", flag) for flag in flags))


@pytest.fixture
def terminal(exported: Exported, tmp_path: Path) -> Terminal:
    shutil.copytree(exported(models.half_plus_two), tmp_path / "models" / "1")
    replaced = {"8500": str(free_port()), "8501": str(free_port()), "=/models/m": f"={tmp_path}/models"}
    return Terminal(tmp_path, {**replaced, "status m ": f"status m --target localhost:{replaced['8500']} "})


def test_it_runs_as_it_is_written(terminal: Terminal) -> None:
    certificates, ask = terminal.blocks("TLS")
    setup, _, server_line = certificates.strip().rpartition("\n")
    terminal.type(setup)
    with terminal.serve(server_line):
        assert '"state": "AVAILABLE"' in terminal.type(ask)

    tokens, ask = terminal.blocks("Tokens")
    setup, _, server_line = tokens.strip().rpartition("\n")
    terminal.type(setup)
    with terminal.serve(server_line) as server:
        server.wait_for("Requests must show one of the tokens of")
        said = terminal.type(ask)
        assert said.count('"state": "AVAILABLE"') == 2
        assert said.splitlines()[-1].split() == ["1", "AVAILABLE"]
        assert not [line for line in server.lines if "in the clear" in line]
