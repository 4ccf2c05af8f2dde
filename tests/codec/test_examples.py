import pytest

from pyserving import protos
from pyserving.codec.examples import serialized_examples
from pyserving.errors import InvalidArgument


def example(**features):
    made = protos.Example()
    for name, value in features.items():
        made.features.feature[name].float_list.value.append(value)
    return made


def sent(request_input):
    return protos.SerializedInput.FromString(request_input.SerializeToString())


@pytest.mark.proves("field Input.example_list", "field ExampleList.examples")
def test_gives_each_example_as_it_came():
    examples = [example(x=1), example(), example(x=2, y=3)]
    array = serialized_examples(sent(protos.Input(example_list={"examples": examples})))
    assert array.dtype == object
    assert array.shape == (3,)
    assert [protos.Example.FromString(one) for one in array] == examples


@pytest.mark.proves(
    "field Input.example_list_with_context",
    "field ExampleListWithContext.examples",
    "field ExampleListWithContext.context",
)
def test_adds_the_context_to_every_example_whose_own_features_win():
    request_input = protos.Input()
    request_input.example_list_with_context.context.CopyFrom(example(x=1, c=7))
    request_input.example_list_with_context.examples.extend([example(x=2), example(y=3)])
    array = serialized_examples(sent(request_input))
    assert [protos.Example.FromString(one) for one in array] == [example(x=2, c=7), example(x=1, c=7, y=3)]


def test_takes_examples_without_their_context():
    request_input = protos.Input(example_list_with_context={"examples": [example(x=1)]})
    assert serialized_examples(sent(request_input)).tolist() == [example(x=1).SerializeToString()]


@pytest.mark.parametrize(
    "request_input",
    [
        {},
        {"example_list": {}},
        {"example_list_with_context": {}},
        {"example_list_with_context": {"context": example(x=1).SerializeToString()}},
    ],
)
def test_refuses_an_input_without_examples(request_input):
    with pytest.raises(InvalidArgument, match=r"^Input is empty\.$"):
        serialized_examples(protos.SerializedInput(**request_input))
