"""Pipelines whose models write, with models whose `generate` is scripted."""


import pytest

from ferroformer import AutoTokenizer, pipeline
from ferroformer.pipelines import factory

from .conftest import DATA
from .scripted_writer import EOS, PAD, WriterForCausalLM, WriterForConditionalGeneration, written

TEXTS = ["the people", "of", "a much longer text about the water and the people who find it", "the people"]
CHAT = [{"role": "user", "content": "who is it?"}]
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


def tokenizer(name="gpt2-vocab", **options):
    return AutoTokenizer.from_pretrained(DATA / "tokenizers" / name, **options)


@pytest.fixture(scope="module")
def gpt2():
    return tokenizer(chat_template=TEMPLATE)


@pytest.fixture
def write(gpt2):
    return pipeline("text-generation", WriterForCausalLM(1000), tokenizer=gpt2)


@pytest.fixture(scope="module")
def t5():
    return tokenizer("t5-spm")


def seq2seq(task, tokenizer, **options):
    return pipeline(task, WriterForConditionalGeneration(1000, **options), tokenizer=tokenizer)


# --- text-generation --------------------------------------------------------------------------
def test_a_prompt_and_what_follows(write, gpt2):
    ids = gpt2(TEXTS[0])["input_ids"]
    new = written([*ids, 0], 7, 1000)
    assert write(TEXTS[0], max_new_tokens=7) == [{"generated_text": TEXTS[0] + gpt2.decode(new)}]
    assert write(TEXTS[0], max_new_tokens=7, return_full_text=False) == [{"generated_text": gpt2.decode(new)}]
    assert write(TEXTS[0], max_new_tokens=7, return_tensors=True) == [{"generated_token_ids": ids + new}]
    assert len(write(TEXTS[0], num_return_sequences=3)) == 3


@pytest.mark.parametrize("settings", [{"pad_token_id": PAD, "eos_token_id": EOS}, {"eos_token_id": EOS}])
@pytest.mark.parametrize("own", [{}, {"return_tensors": True}, {"num_return_sequences": 2}, {"max_length": 40}])
def test_batches_change_nothing(gpt2, settings, own):
    write = pipeline("text-generation", WriterForCausalLM(1000, settings), tokenizer=gpt2)
    alone = [write(text, **own) for text in TEXTS]
    assert write(TEXTS, **own) == alone
    assert write(TEXTS, batch_size=3, **own) == alone
    assert list(write((text for text in TEXTS), **own)) == alone


def test_the_weakest_settings_are_the_tasks(gpt2):
    def sent(settings=None, task=None, **given):
        params = {"text-generation": task} if task else None
        model = WriterForCausalLM(1000, settings, task_specific_params=params)
        pipeline("text-generation", model, tokenizer=gpt2)("a", **given)
        return {k: v for k, v in model.calls[0].items() if k != "rows"}

    assert sent() == {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}
    assert sent(do_sample=False) == {"max_new_tokens": 256, "do_sample": False}
    assert sent({"max_length": 30, "temperature": 0.2}) == {"do_sample": True}
    assert sent({"do_sample": False}, {"max_length": 9, "do_sample": True}) == {
        "max_length": 9, "do_sample": True, "temperature": 0.7,
    }  # fmt: skip
    assert sent(None, {"max_length": 9}, max_length=12) == {"max_length": 12, "do_sample": True, "temperature": 0.7}


def test_chats(write, gpt2):
    def text(chat, **how):
        return gpt2.apply_chat_template(chat, return_dict=False, **how)

    new = gpt2.decode(written([*text(CHAT, add_generation_prompt=True), 0], 5, 1000))
    assert write(CHAT, max_new_tokens=5) == [{"generated_text": [*CHAT, {"role": "assistant", "content": new}]}]
    assert write([CHAT, CHAT], max_new_tokens=5) == [write(CHAT, max_new_tokens=5)] * 2
    begun = [*CHAT, {"role": "assistant", "content": "It"}]
    more = gpt2.decode(written([*text(begun, continue_final_message=True), 0], 5, 1000))
    assert write(begun, max_new_tokens=5)[0]["generated_text"][-1] == {"role": "assistant", "content": "It" + more}
    with pytest.raises(ValueError, match="'role' and 'content'"):
        write([CHAT[0], {"role": "user"}])


