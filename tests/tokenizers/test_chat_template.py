"""Chats as transformers renders and tokenizes them."""

import pytest

from ferroformer import AutoTokenizer

from .conftest import DATA

pytest.importorskip("jinja2")

CHATML = (
    "{{ bos_token or '' }}{%- for message in messages %}\n"
    "{% if message.role == 'assistant' %}{% generation %}<{{ message.content | trim }}>{% endgeneration %}"
    "{% else %}[{{ message['role'] }}: {{ message['content'] }}{{ message.thinking }}]{% endif %}\n"
    "{%- endfor %}"
    "{% if tools %}{{ tools | tojson(indent=1) }}{% endif %}{% if documents %}{{ documents[0].title }}{% endif %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}{{ extra }}"
)
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}>{% endif %}"
BLOCKS = "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}|{% endfor %}"
LOOPS = (
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}"
    "{% set ns.n = ns.n + 1 %}{{ dict(a=ns.n) | tojson }}{% endfor %}{{ dict.fromkeys(['x'], 1) }}"
)
CHAT = [
    {"role": "user", "content": "Hello <b> é"},
    {"role": "assistant", "content": " I am fine. ", "reasoning": "so?"},
    {"role": "user", "content": "Why?", "tool_calls": None},
]
TOOL = {"type": "function", "function": {"name": "f", "description": "é <b>", "parameters": {}}}

CALLS = [
    (CHATML, CHAT, {}),
    (CHATML, CHAT, {"add_generation_prompt": True, "extra": "!"}),
    (CHATML, [CHAT, CHAT[:1]], {"tools": [TOOL], "documents": [{"title": "t", "text": "x"}]}),
    (CHATML, CHAT, {"return_assistant_tokens_mask": True}),
    (CHATML, [CHAT, CHAT[:2]], {"return_assistant_tokens_mask": True, "padding": True, "return_tensors": "np"}),
    (CHATML, CHAT, {"return_assistant_tokens_mask": True, "truncation": True, "max_length": 14}),
    (CHATML, CHAT[:2], {"continue_final_message": True}),
    (PLAIN, CHAT, {"return_dict": False}),
    (PLAIN, CHAT, {"continue_final_message": True, "tokenize": False}),
    (PLAIN, CHAT[:2], {"continue_final_message": True, "tokenize": False}),
    (PLAIN, CHAT[:2], {"continue_final_message": "reasoning", "tokenize": False}),
    (PLAIN, CHAT, {"continue_final_message": True, "add_generation_prompt": True}),
    (PLAIN, [], {}),
    (BLOCKS, [{"role": "user", "content": [{"text": "a"}, {"text": "b "}, {"image": object()}]}], {"tokenize": False}),
    (BLOCKS, [{"role": "user", "content": [{"text": "a"}, {"text": "b"}]}], {"continue_final_message": True}),
    (LOOPS, CHAT, {"tokenize": False}),
    ("{{ raise_exception('no') }}", CHAT, {}),
    ("{{ messages.append(1) }}", CHAT, {}),
    ("{{ messages[0].__class__ }}", CHAT, {"tokenize": False}),
    ("{{ namespace(_x=1) }}", CHAT, {}),
    ("{{ messages[0].content.__class__.__mro__ }}", CHAT, {}),
    ("{{ ''.format.__globals__ }}", CHAT, {}),
    (None, CHAT, {}),
]


def outcome(tokenizer, template, chat, kwargs):
    try:
        out = tokenizer.apply_chat_template(chat, chat_template=template, **kwargs)
    except Exception as error:
        return isinstance(error, ValueError) or type(error).__name__
    if not hasattr(out, "keys"):
        return out
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in out.items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["roberta-vocab", "minilm"])
def test_chats_are_those_of_transformers(family):
    transformers = pytest.importorskip("transformers")
    ours = AutoTokenizer.from_pretrained(DATA / family)
    theirs = transformers.AutoTokenizer.from_pretrained(DATA / family)
    for call in CALLS:
        assert outcome(ours, *call) == outcome(theirs, *call), call


def test_templates_have_names():
    tokenizer = AutoTokenizer.from_pretrained(DATA / "minilm")
    tokenizer.chat_template = {"default": "D", "tool_use": "T", "other": "O"}

    def text(**kwargs):
        return tokenizer.apply_chat_template(CHAT, tokenize=False, **kwargs)

    assert [text(), text(tools=[TOOL]), text(chat_template="other"), text(chat_template="{{ 1 + 1 }}")] == list("DTO2")
    tokenizer.chat_template = {"other": "O"}
    with pytest.raises(ValueError, match=r"Available template names are \['other'\]"):
        text()


def test_what_is_not_there_yet_says_so():
    tokenizer = AutoTokenizer.from_pretrained(DATA / "minilm")
    with pytest.raises(NotImplementedError, match="sanitize_control_tokens"):
        tokenizer.apply_chat_template(CHAT, chat_template=PLAIN, sanitize_control_tokens=True)
    with pytest.raises(NotImplementedError, match="schema as a dict"):
        tokenizer.apply_chat_template(CHAT, chat_template=PLAIN, tools=[print])


def test_runs_know_nothing_of_each_other():
    from ferroformer.chat_template import render

    texts, spans = render([CHAT[:2], CHAT[:1], CHAT[:2]], CHATML, bos_token="<s>")
    assert [[text[start:end] for start, end in found] for text, found in zip(texts, spans)] == [
        ["<I am fine.>"],
        [],
        ["<I am fine.>"],
    ]
