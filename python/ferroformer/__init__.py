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
    from .added_token import AddedToken as AddedToken
    from .batch_encoding import BatchEncoding as BatchEncoding
    from .data_collator import DataCollatorForLanguageModeling as DataCollatorForLanguageModeling
    from .data_collator import DataCollatorForTokenClassification as DataCollatorForTokenClassification
    from .data_collator import DataCollatorWithPadding as DataCollatorWithPadding
    from .data_collator import DefaultDataCollator as DefaultDataCollator
    from .data_collator import default_data_collator as default_data_collator
    from .models.auto import AutoConfig as AutoConfig
    from .models.auto import AutoModel as AutoModel
    from .models.auto import AutoModelForMaskedLM as AutoModelForMaskedLM
    from .models.auto import AutoModelForMultipleChoice as AutoModelForMultipleChoice
    from .models.auto import AutoModelForNextSentencePrediction as AutoModelForNextSentencePrediction
    from .models.auto import AutoModelForQuestionAnswering as AutoModelForQuestionAnswering
    from .models.auto import AutoModelForSequenceClassification as AutoModelForSequenceClassification
    from .models.auto import AutoModelForTokenClassification as AutoModelForTokenClassification
    from .models.auto_tokenizer import AutoTokenizer as AutoTokenizer
    from .models.bert import BertConfig as BertConfig
    from .models.bert import BertForMaskedLM as BertForMaskedLM
    from .models.bert import BertForMultipleChoice as BertForMultipleChoice
    from .models.bert import BertForNextSentencePrediction as BertForNextSentencePrediction
    from .models.bert import BertForQuestionAnswering as BertForQuestionAnswering
    from .models.bert import BertForSequenceClassification as BertForSequenceClassification
    from .models.bert import BertForTokenClassification as BertForTokenClassification
    from .models.bert import BertModel as BertModel
    from .models.bert_tokenizer import BertTokenizer as BertTokenizer
    from .models.bert_tokenizer import BertTokenizerFast as BertTokenizerFast
    from .models.bert_tokenizer import ConvBertTokenizer as ConvBertTokenizer
    from .models.bert_tokenizer import DistilBertTokenizer as DistilBertTokenizer
    from .models.bert_tokenizer import DistilBertTokenizerFast as DistilBertTokenizerFast
    from .models.bert_tokenizer import ElectraTokenizer as ElectraTokenizer
    from .models.bert_tokenizer import ElectraTokenizerFast as ElectraTokenizerFast
    from .models.bert_tokenizer import MPNetTokenizer as MPNetTokenizer
    from .models.byte_fallback_tokenizers import GemmaTokenizer as GemmaTokenizer
    from .models.byte_fallback_tokenizers import GemmaTokenizerFast as GemmaTokenizerFast
    from .models.byte_fallback_tokenizers import LlamaTokenizer as LlamaTokenizer
    from .models.byte_fallback_tokenizers import LlamaTokenizerFast as LlamaTokenizerFast
    from .models.byte_level_tokenizers import BartTokenizer as BartTokenizer
    from .models.byte_level_tokenizers import BartTokenizerFast as BartTokenizerFast
    from .models.byte_level_tokenizers import DebertaTokenizer as DebertaTokenizer
    from .models.byte_level_tokenizers import DebertaTokenizerFast as DebertaTokenizerFast
    from .models.byte_level_tokenizers import GPT2Tokenizer as GPT2Tokenizer
    from .models.byte_level_tokenizers import GPT2TokenizerFast as GPT2TokenizerFast
    from .models.byte_level_tokenizers import GPTNeoXTokenizer as GPTNeoXTokenizer
    from .models.byte_level_tokenizers import GPTNeoXTokenizerFast as GPTNeoXTokenizerFast
    from .models.byte_level_tokenizers import Qwen2Tokenizer as Qwen2Tokenizer
    from .models.byte_level_tokenizers import Qwen2TokenizerFast as Qwen2TokenizerFast
    from .models.byte_level_tokenizers import RobertaTokenizer as RobertaTokenizer
    from .models.byte_level_tokenizers import RobertaTokenizerFast as RobertaTokenizerFast
    from .models.sentence_piece_tokenizers import AlbertTokenizer as AlbertTokenizer
    from .models.sentence_piece_tokenizers import AlbertTokenizerFast as AlbertTokenizerFast
    from .models.sentence_piece_tokenizers import CamembertTokenizer as CamembertTokenizer
    from .models.sentence_piece_tokenizers import CamembertTokenizerFast as CamembertTokenizerFast
    from .models.sentence_piece_tokenizers import DebertaV2Tokenizer as DebertaV2Tokenizer
    from .models.sentence_piece_tokenizers import DebertaV2TokenizerFast as DebertaV2TokenizerFast
    from .models.sentence_piece_tokenizers import T5Tokenizer as T5Tokenizer
    from .models.sentence_piece_tokenizers import T5TokenizerFast as T5TokenizerFast
    from .models.sentence_piece_tokenizers import XLMRobertaTokenizer as XLMRobertaTokenizer
    from .models.sentence_piece_tokenizers import XLMRobertaTokenizerFast as XLMRobertaTokenizerFast
    from .runtime import get_num_threads as get_num_threads
    from .runtime import set_num_threads as set_num_threads
    from .runtime import show_config as show_config
    from .schedules import SchedulerType as SchedulerType
    from .sentence_evaluation import EmbeddingSimilarityEvaluator as EmbeddingSimilarityEvaluator
    from .sentence_fit import DataLoader as DataLoader
    from .sentence_fit import InputExample as InputExample
    from .sentence_losses import ContrastiveLoss as ContrastiveLoss
    from .sentence_losses import CosineSimilarityLoss as CosineSimilarityLoss
    from .sentence_losses import MultipleNegativesRankingLoss as MultipleNegativesRankingLoss
    from .sentence_losses import SiameseDistanceMetric as SiameseDistanceMetric
    from .sentence_trainer import SentenceTransformerTrainer as SentenceTransformerTrainer
    from .sentence_trainer import SentenceTransformerTrainingArguments as SentenceTransformerTrainingArguments
    from .sentence_transformer import SentenceTransformer as SentenceTransformer
    from .tokenization_utils import PreTrainedTokenizerFast as PreTrainedTokenizerFast
    from .trainer import Trainer as Trainer
    from .trainer_callback import DefaultFlowCallback as DefaultFlowCallback
    from .trainer_callback import EarlyStoppingCallback as EarlyStoppingCallback
    from .trainer_callback import TrainerCallback as TrainerCallback
    from .trainer_callback import TrainerControl as TrainerControl
    from .trainer_callback import TrainerState as TrainerState
    from .trainer_reports import PrinterCallback as PrinterCallback
    from .trainer_reports import ProgressCallback as ProgressCallback
    from .trainer_utils import EvalPrediction as EvalPrediction
    from .trainer_utils import IntervalStrategy as IntervalStrategy
    from .trainer_utils import set_seed as set_seed
    from .training_args import TrainingArguments as TrainingArguments

    __version__: str

