"""Write the script by which a shell completes pyserving's commands and flags: pip install 'pyserving[completion]'.

bash  pyserving completion bash > ~/.local/share/bash-completion/completions/pyserving
zsh   pyserving completion zsh > DIRECTORY/_pyserving, for a DIRECTORY of $fpath
fish  pyserving completion fish > ~/.config/fish/completions/pyserving.fish
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from pyserving import commands
from pyserving.errors import Unimplemented
from pyserving.options import FLAGS

EXAMPLES = ["source <(pyserving completion bash)"]

SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "PEM", "INPUTS")
"""Arguments that are a file's name, or may be."""
_BASH_VALUES = """
# A flag that ends in `=` wants its value next, not a space.
_pyserving_flags() {
  _shtab_pyserving "$@"
  [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
  return 0
}
complete -o bashdefault -F _pyserving_flags pyserving
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="which reads the script")


def run(arguments: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError:
        raise Unimplemented("needs shtab, which pip install 'pyserving[completion]' brings") from None
    script = shtab.complete(whole_parser(shtab.FILE, shtab.DIRECTORY), arguments.shell)
    print(script + _BASH_VALUES if arguments.shell == "bash" else script)
    return 0


def whole_parser(file: object, folder: object) -> argparse.ArgumentParser:
    """All commands in one parser, as shtab reads it; `file` and `folder` mark arguments that are names of such."""
    whole = argparse.ArgumentParser("pyserving")
    _add_flags(whole)
    subparsers = whole.add_subparsers()
    subparsers.add_parser("help", help="list the commands")
    _add_flags(subparsers.add_parser("serve", help="serve models"))
    for name, text in commands.COMMANDS.items():
        parser = subparsers.add_parser(name, help=text)
        importlib.import_module(f"{commands.__name__}.{name}").add_arguments(parser)
        for action in parser._actions:  # argparse has no public way to its arguments
            if action.metavar in ("MODEL_DIR", "MODEL"):
                action.complete = folder  # type: ignore[attr-defined]  # where shtab looks
            elif action.type is Path or action.metavar in _FILES:
                action.complete = file  # type: ignore[attr-defined]
    return whole


def _add_flags(parser: argparse.ArgumentParser) -> None:
    """The server's, which take their values behind an equals sign."""
    for name, flag in FLAGS.items():
        if flag.kind == "bool":
            parser.add_argument(f"--{name}", action="store_true", help=flag.help.replace("%", "%%"))
        else:
            parser.add_argument(f"--{name}=", metavar=flag.kind.upper(), help=flag.help.replace("%", "%%"))
