"""A shell script around curl."""

from __future__ import annotations

from pyserving.commands.programs import rest
from pyserving.commands.programs.template import Addresses, Template, question
from pyserving.commands.sample import SampleRequest

_PROGRAM = Template("""\
#!/bin/sh
# §question, over REST: sh ask.sh
# Needs curl 7.76 or later; the server needs --rest_api_port=§port.
§function
§request | curl --silent --show-error --fail-with-body \\
  --header 'Content-Type: application/json' --data-binary @- \\
  --write-out '\\n' '§url'
""")
_FILLED = """\

# filled ELEMENT N...: ELEMENT in nested JSON lists of so many, the innermost first
filled() {
  text=$1
  shift
  for n in "$@"; do
    text=$(printf "$text,%.0s" $(seq "$n"))
    text="[${text%,}]"
  done
  printf '%s' "$text"
}
"""


def program(request: SampleRequest, addresses: Addresses) -> str:
    body = rest.body(request)
    calls = [f'"$(filled {_call(rest.element_text(tensor), tensor.shape)})"' for tensor in body.filled]
    return _PROGRAM.substitute(
        question=question(request),
        port=addresses.rest_port,
        function=_FILLED if calls else "",
        request=" ".join(["printf", "'" + body.text.replace("\\", "\\\\") + "'", *calls]),
        url=rest.url(request, addresses),
    )


def _call(element: str, shape: tuple[int, ...]) -> str:
    return " ".join([f"'{element}'", *map(str, reversed(shape))])