_MODULES = {
    "AddedToken": "added_token",
    "AlbertTokenizer": "models.sentence_piece_tokenizers",
    "AlbertTokenizerFast": "models.sentence_piece_tokenizers",
    "AutoConfig": "models.auto",
    "AutoModel": "models.auto",
    "AutoModelForMaskedLM": "models.auto",
    "AutoModelForMultipleChoice": "models.auto",
    "AutoModelForNextSentencePrediction": "models.auto",
    "AutoModelForQuestionAnswering": "models.auto",
    "AutoModelForSequenceClassification": "models.auto",
    "AutoModelForTokenClassification": "models.auto",
    "AutoTokenizer": "models.auto_tokenizer",
    "BartTokenizer": "models.byte_level_tokenizers",
    "BartTokenizerFast": "models.byte_level_tokenizers",
    "BatchEncoding": "batch_encoding",
    "BertConfig": "models.bert",
    "BertForMaskedLM": "models.bert",
    "BertForMultipleChoice": "models.bert",
    "BertForNextSentencePrediction": "models.bert",
    "BertForQuestionAnswering": "models.bert",
    "BertForSequenceClassification": "models.bert",
    "BertForTokenClassification": "models.bert",
    "BertModel": "models.bert",
    "BertTokenizer": "models.bert_tokenizer",
    "BertTokenizerFast": "models.bert_tokenizer",
    "CamembertTokenizer": "models.sentence_piece_tokenizers",
    "CamembertTokenizerFast": "models.sentence_piece_tokenizers",
    "ContrastiveLoss": "sentence_losses",
    "ConvBertTokenizer": "models.bert_tokenizer",
    "CosineSimilarityLoss": "sentence_losses",
    "DataCollatorForLanguageModeling": "data_collator",
    "DataCollatorForTokenClassification": "data_collator",
    "DataCollatorWithPadding": "data_collator",
    "DataLoader": "sentence_fit",
    "DebertaTokenizer": "models.byte_level_tokenizers",
    "DebertaTokenizerFast": "models.byte_level_tokenizers",
    "DebertaV2Tokenizer": "models.sentence_piece_tokenizers",
    "DebertaV2TokenizerFast": "models.sentence_piece_tokenizers",
    "DefaultDataCollator": "data_collator",
    "DefaultFlowCallback": "trainer_callback",
    "DistilBertTokenizer": "models.bert_tokenizer",
    "DistilBertTokenizerFast": "models.bert_tokenizer",
    "EarlyStoppingCallback": "trainer_callback",
    "ElectraTokenizer": "models.bert_tokenizer",
    "ElectraTokenizerFast": "models.bert_tokenizer",
    "EmbeddingSimilarityEvaluator": "sentence_evaluation",
    "EvalPrediction": "trainer_utils",
    "GPT2Tokenizer": "models.byte_level_tokenizers",
    "GPT2TokenizerFast": "models.byte_level_tokenizers",
    "GPTNeoXTokenizer": "models.byte_level_tokenizers",
    "GPTNeoXTokenizerFast": "models.byte_level_tokenizers",
    "GemmaTokenizer": "models.byte_fallback_tokenizers",
    "GemmaTokenizerFast": "models.byte_fallback_tokenizers",
    "InputExample": "sentence_fit",
    "IntervalStrategy": "trainer_utils",
    "LlamaTokenizer": "models.byte_fallback_tokenizers",
    "LlamaTokenizerFast": "models.byte_fallback_tokenizers",
    "MPNetTokenizer": "models.bert_tokenizer",
    "MultipleNegativesRankingLoss": "sentence_losses",
    "PreTrainedTokenizerFast": "tokenization_utils",
    "PrinterCallback": "trainer_reports",
    "ProgressCallback": "trainer_reports",
    "Qwen2Tokenizer": "models.byte_level_tokenizers",
    "Qwen2TokenizerFast": "models.byte_level_tokenizers",
    "RobertaTokenizer": "models.byte_level_tokenizers",
    "RobertaTokenizerFast": "models.byte_level_tokenizers",
    "SchedulerType": "schedules",
    "SentenceTransformer": "sentence_transformer",
    "SentenceTransformerTrainer": "sentence_trainer",
    "SentenceTransformerTrainingArguments": "sentence_trainer",
    "SiameseDistanceMetric": "sentence_losses",
    "T5Tokenizer": "models.sentence_piece_tokenizers",
    "T5TokenizerFast": "models.sentence_piece_tokenizers",
    "Trainer": "trainer",
    "TrainerCallback": "trainer_callback",
    "TrainerControl": "trainer_callback",
    "TrainerState": "trainer_callback",
    "TrainingArguments": "training_args",
    "XLMRobertaTokenizer": "models.sentence_piece_tokenizers",
    "XLMRobertaTokenizerFast": "models.sentence_piece_tokenizers",
    "default_data_collator": "data_collator",
    "get_num_threads": "runtime",
    "set_num_threads": "runtime",
    "set_seed": "trainer_utils",
    "show_config": "runtime",
    "__version__": "_native",
}

