"""Java with its standard library, in one file that `java` compiles and runs."""

from __future__ import annotations

from textwrap import indent

from pyserving.commands.programs import rest
from pyserving.commands.programs.template import Addresses, Template, question
from pyserving.commands.sample import SampleRequest

_PROGRAM = Template('''\
// §question, over REST: java Ask.java
// Needs nothing but Java 17 or later; the server needs --rest_api_port=§port.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Ask {
    static final String URL = "§url";

    static final String REQUEST = """
§request
        """§calls;
§function
    public static void main(String[] arguments) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(URL))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(REQUEST))
            .build();
        HttpResponse<String> response =
            HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(response.body());
        System.exit(response.statusCode() == 200 ? 0 : 1);
    }
}
''')
_FILLED = """
    /** Nested JSON lists of this shape, full of one element. */
    static String filled(String element, int... shape) {
        for (int i = shape.length - 1; i >= 0; i--) {
            element = "[" + (element + ",").repeat(shape[i] - 1) + element + "]";
        }
        return element;
    }
"""


def program(request: SampleRequest, addresses: Addresses) -> str:
    body = rest.body(request)
    calls = [_call(rest.element_text(tensor), tensor.shape) for tensor in body.filled]
    return _PROGRAM.substitute(
        question=question(request),
        port=addresses.rest_port,
        url=rest.url(request, addresses),
        function=_FILLED if calls else "",
        request=indent(body.text.replace("\\", "\\\\"), " " * 8),
        calls=f".formatted({', '.join(calls)})" if calls else "",
    )


def _call(element: str, shape: tuple[int, ...]) -> str:
    literal = element.replace('"', '\\"')
    return f'filled("{literal}", {", ".join(map(str, shape))})'