def test_prefix_and_hole(gpt2):
    model = WriterForCausalLM(1000)
    pipe = pipeline("text-generation", model, tokenizer=gpt2, prefix="Once ")
    pipe("a", max_length=10)
    assert model.calls[0]["max_length"] == 10 + len(gpt2("Once ")["input_ids"])
    short = tokenizer(model_max_length=20)
    pipe = pipeline("text-generation", model, tokenizer=short, max_new_tokens=15)
    ids = short("a b c d e f g h i")["input_ids"]
    out = pipe("a b c d e f g h i", handle_long_generation="hole", return_tensors=True)[0]["generated_token_ids"]
    assert out[:5] == ids[-5:]
    with pytest.raises(ValueError, match="We cannot use `hole`"):
        pipe("a b c d e f g h i", handle_long_generation="hole", max_new_tokens=20)
    with pytest.raises(ValueError, match="handle_long_generation"):
        pipe("a", handle_long_generation="cut")


def test_what_does_not_fit(write):
    with pytest.raises(ValueError, match="mutually exclusive"):
        write("a", return_full_text=True, return_tensors=True)
    with pytest.raises(TypeError, match="a text or a chat"):
        write([1])
    with pytest.raises(NotImplementedError, match="assistant_model"):
        write("a", assistant_model=object())


def test_a_streamer_and_stop_sequences_are_passed_on(write):
    streamer = object()
    write(TEXTS, streamer=streamer, stop_sequence="end")
    assert [call["rows"] for call in write.model.calls] == [1] * len(TEXTS)
    assert write.model.calls[0]["streamer"] is streamer
    assert write.model.calls[0]["stop_strings"] == ["end"]


def test_a_seed_is_that_of_one_batch(write):
    from ferroformer.trainer_utils import mix_seeds

    for size in (1, 3):
        write.model.calls.clear()
        write(TEXTS, seed=5, batch_size=size)
        assert [seed for call in write.model.calls for seed in call["seed"]] == [mix_seeds(5, i) for i in range(len(TEXTS))]


