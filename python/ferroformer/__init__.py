"""Transformer models on the CPU: Hugging Face checkpoints in, numpy arrays out, no torch.

from ferroformer import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("path-or-hub-id")
model = AutoModel.from_pretrained("path-or-hub-id")
outputs = model(**tokenizer(["a sentence", "another one"], padding=True))
outputs.last_hidden_state  # numpy, (B, T, H)

Names are those of transformers. Every name is imported when it is first used, so `import ferroformer` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors as errors
    from .batch_encoding import BatchEncoding as BatchEncoding
    from .models.auto import AutoConfig as AutoConfig
    from .models.auto import AutoModel as AutoModel
    from .models.auto import AutoModelForMultipleChoice as AutoModelForMultipleChoice
    from .models.auto import AutoModelForNextSentencePrediction as AutoModelForNextSentencePrediction
    from .models.auto import AutoModelForSequenceClassification as AutoModelForSequenceClassification
    from .models.auto import AutoModelForTokenClassification as AutoModelForTokenClassification
    from .models.auto_tokenizer import AutoTokenizer as AutoTokenizer
    from .models.bert import BertConfig as BertConfig
    from .models.bert import BertForMultipleChoice as BertForMultipleChoice
    from .models.bert import BertForNextSentencePrediction as BertForNextSentencePrediction
    from .models.bert import BertForSequenceClassification as BertForSequenceClassification
    from .models.bert import BertForTokenClassification as BertForTokenClassification
    from .models.bert import BertModel as BertModel
    from .models.bert_tokenizer import BertTokenizer as BertTokenizer
    from .models.bert_tokenizer import BertTokenizerFast as BertTokenizerFast
    from .runtime import get_num_threads as get_num_threads
    from .runtime import set_num_threads as set_num_threads
    from .runtime import show_config as show_config
    from .sentence_transformer import SentenceTransformer as SentenceTransformer
    from .tokenization_utils import PreTrainedTokenizerFast as PreTrainedTokenizerFast

    __version__: str

_MODULES = {
    "AutoConfig": "models.auto",
    "AutoModel": "models.auto",
    "AutoModelForMultipleChoice": "models.auto",
    "AutoModelForNextSentencePrediction": "models.auto",
    "AutoModelForSequenceClassification": "models.auto",
    "AutoModelForTokenClassification": "models.auto",
    "AutoTokenizer": "models.auto_tokenizer",
    "BatchEncoding": "batch_encoding",
    "BertConfig": "models.bert",
    "BertForMultipleChoice": "models.bert",
    "BertForNextSentencePrediction": "models.bert",
    "BertForSequenceClassification": "models.bert",
    "BertForTokenClassification": "models.bert",
    "BertModel": "models.bert",
    "BertTokenizer": "models.bert_tokenizer",
    "BertTokenizerFast": "models.bert_tokenizer",
    "PreTrainedTokenizerFast": "tokenization_utils",
    "SentenceTransformer": "sentence_transformer",
    "get_num_threads": "runtime",
    "set_num_threads": "runtime",
    "show_config": "runtime",
    "__version__": "_native",
}

__all__ = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForMultipleChoice",
    "AutoModelForNextSentencePrediction",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoTokenizer",
    "BatchEncoding",
    "BertConfig",
    "BertForMultipleChoice",
    "BertForNextSentencePrediction",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertModel",
    "BertTokenizer",
    "BertTokenizerFast",
    "PreTrainedTokenizerFast",
    "SentenceTransformer",
    "__version__",
    "errors",
    "get_num_threads",
    "set_num_threads",
    "show_config",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module(".errors", __name__)
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
