"""Names that a stranger chose stay names, wherever the card shows them."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import yaml
from huggingface_hub import ModelCard

from cards import snippet
from diffusers_nested.publishing.card import write_card
from diffusers_nested.publishing.scores import check_evaluation

HOSTILE = [
    '"); __import__("os").system("id")  # ',
    "'); print(1)",
    '\\"); print(1) #',
    "a\\",
    "\\N{DIGIT ONE}\\x41{1+1}",
    "a\nimport os\n",
    "a\r\nb\tc\x00\x1b[31m",
    "a\u2028b\u2029c\x85d\x0c",
    "\u202eevil\u202c \u200b\ufeff",
    "```\n<script>alert(1)</script>\n```python\n",
    "~~~\nx\n~~~ ~~gone~~",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "<!-- diffusers-nested: use --> <!-- /diffusers-nested: use -->",
    "--> <!--",
    "&lt;b&gt; &amp; &#60;b&#62; &copy;",
    "![x](http://example.com/x.png) [x](javascript:alert(1)) [y]: z",
    "*a* _b_ **c** __d__ `e` ``f`` $x$ $$y$$",
    "a | b || c \\| d",
    "# a\n## Limits\n\n- b\n1. c\n> d\n---\n===",
    "a\n---\nlicense: mit\n...\n--- !!python/object:os.system",
    "{{ x }} {% y %} : - ? [ ] , !tag &anchor *alias @ %",
    "x" * 200,
    "日本語 e\u0301 🧑\u200d🚀",
    " a ",
]


class Elements(HTMLParser):
    """Tags of a page with the names of their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *sorted(name for name, _ in attrs)))

    def handle_endtag(self, tag):
        self.tags.append(("/", tag))

    def handle_comment(self, data):
        self.tags.append(("comment", data))

    def handle_decl(self, decl):
        self.tags.append(("declaration",))

    def handle_pi(self, data):
        self.tags.append(("instruction",))

    def handle_data(self, data):
        self.text += data


def card_with(facts, value: str) -> ModelCard:
    """A card in which a stranger chose every name."""
    results = {value: {value: [0.5, 0.25, 0.75], "other": [1, 1, 1]}, "plain": {"other": [1, 1, 1]}}
    names = dict.fromkeys(("subject_token", "mechanism", "image_encoder"), value)
    return write_card(
        replace(
            facts,
            config={**facts.config, **names},
            load_keywords=dict.fromkeys(("subfolder", "revision", "variant"), value),
            evaluation=check_evaluation({"results": results}, "evaluation"),
            pictures=[f"samples/{value}.png"],
            own_encoders=(),
            license=value,
        )
    )


def calls(code: str) -> Iterator[tuple[str, list, dict]]:
    """Name, values and named values of every call of a method in a program."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            yield (
                name,
                [argument.value for argument in node.args if isinstance(argument, ast.Constant)],
                {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)},
            )


@pytest.mark.parametrize("value", HOSTILE)
class TestNamesOfStrangers:
    def test_in_the_example_they_are_texts(self, facts, value):
        code = snippet(card_with(facts, value).text)
        found = {name: (values, named) for name, values, named in calls(code)}
        assert found["load_nested_adapter"] == (
            ["alice/nested"],
            {"subfolder": value, "revision": value, "variant": value},
        )
        (prompt,), _ = found["pipe"]
        assert prompt.removeprefix("a photo of a").removeprefix("n").removeprefix(" ") == f"{value} on the beach"
        harmless = snippet(card_with(facts, "word").text)
        assert ast.dump(ast.parse(code)).count("Call(") == ast.dump(ast.parse(harmless)).count("Call(")
        assert len(code.splitlines()) == len(harmless.splitlines())

    def test_in_the_text_they_are_words(self, facts, value):
        markdown = pytest.importorskip("markdown")
        pages = [
            Elements(markdown.markdown(card_with(facts, name).text, extensions=["tables", "fenced_code"]))
            for name in (value, "word")
        ]
        assert pages[0].tags == pages[1].tags
        shown = " ".join(
            "".join(" " if ord(char) < 32 or char in "\x85\u2028\u2029" else char for char in value).split()
        )
        assert pages[0].text.count(shown) >= 6

    def test_in_the_metadata_they_are_values(self, facts, value):
        card = card_with(facts, value)
        data = yaml.safe_load(card.content.split("\n---\n")[0])
        harmless = yaml.safe_load(card_with(facts, "word").content.split("\n---\n")[0])
        assert data.keys() == harmless.keys()
        assert data["license"] == value and data["metrics"] == [value, "other"]
        metrics = data["model-index"][0]["results"][0]["metrics"]
        assert [metric["name"] for metric in metrics] == [f"{value} ({value})", f"other ({value})", "other (plain)"]

    def test_the_card_is_completed_as_any_other(self, facts, value):
        first = card_with(facts, value).content
        again = write_card(replace(facts, base_model=None), published=first.encode())
        assert again.text == write_card(facts).text
