"""Go with its standard library."""

from __future__ import annotations

from pyserving.commands.programs import rest
from pyserving.commands.programs.template import Addresses, Template, question
from pyserving.commands.sample import SampleRequest

_PROGRAM = Template("""\
// §question, over REST: go run ask.go
// Needs nothing but Go; the server needs --rest_api_port=§port.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
)

const url = "§url"

var request = §request
§function
func main() {
	response, err := http.Post(url, "application/json", strings.NewReader(request))
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		log.Fatalf("%s: %s", response.Status, answer)
	}
	fmt.Println(string(answer))
}
""")
_FILLED = """
// Nested JSON lists of this shape, full of one element.
func filled(element string, shape ...int) string {
	for i := len(shape) - 1; i >= 0; i-- {
		element = "[" + strings.Repeat(element+",", shape[i]-1) + element + "]"
	}
	return element
}
"""


def program(request: SampleRequest, addresses: Addresses) -> str:
    body = rest.body(request)
    literal = f"`{body.text}`"
    calls = [f"filled(`{rest.element_text(tensor)}`, {', '.join(map(str, tensor.shape))})" for tensor in body.filled]
    return _PROGRAM.substitute(
        question=question(request),
        port=addresses.rest_port,
        url=rest.url(request, addresses),
        function=_FILLED if calls else "",
        request=f"fmt.Sprintf({', '.join([literal, *calls])})" if calls else literal,
    )