def test_it_is_transformers(gpt2, tmp_path):
    """transformers' own pipeline on the same `generate`, where torch is installed."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(DATA / "tokenizers" / "gpt2-vocab", chat_template=TEMPLATE)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=50257))
    ours = WriterForCausalLM(1000, model.generation_config.to_diff_dict())

    def generate(input_ids=None, attention_mask=None, **kwargs):
        arrays = [None if array is None else array.numpy() for array in (input_ids, attention_mask)]
        return torch.from_numpy(ours.generate(*arrays, **kwargs))

    model.generate = generate
    reference = transformers.pipeline("text-generation", model, tokenizer=theirs, device=-1)
    pipe = pipeline("text-generation", ours, tokenizer=gpt2)
    begun = [*CHAT, {"role": "assistant", "content": "It"}]
    for inputs in (*TEXTS, TEXTS, CHAT, [CHAT, begun], ""):
        for own in (
            {}, {"max_new_tokens": 9}, {"max_length": 60}, {"return_full_text": False}, {"return_tensors": True},
            {"num_return_sequences": 2, "max_new_tokens": 5}, {"prefix": "Once ", "max_length": 70},
            {"skip_special_tokens": False, "do_sample": False}, {"add_special_tokens": True},
        ):  # fmt: skip
            ours.calls.clear()
            expected = reference(inputs, **own)
            sent = ours.calls[:]
            ours.calls.clear()
            assert pipe(inputs, batch_size=1, **own) == expected, (inputs, own)
            for call in sent:
                call.pop("transformers_version", None)
            assert ours.calls == sent


# --- text2text --------------------------------------------------------------------------------
def test_answers(t5):
    pipe = seq2seq("text2text-generation", t5)
    ids = t5(TEXTS[0])["input_ids"]
    new = written([*ids, 0], 256, 1000)
    assert pipe(TEXTS[0]) == [{"generated_text": t5.decode(new, skip_special_tokens=True)}]
    assert pipe(TEXTS[0], return_tensors=True) == [{"generated_token_ids": [PAD, *new]}]
    assert pipe.model.calls[0] == {"max_new_tokens": 256, "num_beams": 4, "pad_token_id": 0, "rows": 1}
    assert pipe(TEXTS) == [pipe(text)[0] for text in TEXTS]
    assert [len(found) for found in pipe(TEXTS, num_return_sequences=2)] == [2] * len(TEXTS)
    with pytest.raises(TypeError, match="a text is needed"):
        pipe([1])


def test_summaries_by_the_settings_of_the_task(t5, caplog):
    params = {"summarization": {"prefix": "summarize: ", "max_length": 30, "num_beams": 2, "min_length": 3}}
    pipe = seq2seq("summarization", t5, task_specific_params=params)
    ids = t5("summarize: " + TEXTS[0])["input_ids"]
    assert list(pipe(TEXTS[0])[0]) == ["summary_text"]
    sent = pipe.model.calls[0]
    assert (sent["max_length"], sent["num_beams"], sent["min_length"]) == (30, 2, 3)
    assert f"your input_length is only {len(ids)}" in caplog.text
    pipe(TEXTS[0], max_length=2)
    assert "Your min_length=3 must be inferior than your max_length=2." in caplog.text
    assert pipe.model.calls[-1]["max_length"] == 2


def test_translations(t5, caplog):
    params = {"translation_en_to_de": {"prefix": "translate English to German: ", "max_length": 30}}
    pipe = seq2seq("translation_en_to_de", t5, task_specific_params=params)
    assert pipe.task == "translation_en_to_de"
    ids = t5("translate English to German: " + TEXTS[0])["input_ids"]
    (found,) = pipe(TEXTS[0], max_new_tokens=9)
    assert found == {"translation_text": t5.decode(written([*ids, 0], 9, 1000), skip_special_tokens=True)}
    pipe(TEXTS[2] * 2)
    assert "is bigger than 0.9 * max_length: 30" in caplog.text


@pytest.mark.parametrize(
    ("family", "source", "target"),
    [("tiny-mbart", "ro_RO", "fr_XX"), ("tiny-mbart-50", "en_XX", "gl_ES"), ("tiny-m2m-100", "fr", "de"),
     ("tiny-nllb", "eng_Latn", "zul_Latn")],
)  # fmt: skip
def test_translations_between_many_languages(family, source, target):
    own = tokenizer(family)
    pipe = seq2seq("translation", own)
    with pytest.raises(ValueError, match="requires a `src_lang` and a `tgt_lang`"):
        pipe("the people")
    found = pipe(["the people", "of the water"], src_lang=source, tgt_lang=target)
    assert [list(record) for record in found] == [["translation_text"]] * 2
    assert pipe.model.calls[-1]["forced_bos_token_id"] == own.convert_tokens_to_ids(
        f"__{target}__" if family == "tiny-m2m-100" else target
    )
    with pytest.raises(ValueError, match="language 'xx'"):
        pipe("the people", src_lang=source, tgt_lang="xx")


def test_marian():
    own = tokenizer("tiny-marian")
    pipe = seq2seq("translation_en_to_fr", own)
    ids = own(">>fr<<the people")["input_ids"]
    pipe.model.vocab = len(own)
    (found,) = pipe(">>fr<<the people", max_new_tokens=6)
    assert found["translation_text"] == own.decode([PAD, *written([*ids, 0], 6, len(own))], skip_special_tokens=True)


# --- the factory ------------------------------------------------------------------------------
def test_tasks_by_name(t5):
    with pytest.raises(KeyError, match="translation_XX_to_YY"):
        pipeline("translation_en", WriterForConditionalGeneration(9), tokenizer=t5)
    with pytest.raises(ValueError, match="does not provide a default model"):
        pipeline("translation_en_to_zu")
    assert type(pipeline(None, WriterForCausalLM(9), tokenizer=t5)).__name__ == "TextGenerationPipeline"
    assert type(pipeline(None, WriterForConditionalGeneration(9), tokenizer=t5)).__name__ == "Text2TextGenerationPipeline"
    names = {"text-generation", "text2text-generation", "summarization", "translation"}
    assert names <= set(factory.get_supported_tasks())


def test_a_model_of_another_kind_is_reported(t5, caplog):
    pipeline("text-generation", WriterForConditionalGeneration(9), tokenizer=t5)
    assert "not supported for text-generation" in caplog.text
