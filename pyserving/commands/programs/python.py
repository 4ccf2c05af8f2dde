"""Python with its standard library."""

from __future__ import annotations

from pyserving.commands.programs import rest
from pyserving.commands.programs.template import Addresses, Template, in_python, literal, question
from pyserving.commands.sample import SampleRequest, SampleTensor

_PROGRAM = Template('''\
"""§question, over REST: python3 ask.py

Needs nothing but Python 3; the server needs --rest_api_port=§port.
"""

import json
import sys
import urllib.error
import urllib.request

URL = "§url"
§function
REQUEST = {
    "signature_name": §signature,
    §inputs
}

request = urllib.request.Request(URL, json.dumps(REQUEST).encode(), {"Content-Type": "application/json"})
try:
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
except urllib.error.HTTPError as error:
    sys.exit(f"{error.code} {error.reason}: {error.read().decode()}")
except urllib.error.URLError as error:
    sys.exit(f"{URL}: {error.reason}")
print(json.dumps(answer, indent=2))
''')
_FILLED = '''

def filled(element, *shape):
    """Nested lists of this shape, full of one element."""
    for size in reversed(shape):
        element = [element] * size
    return element

'''


def program(request: SampleRequest, addresses: Addresses) -> str:
    tensors = rest.tensors(request)
    fields = "".join(f"        {literal(name)}: {_value(tensor)},\n" for name, tensor in tensors.items())
    opening, closing = ('"inputs": {', "}") if request.method == "Predict" else ('"examples": [{', "}]")
    return _PROGRAM.substitute(
        question=question(request),
        port=addresses.rest_port,
        url=rest.url(request, addresses),
        function="" if all(tensor.is_shown for tensor in tensors.values()) else _FILLED,
        signature=literal(request.signature_name),
        inputs=f"{opening}\n{fields}    {closing},",
    )


def _value(tensor: SampleTensor) -> str:
    if tensor.is_shown:
        return in_python(tensor.values())
    return f"filled({', '.join(map(in_python, (tensor.element, *tensor.shape)))})"
