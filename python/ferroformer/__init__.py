"""Transformer models on the CPU: Hugging Face checkpoints in, numpy arrays out, no torch.

from ferroformer import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("path-or-hub-id")
model = AutoModel.from_pretrained("path-or-hub-id")
outputs = model(**tokenizer(["a sentence", "another one"], padding=True))
outputs.last_hidden_state  # numpy, (B, T, H)

Names are those of transformers. Every name is imported when it is first used, so `import ferroformer` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy_names import lazy_names

if TYPE_CHECKING:
    from . import errors as errors
    from . import util as util
    from ._native import __version__ as __version__
    from .added_token import AddedToken as AddedToken
    from .batch_encoding import BatchEncoding as BatchEncoding
    from .cache_utils import DynamicCache as DynamicCache
    from .cross_encoder import CrossEncoder as CrossEncoder
    from .data_collator import DataCollatorForLanguageModeling as DataCollatorForLanguageModeling
    from .data_collator import DataCollatorForSeq2Seq as DataCollatorForSeq2Seq
    from .data_collator import DataCollatorForTokenClassification as DataCollatorForTokenClassification
    from .data_collator import DataCollatorWithPadding as DataCollatorWithPadding
    from .data_collator import DefaultDataCollator as DefaultDataCollator
    from .data_collator import default_data_collator as default_data_collator
    from .generation import EncoderNoRepeatNGramLogitsProcessor as EncoderNoRepeatNGramLogitsProcessor
    from .generation import EncoderRepetitionPenaltyLogitsProcessor as EncoderRepetitionPenaltyLogitsProcessor
    from .generation import EosTokenCriteria as EosTokenCriteria
    from .generation import ExponentialDecayLengthPenalty as ExponentialDecayLengthPenalty
    from .generation import ForcedBOSTokenLogitsProcessor as ForcedBOSTokenLogitsProcessor
    from .generation import ForcedEOSTokenLogitsProcessor as ForcedEOSTokenLogitsProcessor
    from .generation import GenerationConfig as GenerationConfig
    from .generation import GenerationMixin as GenerationMixin
    from .generation import InfNanRemoveLogitsProcessor as InfNanRemoveLogitsProcessor
    from .generation import LogitNormalization as LogitNormalization
    from .generation import LogitsProcessor as LogitsProcessor
    from .generation import LogitsProcessorList as LogitsProcessorList
    from .generation import MaxLengthCriteria as MaxLengthCriteria
    from .generation import MaxTimeCriteria as MaxTimeCriteria
    from .generation import MinLengthLogitsProcessor as MinLengthLogitsProcessor
    from .generation import MinNewTokensLengthLogitsProcessor as MinNewTokensLengthLogitsProcessor
    from .generation import MinPLogitsWarper as MinPLogitsWarper
    from .generation import NoBadWordsLogitsProcessor as NoBadWordsLogitsProcessor
    from .generation import NoRepeatNGramLogitsProcessor as NoRepeatNGramLogitsProcessor
    from .generation import PrefixConstrainedLogitsProcessor as PrefixConstrainedLogitsProcessor
    from .generation import RepetitionPenaltyLogitsProcessor as RepetitionPenaltyLogitsProcessor
    from .generation import SequenceBiasLogitsProcessor as SequenceBiasLogitsProcessor
    from .generation import StopStringCriteria as StopStringCriteria
    from .generation import StoppingCriteria as StoppingCriteria
    from .generation import StoppingCriteriaList as StoppingCriteriaList
    from .generation import SuppressTokensAtBeginLogitsProcessor as SuppressTokensAtBeginLogitsProcessor
    from .generation import SuppressTokensLogitsProcessor as SuppressTokensLogitsProcessor
    from .generation import TemperatureLogitsWarper as TemperatureLogitsWarper
    from .generation import TextIteratorStreamer as TextIteratorStreamer
    from .generation import TextStreamer as TextStreamer
    from .generation import TopKLogitsWarper as TopKLogitsWarper
    from .generation import TopPLogitsWarper as TopPLogitsWarper
    from .generation import TypicalLogitsWarper as TypicalLogitsWarper
    from .models.albert import AlbertConfig as AlbertConfig
    from .models.albert import AlbertForMaskedLM as AlbertForMaskedLM
    from .models.albert import AlbertForMultipleChoice as AlbertForMultipleChoice
    from .models.albert import AlbertForPreTraining as AlbertForPreTraining
    from .models.albert import AlbertForQuestionAnswering as AlbertForQuestionAnswering
    from .models.albert import AlbertForSequenceClassification as AlbertForSequenceClassification
    from .models.albert import AlbertForTokenClassification as AlbertForTokenClassification
    from .models.albert import AlbertModel as AlbertModel
    from .models.auto import AutoConfig as AutoConfig
    from .models.auto import AutoModel as AutoModel
    from .models.auto import AutoModelForCausalLM as AutoModelForCausalLM
    from .models.auto import AutoModelForMaskedLM as AutoModelForMaskedLM
    from .models.auto import AutoModelForMultipleChoice as AutoModelForMultipleChoice
    from .models.auto import AutoModelForNextSentencePrediction as AutoModelForNextSentencePrediction
    from .models.auto import AutoModelForPreTraining as AutoModelForPreTraining
    from .models.auto import AutoModelForQuestionAnswering as AutoModelForQuestionAnswering
    from .models.auto import AutoModelForSeq2SeqLM as AutoModelForSeq2SeqLM
    from .models.auto import AutoModelForSequenceClassification as AutoModelForSequenceClassification
    from .models.auto import AutoModelForTokenClassification as AutoModelForTokenClassification
    from .models.auto_tokenizer import AutoTokenizer as AutoTokenizer
    from .models.bart import BartConfig as BartConfig
    from .models.bart import BartForConditionalGeneration as BartForConditionalGeneration
    from .models.bart import BartForQuestionAnswering as BartForQuestionAnswering
    from .models.bart import BartForSequenceClassification as BartForSequenceClassification
    from .models.bart import BartModel as BartModel
    from .models.bert import BertConfig as BertConfig
    from .models.bert import BertForMaskedLM as BertForMaskedLM
    from .models.bert import BertForMultipleChoice as BertForMultipleChoice
    from .models.bert import BertForNextSentencePrediction as BertForNextSentencePrediction
    from .models.bert import BertForPreTraining as BertForPreTraining
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
    from .models.bert_tokenizer import MobileBertTokenizer as MobileBertTokenizer
    from .models.bert_tokenizer import MobileBertTokenizerFast as MobileBertTokenizerFast
    from .models.blenderbot import BlenderbotConfig as BlenderbotConfig
    from .models.blenderbot import BlenderbotForConditionalGeneration as BlenderbotForConditionalGeneration
    from .models.blenderbot import BlenderbotModel as BlenderbotModel
    from .models.byte_fallback_tokenizers import GemmaTokenizer as GemmaTokenizer
    from .models.byte_fallback_tokenizers import GemmaTokenizerFast as GemmaTokenizerFast
    from .models.byte_fallback_tokenizers import LlamaTokenizer as LlamaTokenizer
    from .models.byte_fallback_tokenizers import LlamaTokenizerFast as LlamaTokenizerFast
    from .models.byte_level_tokenizers import BartTokenizer as BartTokenizer
    from .models.byte_level_tokenizers import BartTokenizerFast as BartTokenizerFast
    from .models.byte_level_tokenizers import BlenderbotTokenizer as BlenderbotTokenizer
    from .models.byte_level_tokenizers import BlenderbotTokenizerFast as BlenderbotTokenizerFast
    from .models.byte_level_tokenizers import CodeGenTokenizer as CodeGenTokenizer
    from .models.byte_level_tokenizers import CodeGenTokenizerFast as CodeGenTokenizerFast
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
    from .models.camembert import CamembertConfig as CamembertConfig
    from .models.camembert import CamembertForMaskedLM as CamembertForMaskedLM
    from .models.camembert import CamembertForMultipleChoice as CamembertForMultipleChoice
    from .models.camembert import CamembertForQuestionAnswering as CamembertForQuestionAnswering
    from .models.camembert import CamembertForSequenceClassification as CamembertForSequenceClassification
    from .models.camembert import CamembertForTokenClassification as CamembertForTokenClassification
    from .models.camembert import CamembertModel as CamembertModel
    from .models.convbert import ConvBertConfig as ConvBertConfig
    from .models.convbert import ConvBertForMaskedLM as ConvBertForMaskedLM
    from .models.convbert import ConvBertForMultipleChoice as ConvBertForMultipleChoice
    from .models.convbert import ConvBertForQuestionAnswering as ConvBertForQuestionAnswering
    from .models.convbert import ConvBertForSequenceClassification as ConvBertForSequenceClassification
    from .models.convbert import ConvBertForTokenClassification as ConvBertForTokenClassification
    from .models.convbert import ConvBertModel as ConvBertModel
    from .models.deberta import DebertaConfig as DebertaConfig
    from .models.deberta import DebertaForMaskedLM as DebertaForMaskedLM
    from .models.deberta import DebertaForQuestionAnswering as DebertaForQuestionAnswering
    from .models.deberta import DebertaForSequenceClassification as DebertaForSequenceClassification
    from .models.deberta import DebertaForTokenClassification as DebertaForTokenClassification
    from .models.deberta import DebertaModel as DebertaModel
    from .models.deberta_v2 import DebertaV2Config as DebertaV2Config
    from .models.deberta_v2 import DebertaV2ForMaskedLM as DebertaV2ForMaskedLM
    from .models.deberta_v2 import DebertaV2ForMultipleChoice as DebertaV2ForMultipleChoice
    from .models.deberta_v2 import DebertaV2ForQuestionAnswering as DebertaV2ForQuestionAnswering
    from .models.deberta_v2 import DebertaV2ForSequenceClassification as DebertaV2ForSequenceClassification
    from .models.deberta_v2 import DebertaV2ForTokenClassification as DebertaV2ForTokenClassification
    from .models.deberta_v2 import DebertaV2Model as DebertaV2Model
    from .models.distilbert import DistilBertConfig as DistilBertConfig
    from .models.distilbert import DistilBertForMaskedLM as DistilBertForMaskedLM
    from .models.distilbert import DistilBertForMultipleChoice as DistilBertForMultipleChoice
    from .models.distilbert import DistilBertForQuestionAnswering as DistilBertForQuestionAnswering
    from .models.distilbert import DistilBertForSequenceClassification as DistilBertForSequenceClassification
    from .models.distilbert import DistilBertForTokenClassification as DistilBertForTokenClassification
    from .models.distilbert import DistilBertModel as DistilBertModel
    from .models.electra import ElectraConfig as ElectraConfig
    from .models.electra import ElectraForMaskedLM as ElectraForMaskedLM
    from .models.electra import ElectraForMultipleChoice as ElectraForMultipleChoice
    from .models.electra import ElectraForPreTraining as ElectraForPreTraining
    from .models.electra import ElectraForQuestionAnswering as ElectraForQuestionAnswering
    from .models.electra import ElectraForSequenceClassification as ElectraForSequenceClassification
    from .models.electra import ElectraForTokenClassification as ElectraForTokenClassification
    from .models.electra import ElectraModel as ElectraModel
    from .models.ernie import ErnieConfig as ErnieConfig
    from .models.ernie import ErnieForMaskedLM as ErnieForMaskedLM
    from .models.ernie import ErnieForMultipleChoice as ErnieForMultipleChoice
    from .models.ernie import ErnieForNextSentencePrediction as ErnieForNextSentencePrediction
    from .models.ernie import ErnieForPreTraining as ErnieForPreTraining
    from .models.ernie import ErnieForQuestionAnswering as ErnieForQuestionAnswering
    from .models.ernie import ErnieForSequenceClassification as ErnieForSequenceClassification
    from .models.ernie import ErnieForTokenClassification as ErnieForTokenClassification
    from .models.ernie import ErnieModel as ErnieModel
    from .models.eurobert import EuroBertConfig as EuroBertConfig
    from .models.eurobert import EuroBertForMaskedLM as EuroBertForMaskedLM
    from .models.eurobert import EuroBertForSequenceClassification as EuroBertForSequenceClassification
    from .models.eurobert import EuroBertForTokenClassification as EuroBertForTokenClassification
    from .models.eurobert import EuroBertModel as EuroBertModel
    from .models.gemma2 import Gemma2Config as Gemma2Config
    from .models.gemma2 import Gemma2ForCausalLM as Gemma2ForCausalLM
    from .models.gemma2 import Gemma2ForSequenceClassification as Gemma2ForSequenceClassification
    from .models.gemma2 import Gemma2ForTokenClassification as Gemma2ForTokenClassification
    from .models.gemma2 import Gemma2Model as Gemma2Model
    from .models.gpt2 import GPT2Config as GPT2Config
    from .models.gpt2 import GPT2ForSequenceClassification as GPT2ForSequenceClassification
    from .models.gpt2 import GPT2LMHeadModel as GPT2LMHeadModel
    from .models.gpt2 import GPT2Model as GPT2Model
    from .models.gpt_neo import GPTNeoConfig as GPTNeoConfig
    from .models.gpt_neo import GPTNeoForCausalLM as GPTNeoForCausalLM
    from .models.gpt_neo import GPTNeoForSequenceClassification as GPTNeoForSequenceClassification
    from .models.gpt_neo import GPTNeoModel as GPTNeoModel
    from .models.gpt_neox import GPTNeoXConfig as GPTNeoXConfig
    from .models.gpt_neox import GPTNeoXForCausalLM as GPTNeoXForCausalLM
    from .models.gpt_neox import GPTNeoXForSequenceClassification as GPTNeoXForSequenceClassification
    from .models.gpt_neox import GPTNeoXModel as GPTNeoXModel
    from .models.llama import LlamaConfig as LlamaConfig
    from .models.llama import LlamaForCausalLM as LlamaForCausalLM
    from .models.llama import LlamaForQuestionAnswering as LlamaForQuestionAnswering
    from .models.llama import LlamaForSequenceClassification as LlamaForSequenceClassification
    from .models.llama import LlamaForTokenClassification as LlamaForTokenClassification
    from .models.llama import LlamaModel as LlamaModel
    from .models.m2m_100 import M2M100Config as M2M100Config
    from .models.m2m_100 import M2M100ForConditionalGeneration as M2M100ForConditionalGeneration
    from .models.m2m_100 import M2M100Model as M2M100Model
    from .models.m2m_100_tokenizer import M2M100Tokenizer as M2M100Tokenizer
    from .models.marian import MarianConfig as MarianConfig
    from .models.marian import MarianMTModel as MarianMTModel
    from .models.marian import MarianModel as MarianModel
    from .models.marian_tokenizer import MarianTokenizer as MarianTokenizer
    from .models.mbart import MBartConfig as MBartConfig
    from .models.mbart import MBartForConditionalGeneration as MBartForConditionalGeneration
    from .models.mbart import MBartForQuestionAnswering as MBartForQuestionAnswering
    from .models.mbart import MBartForSequenceClassification as MBartForSequenceClassification
    from .models.mbart import MBartModel as MBartModel
    from .models.mistral import MistralConfig as MistralConfig
    from .models.mistral import MistralForCausalLM as MistralForCausalLM
    from .models.mistral import MistralForQuestionAnswering as MistralForQuestionAnswering
    from .models.mistral import MistralForSequenceClassification as MistralForSequenceClassification
    from .models.mistral import MistralForTokenClassification as MistralForTokenClassification
    from .models.mistral import MistralModel as MistralModel
    from .models.mobilebert import MobileBertConfig as MobileBertConfig
    from .models.mobilebert import MobileBertForMaskedLM as MobileBertForMaskedLM
    from .models.mobilebert import MobileBertForMultipleChoice as MobileBertForMultipleChoice
    from .models.mobilebert import MobileBertForNextSentencePrediction as MobileBertForNextSentencePrediction
    from .models.mobilebert import MobileBertForPreTraining as MobileBertForPreTraining
    from .models.mobilebert import MobileBertForQuestionAnswering as MobileBertForQuestionAnswering
    from .models.mobilebert import MobileBertForSequenceClassification as MobileBertForSequenceClassification
    from .models.mobilebert import MobileBertForTokenClassification as MobileBertForTokenClassification
    from .models.mobilebert import MobileBertModel as MobileBertModel
    from .models.modernbert import ModernBertConfig as ModernBertConfig
    from .models.modernbert import ModernBertForMaskedLM as ModernBertForMaskedLM
    from .models.modernbert import ModernBertForMultipleChoice as ModernBertForMultipleChoice
    from .models.modernbert import ModernBertForQuestionAnswering as ModernBertForQuestionAnswering
    from .models.modernbert import ModernBertForSequenceClassification as ModernBertForSequenceClassification
    from .models.modernbert import ModernBertForTokenClassification as ModernBertForTokenClassification
    from .models.modernbert import ModernBertModel as ModernBertModel
    from .models.mpnet import MPNetConfig as MPNetConfig
    from .models.mpnet import MPNetForMaskedLM as MPNetForMaskedLM
    from .models.mpnet import MPNetForMultipleChoice as MPNetForMultipleChoice
    from .models.mpnet import MPNetForQuestionAnswering as MPNetForQuestionAnswering
    from .models.mpnet import MPNetForSequenceClassification as MPNetForSequenceClassification
    from .models.mpnet import MPNetForTokenClassification as MPNetForTokenClassification
    from .models.mpnet import MPNetModel as MPNetModel
    from .models.mt5 import MT5Config as MT5Config
    from .models.mt5 import MT5EncoderModel as MT5EncoderModel
    from .models.mt5 import MT5ForConditionalGeneration as MT5ForConditionalGeneration
    from .models.mt5 import MT5ForQuestionAnswering as MT5ForQuestionAnswering
    from .models.mt5 import MT5ForSequenceClassification as MT5ForSequenceClassification
    from .models.mt5 import MT5ForTokenClassification as MT5ForTokenClassification
    from .models.mt5 import MT5Model as MT5Model
    from .models.nomic_bert import NomicBertConfig as NomicBertConfig
    from .models.nomic_bert import NomicBertForMaskedLM as NomicBertForMaskedLM
    from .models.nomic_bert import NomicBertForSequenceClassification as NomicBertForSequenceClassification
    from .models.nomic_bert import NomicBertForTokenClassification as NomicBertForTokenClassification
    from .models.nomic_bert import NomicBertModel as NomicBertModel
    from .models.opt import OPTConfig as OPTConfig
    from .models.opt import OPTForCausalLM as OPTForCausalLM
    from .models.opt import OPTForSequenceClassification as OPTForSequenceClassification
    from .models.opt import OPTModel as OPTModel
    from .models.pegasus import PegasusConfig as PegasusConfig
    from .models.pegasus import PegasusForConditionalGeneration as PegasusForConditionalGeneration
    from .models.pegasus import PegasusModel as PegasusModel
    from .models.phi import PhiConfig as PhiConfig
    from .models.phi import PhiForCausalLM as PhiForCausalLM
    from .models.phi import PhiForSequenceClassification as PhiForSequenceClassification
    from .models.phi import PhiModel as PhiModel
    from .models.qwen2 import Qwen2Config as Qwen2Config
    from .models.qwen2 import Qwen2ForCausalLM as Qwen2ForCausalLM
    from .models.qwen2 import Qwen2ForQuestionAnswering as Qwen2ForQuestionAnswering
    from .models.qwen2 import Qwen2ForSequenceClassification as Qwen2ForSequenceClassification
    from .models.qwen2 import Qwen2ForTokenClassification as Qwen2ForTokenClassification
    from .models.qwen2 import Qwen2Model as Qwen2Model
    from .models.qwen3 import Qwen3Config as Qwen3Config
    from .models.qwen3 import Qwen3ForCausalLM as Qwen3ForCausalLM
    from .models.qwen3 import Qwen3ForQuestionAnswering as Qwen3ForQuestionAnswering
    from .models.qwen3 import Qwen3ForSequenceClassification as Qwen3ForSequenceClassification
    from .models.qwen3 import Qwen3ForTokenClassification as Qwen3ForTokenClassification
    from .models.qwen3 import Qwen3Model as Qwen3Model
    from .models.roberta import RobertaConfig as RobertaConfig
    from .models.roberta import RobertaForMaskedLM as RobertaForMaskedLM
    from .models.roberta import RobertaForMultipleChoice as RobertaForMultipleChoice
    from .models.roberta import RobertaForQuestionAnswering as RobertaForQuestionAnswering
    from .models.roberta import RobertaForSequenceClassification as RobertaForSequenceClassification
    from .models.roberta import RobertaForTokenClassification as RobertaForTokenClassification
    from .models.roberta import RobertaModel as RobertaModel
    from .models.roformer import RoFormerConfig as RoFormerConfig
    from .models.roformer import RoFormerForMaskedLM as RoFormerForMaskedLM
    from .models.roformer import RoFormerForMultipleChoice as RoFormerForMultipleChoice
    from .models.roformer import RoFormerForQuestionAnswering as RoFormerForQuestionAnswering
    from .models.roformer import RoFormerForSequenceClassification as RoFormerForSequenceClassification
    from .models.roformer import RoFormerForTokenClassification as RoFormerForTokenClassification
    from .models.roformer import RoFormerModel as RoFormerModel
    from .models.roformer_tokenizer import RoFormerTokenizer as RoFormerTokenizer
    from .models.roformer_tokenizer import RoFormerTokenizerFast as RoFormerTokenizerFast
    from .models.sentence_piece_tokenizers import AlbertTokenizer as AlbertTokenizer
    from .models.sentence_piece_tokenizers import AlbertTokenizerFast as AlbertTokenizerFast
    from .models.sentence_piece_tokenizers import CamembertTokenizer as CamembertTokenizer
    from .models.sentence_piece_tokenizers import CamembertTokenizerFast as CamembertTokenizerFast
    from .models.sentence_piece_tokenizers import DebertaV2Tokenizer as DebertaV2Tokenizer
    from .models.sentence_piece_tokenizers import DebertaV2TokenizerFast as DebertaV2TokenizerFast
    from .models.sentence_piece_tokenizers import PegasusTokenizer as PegasusTokenizer
    from .models.sentence_piece_tokenizers import PegasusTokenizerFast as PegasusTokenizerFast
    from .models.sentence_piece_tokenizers import T5Tokenizer as T5Tokenizer
    from .models.sentence_piece_tokenizers import T5TokenizerFast as T5TokenizerFast
    from .models.sentence_piece_tokenizers import XLMRobertaTokenizer as XLMRobertaTokenizer
    from .models.sentence_piece_tokenizers import XLMRobertaTokenizerFast as XLMRobertaTokenizerFast
    from .models.smollm3 import SmolLM3Config as SmolLM3Config
    from .models.smollm3 import SmolLM3ForCausalLM as SmolLM3ForCausalLM
    from .models.smollm3 import SmolLM3ForQuestionAnswering as SmolLM3ForQuestionAnswering
    from .models.smollm3 import SmolLM3ForSequenceClassification as SmolLM3ForSequenceClassification
    from .models.smollm3 import SmolLM3ForTokenClassification as SmolLM3ForTokenClassification
    from .models.smollm3 import SmolLM3Model as SmolLM3Model
    from .models.squeezebert import SqueezeBertConfig as SqueezeBertConfig
    from .models.squeezebert import SqueezeBertForMaskedLM as SqueezeBertForMaskedLM
    from .models.squeezebert import SqueezeBertForMultipleChoice as SqueezeBertForMultipleChoice
    from .models.squeezebert import SqueezeBertForQuestionAnswering as SqueezeBertForQuestionAnswering
    from .models.squeezebert import SqueezeBertForSequenceClassification as SqueezeBertForSequenceClassification
    from .models.squeezebert import SqueezeBertForTokenClassification as SqueezeBertForTokenClassification
    from .models.squeezebert import SqueezeBertModel as SqueezeBertModel
    from .models.t5 import T5Config as T5Config
    from .models.t5 import T5EncoderModel as T5EncoderModel
    from .models.t5 import T5ForConditionalGeneration as T5ForConditionalGeneration
    from .models.t5 import T5ForQuestionAnswering as T5ForQuestionAnswering
    from .models.t5 import T5ForSequenceClassification as T5ForSequenceClassification
    from .models.t5 import T5ForTokenClassification as T5ForTokenClassification
    from .models.t5 import T5Model as T5Model
    from .models.translation_tokenizers import MBart50Tokenizer as MBart50Tokenizer
    from .models.translation_tokenizers import MBart50TokenizerFast as MBart50TokenizerFast
    from .models.translation_tokenizers import MBartTokenizer as MBartTokenizer
    from .models.translation_tokenizers import MBartTokenizerFast as MBartTokenizerFast
    from .models.translation_tokenizers import NllbTokenizer as NllbTokenizer
    from .models.translation_tokenizers import NllbTokenizerFast as NllbTokenizerFast
    from .models.umt5 import UMT5Config as UMT5Config
    from .models.umt5 import UMT5EncoderModel as UMT5EncoderModel
    from .models.umt5 import UMT5ForConditionalGeneration as UMT5ForConditionalGeneration
    from .models.umt5 import UMT5ForQuestionAnswering as UMT5ForQuestionAnswering
    from .models.umt5 import UMT5ForSequenceClassification as UMT5ForSequenceClassification
    from .models.umt5 import UMT5ForTokenClassification as UMT5ForTokenClassification
    from .models.umt5 import UMT5Model as UMT5Model
    from .models.xlm_roberta import XLMRobertaConfig as XLMRobertaConfig
    from .models.xlm_roberta import XLMRobertaForMaskedLM as XLMRobertaForMaskedLM
    from .models.xlm_roberta import XLMRobertaForMultipleChoice as XLMRobertaForMultipleChoice
    from .models.xlm_roberta import XLMRobertaForQuestionAnswering as XLMRobertaForQuestionAnswering
    from .models.xlm_roberta import XLMRobertaForSequenceClassification as XLMRobertaForSequenceClassification
    from .models.xlm_roberta import XLMRobertaForTokenClassification as XLMRobertaForTokenClassification
    from .models.xlm_roberta import XLMRobertaModel as XLMRobertaModel
    from .pipelines import FeatureExtractionPipeline as FeatureExtractionPipeline
    from .pipelines import FillMaskPipeline as FillMaskPipeline
    from .pipelines import NerPipeline as NerPipeline
    from .pipelines import Pipeline as Pipeline
    from .pipelines import QuestionAnsweringPipeline as QuestionAnsweringPipeline
    from .pipelines import SentenceSimilarityPipeline as SentenceSimilarityPipeline
    from .pipelines import TextClassificationPipeline as TextClassificationPipeline
    from .pipelines import TokenClassificationPipeline as TokenClassificationPipeline
    from .pipelines import ZeroShotClassificationPipeline as ZeroShotClassificationPipeline
    from .pipelines import pipeline as pipeline
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

_NAMES = {
    "": "errors util",
    "_native": "__version__",
    "added_token": "AddedToken",
    "batch_encoding": "BatchEncoding",
    "cache_utils": "DynamicCache",
    "cross_encoder": "CrossEncoder",
    "data_collator": """
        DataCollatorForLanguageModeling DataCollatorForSeq2Seq DataCollatorForTokenClassification
        DataCollatorWithPadding DefaultDataCollator default_data_collator
    """,
    "generation": """
        EncoderNoRepeatNGramLogitsProcessor EncoderRepetitionPenaltyLogitsProcessor EosTokenCriteria
        ExponentialDecayLengthPenalty ForcedBOSTokenLogitsProcessor ForcedEOSTokenLogitsProcessor GenerationConfig
        GenerationMixin InfNanRemoveLogitsProcessor LogitNormalization LogitsProcessor LogitsProcessorList
        MaxLengthCriteria MaxTimeCriteria MinLengthLogitsProcessor MinNewTokensLengthLogitsProcessor MinPLogitsWarper
        NoBadWordsLogitsProcessor NoRepeatNGramLogitsProcessor PrefixConstrainedLogitsProcessor
        RepetitionPenaltyLogitsProcessor SequenceBiasLogitsProcessor StopStringCriteria StoppingCriteria
        StoppingCriteriaList SuppressTokensAtBeginLogitsProcessor SuppressTokensLogitsProcessor TemperatureLogitsWarper
        TextIteratorStreamer TextStreamer TopKLogitsWarper TopPLogitsWarper TypicalLogitsWarper
    """,
    "models.albert": """
        AlbertConfig AlbertForMaskedLM AlbertForMultipleChoice AlbertForPreTraining AlbertForQuestionAnswering
        AlbertForSequenceClassification AlbertForTokenClassification AlbertModel
    """,
    "models.auto": """
        AutoConfig AutoModel AutoModelForCausalLM AutoModelForMaskedLM AutoModelForMultipleChoice
        AutoModelForNextSentencePrediction AutoModelForPreTraining AutoModelForQuestionAnswering AutoModelForSeq2SeqLM
        AutoModelForSequenceClassification AutoModelForTokenClassification
    """,
    "models.auto_tokenizer": "AutoTokenizer",
    "models.bart": """
        BartConfig BartForConditionalGeneration BartForQuestionAnswering BartForSequenceClassification BartModel
    """,
    "models.bert": """
        BertConfig BertForMaskedLM BertForMultipleChoice BertForNextSentencePrediction BertForPreTraining
        BertForQuestionAnswering BertForSequenceClassification BertForTokenClassification BertModel
    """,
    "models.bert_tokenizer": """
        BertTokenizer BertTokenizerFast ConvBertTokenizer DistilBertTokenizer DistilBertTokenizerFast ElectraTokenizer
        ElectraTokenizerFast MPNetTokenizer MobileBertTokenizer MobileBertTokenizerFast
    """,
    "models.blenderbot": "BlenderbotConfig BlenderbotForConditionalGeneration BlenderbotModel",
    "models.byte_fallback_tokenizers": "GemmaTokenizer GemmaTokenizerFast LlamaTokenizer LlamaTokenizerFast",
    "models.byte_level_tokenizers": """
        BartTokenizer BartTokenizerFast BlenderbotTokenizer BlenderbotTokenizerFast CodeGenTokenizer
        CodeGenTokenizerFast DebertaTokenizer DebertaTokenizerFast GPT2Tokenizer GPT2TokenizerFast GPTNeoXTokenizer
        GPTNeoXTokenizerFast Qwen2Tokenizer Qwen2TokenizerFast RobertaTokenizer RobertaTokenizerFast
    """,
    "models.camembert": """
        CamembertConfig CamembertForMaskedLM CamembertForMultipleChoice CamembertForQuestionAnswering
        CamembertForSequenceClassification CamembertForTokenClassification CamembertModel
    """,
    "models.convbert": """
        ConvBertConfig ConvBertForMaskedLM ConvBertForMultipleChoice ConvBertForQuestionAnswering
        ConvBertForSequenceClassification ConvBertForTokenClassification ConvBertModel
    """,
    "models.deberta": """
        DebertaConfig DebertaForMaskedLM DebertaForQuestionAnswering DebertaForSequenceClassification
        DebertaForTokenClassification DebertaModel
    """,
    "models.deberta_v2": """
        DebertaV2Config DebertaV2ForMaskedLM DebertaV2ForMultipleChoice DebertaV2ForQuestionAnswering
        DebertaV2ForSequenceClassification DebertaV2ForTokenClassification DebertaV2Model
    """,
    "models.distilbert": """
        DistilBertConfig DistilBertForMaskedLM DistilBertForMultipleChoice DistilBertForQuestionAnswering
        DistilBertForSequenceClassification DistilBertForTokenClassification DistilBertModel
    """,
    "models.electra": """
        ElectraConfig ElectraForMaskedLM ElectraForMultipleChoice ElectraForPreTraining ElectraForQuestionAnswering
        ElectraForSequenceClassification ElectraForTokenClassification ElectraModel
    """,
    "models.ernie": """
        ErnieConfig ErnieForMaskedLM ErnieForMultipleChoice ErnieForNextSentencePrediction ErnieForPreTraining
        ErnieForQuestionAnswering ErnieForSequenceClassification ErnieForTokenClassification ErnieModel
    """,
    "models.eurobert": """
        EuroBertConfig EuroBertForMaskedLM EuroBertForSequenceClassification EuroBertForTokenClassification
        EuroBertModel
    """,
    "models.gemma2": """
        Gemma2Config Gemma2ForCausalLM Gemma2ForSequenceClassification Gemma2ForTokenClassification Gemma2Model
    """,
    "models.gpt2": "GPT2Config GPT2ForSequenceClassification GPT2LMHeadModel GPT2Model",
    "models.gpt_neo": "GPTNeoConfig GPTNeoForCausalLM GPTNeoForSequenceClassification GPTNeoModel",
    "models.gpt_neox": "GPTNeoXConfig GPTNeoXForCausalLM GPTNeoXForSequenceClassification GPTNeoXModel",
    "models.llama": """
        LlamaConfig LlamaForCausalLM LlamaForQuestionAnswering LlamaForSequenceClassification
        LlamaForTokenClassification LlamaModel
    """,
    "models.m2m_100": "M2M100Config M2M100ForConditionalGeneration M2M100Model",
    "models.m2m_100_tokenizer": "M2M100Tokenizer",
    "models.marian": "MarianConfig MarianMTModel MarianModel",
    "models.marian_tokenizer": "MarianTokenizer",
    "models.mbart": """
        MBartConfig MBartForConditionalGeneration MBartForQuestionAnswering MBartForSequenceClassification MBartModel
    """,
    "models.mistral": """
        MistralConfig MistralForCausalLM MistralForQuestionAnswering MistralForSequenceClassification
        MistralForTokenClassification MistralModel
    """,
    "models.mobilebert": """
        MobileBertConfig MobileBertForMaskedLM MobileBertForMultipleChoice MobileBertForNextSentencePrediction
        MobileBertForPreTraining MobileBertForQuestionAnswering MobileBertForSequenceClassification
        MobileBertForTokenClassification MobileBertModel
    """,
    "models.modernbert": """
        ModernBertConfig ModernBertForMaskedLM ModernBertForMultipleChoice ModernBertForQuestionAnswering
        ModernBertForSequenceClassification ModernBertForTokenClassification ModernBertModel
    """,
    "models.mpnet": """
        MPNetConfig MPNetForMaskedLM MPNetForMultipleChoice MPNetForQuestionAnswering MPNetForSequenceClassification
        MPNetForTokenClassification MPNetModel
    """,
    "models.mt5": """
        MT5Config MT5EncoderModel MT5ForConditionalGeneration MT5ForQuestionAnswering MT5ForSequenceClassification
        MT5ForTokenClassification MT5Model
    """,
    "models.nomic_bert": """
        NomicBertConfig NomicBertForMaskedLM NomicBertForSequenceClassification NomicBertForTokenClassification
        NomicBertModel
    """,
    "models.opt": "OPTConfig OPTForCausalLM OPTForSequenceClassification OPTModel",
    "models.pegasus": "PegasusConfig PegasusForConditionalGeneration PegasusModel",
    "models.phi": "PhiConfig PhiForCausalLM PhiForSequenceClassification PhiModel",
    "models.qwen2": """
        Qwen2Config Qwen2ForCausalLM Qwen2ForQuestionAnswering Qwen2ForSequenceClassification
        Qwen2ForTokenClassification Qwen2Model
    """,
    "models.qwen3": """
        Qwen3Config Qwen3ForCausalLM Qwen3ForQuestionAnswering Qwen3ForSequenceClassification
        Qwen3ForTokenClassification Qwen3Model
    """,
    "models.roberta": """
        RobertaConfig RobertaForMaskedLM RobertaForMultipleChoice RobertaForQuestionAnswering
        RobertaForSequenceClassification RobertaForTokenClassification RobertaModel
    """,
    "models.roformer": """
        RoFormerConfig RoFormerForMaskedLM RoFormerForMultipleChoice RoFormerForQuestionAnswering
        RoFormerForSequenceClassification RoFormerForTokenClassification RoFormerModel
    """,
    "models.roformer_tokenizer": "RoFormerTokenizer RoFormerTokenizerFast",
    "models.sentence_piece_tokenizers": """
        AlbertTokenizer AlbertTokenizerFast CamembertTokenizer CamembertTokenizerFast DebertaV2Tokenizer
        DebertaV2TokenizerFast PegasusTokenizer PegasusTokenizerFast T5Tokenizer T5TokenizerFast XLMRobertaTokenizer
        XLMRobertaTokenizerFast
    """,
    "models.smollm3": """
        SmolLM3Config SmolLM3ForCausalLM SmolLM3ForQuestionAnswering SmolLM3ForSequenceClassification
        SmolLM3ForTokenClassification SmolLM3Model
    """,
    "models.squeezebert": """
        SqueezeBertConfig SqueezeBertForMaskedLM SqueezeBertForMultipleChoice SqueezeBertForQuestionAnswering
        SqueezeBertForSequenceClassification SqueezeBertForTokenClassification SqueezeBertModel
    """,
    "models.t5": """
        T5Config T5EncoderModel T5ForConditionalGeneration T5ForQuestionAnswering T5ForSequenceClassification
        T5ForTokenClassification T5Model
    """,
    "models.translation_tokenizers": """
        MBart50Tokenizer MBart50TokenizerFast MBartTokenizer MBartTokenizerFast NllbTokenizer NllbTokenizerFast
    """,
    "models.umt5": """
        UMT5Config UMT5EncoderModel UMT5ForConditionalGeneration UMT5ForQuestionAnswering UMT5ForSequenceClassification
        UMT5ForTokenClassification UMT5Model
    """,
    "models.xlm_roberta": """
        XLMRobertaConfig XLMRobertaForMaskedLM XLMRobertaForMultipleChoice XLMRobertaForQuestionAnswering
        XLMRobertaForSequenceClassification XLMRobertaForTokenClassification XLMRobertaModel
    """,
    "pipelines": """
        FeatureExtractionPipeline FillMaskPipeline NerPipeline Pipeline QuestionAnsweringPipeline
        SentenceSimilarityPipeline TextClassificationPipeline TokenClassificationPipeline ZeroShotClassificationPipeline
        pipeline
    """,
    "runtime": "get_num_threads set_num_threads show_config",
    "schedules": "SchedulerType",
    "sentence_evaluation": "EmbeddingSimilarityEvaluator",
    "sentence_fit": "DataLoader InputExample",
    "sentence_losses": "ContrastiveLoss CosineSimilarityLoss MultipleNegativesRankingLoss SiameseDistanceMetric",
    "sentence_trainer": "SentenceTransformerTrainer SentenceTransformerTrainingArguments",
    "sentence_transformer": "SentenceTransformer",
    "tokenization_utils": "PreTrainedTokenizerFast",
    "trainer": "Trainer",
    "trainer_callback": "DefaultFlowCallback EarlyStoppingCallback TrainerCallback TrainerControl TrainerState",
    "trainer_reports": "PrinterCallback ProgressCallback",
    "trainer_utils": "EvalPrediction IntervalStrategy set_seed",
    "training_args": "TrainingArguments",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _NAMES)