__all__ = [
    "AddedToken",
    "AlbertTokenizer",
    "AlbertTokenizerFast",
    "AutoConfig",
    "AutoModel",
    "AutoModelForMaskedLM",
    "AutoModelForMultipleChoice",
    "AutoModelForNextSentencePrediction",
    "AutoModelForQuestionAnswering",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoTokenizer",
    "BartTokenizer",
    "BartTokenizerFast",
    "BatchEncoding",
    "BertConfig",
    "BertForMaskedLM",
    "BertForMultipleChoice",
    "BertForNextSentencePrediction",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertModel",
    "BertTokenizer",
    "BertTokenizerFast",
    "CamembertTokenizer",
    "CamembertTokenizerFast",
    "ContrastiveLoss",
    "ConvBertTokenizer",
    "CosineSimilarityLoss",
    "DataCollatorForLanguageModeling",
    "DataCollatorForTokenClassification",
    "DataCollatorWithPadding",
    "DataLoader",
    "DebertaTokenizer",
    "DebertaTokenizerFast",
    "DebertaV2Tokenizer",
    "DebertaV2TokenizerFast",
    "DefaultDataCollator",
    "DefaultFlowCallback",
    "DistilBertTokenizer",
    "DistilBertTokenizerFast",
    "EarlyStoppingCallback",
    "ElectraTokenizer",
    "ElectraTokenizerFast",
    "EmbeddingSimilarityEvaluator",
    "EvalPrediction",
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
    "GPTNeoXTokenizer",
    "GPTNeoXTokenizerFast",
    "GemmaTokenizer",
    "GemmaTokenizerFast",
    "InputExample",
    "IntervalStrategy",
    "LlamaTokenizer",
    "LlamaTokenizerFast",
    "MPNetTokenizer",
    "MultipleNegativesRankingLoss",
    "PreTrainedTokenizerFast",
    "PrinterCallback",
    "ProgressCallback",
    "Qwen2Tokenizer",
    "Qwen2TokenizerFast",
    "RobertaTokenizer",
    "RobertaTokenizerFast",
    "SchedulerType",
    "SentenceTransformer",
    "SentenceTransformerTrainer",
    "SentenceTransformerTrainingArguments",
    "SiameseDistanceMetric",
    "T5Tokenizer",
    "T5TokenizerFast",
    "Trainer",
    "TrainerCallback",
    "TrainerControl",
    "TrainerState",
    "TrainingArguments",
    "XLMRobertaTokenizer",
    "XLMRobertaTokenizerFast",
    "__version__",
    "default_data_collator",
    "errors",
    "get_num_threads",
    "set_num_threads",
    "set_seed",
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
