"""Tokenizers of translation models that put the code of a language beside a text, which they read from SentencePiece's
models or a `tokenizer.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._native import Tokenizer
from ..added_token import AddedToken
from ..batch_encoding import BatchEncoding
from ..errors import InputError
from ..sentence_piece_model import ArrangedPieces, SentencePieceModel
from ..tokenization_sections import metaspace, normalizers, precompiled, replace, template
from ..tokenization_utils import PreTrainedTokenizerBase
from ..tokenization_vocabulary import Merges, Vocab, VocabularyTokenizer, charsmap
from .sentence_piece_tokenizers import UnigramTokenizer, _scored

__all__ = ["MBart50Tokenizer", "MBartTokenizer", "NllbTokenizer"]

Special = str | AddedToken

_MBART = (
        "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP "
        "nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN"
).split()
_MBART_50 = [
    *_MBART,
    *(
        "af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE "
        "ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI"
    ).split(),
]
_NLLB = (
        "ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn amh_Ethi apc_Arab arb_Arab ars_Arab "
        "ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn ban_Latn bel_Cyrl "
        "bem_Latn ben_Beng bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn "
        "cjk_Latn ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek eng_Latn epo_Latn "
        "est_Latn eus_Latn ewe_Latn fao_Latn pes_Arab fij_Latn fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn gla_Latn "
        "gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva hne_Deva hrv_Latn hun_Latn hye_Armn "
        "ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn jpn_Jpan kab_Latn kac_Latn kam_Latn kan_Knda kas_Arab "
        "kas_Deva kat_Geor knc_Arab knc_Latn kaz_Cyrl kbp_Latn kea_Latn khm_Khmr kik_Latn kin_Latn kir_Cyrl kmb_Latn "
        "kon_Latn kor_Hang kmr_Latn lao_Laoo lvs_Latn lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn ltg_Latn ltz_Latn "
        "lua_Latn lug_Latn luo_Latn lus_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Latn mkd_Cyrl plt_Latn mlt_Latn "
        "mni_Beng khk_Cyrl mos_Latn mri_Latn zsm_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nso_Latn nus_Latn "
        "nya_Latn oci_Latn gaz_Latn ory_Orya pag_Latn pan_Guru pap_Latn pol_Latn por_Latn prs_Arab pbt_Arab quy_Latn "
        "ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Beng scn_Latn shn_Mymr sin_Sinh slk_Latn slv_Latn smo_Latn "
        "sna_Latn snd_Arab som_Latn sot_Latn spa_Latn als_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn swh_Latn "
        "szl_Latn tam_Taml tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi taq_Latn taq_Tfng tpi_Latn tsn_Latn "
        "tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab ukr_Cyrl umb_Latn urd_Arab uzn_Latn vec_Latn "
        "vie_Latn war_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zul_Latn"
).split()


class BesideALanguage(PreTrainedTokenizerBase):
    """The code of `src_lang` goes beside a text, that of `tgt_lang` beside what the model is to answer with (`text_target`),
    which is `src_lang` where it is not set."""

    prefix_tokens: list[int] = []
    suffix_tokens: list[int] = []
    tgt_lang: str | None
    _src_lang: str

    def _start(self, src_lang: str, tgt_lang: str | None) -> None:
        self.tgt_lang = tgt_lang
        self.src_lang = src_lang

    def _language_first(self) -> bool:
        """Whether it stands before the text, or behind </s>."""
        return True

    @property
    def src_lang(self) -> str:
        return self._src_lang

    @src_lang.setter
    def src_lang(self, new_src_lang: str) -> None:
        self.set_src_lang_special_tokens(new_src_lang)
        self._src_lang = new_src_lang

    def set_src_lang_special_tokens(self, src_lang: str) -> None:
        """Put the code of a language beside each text."""
        prefix, suffix = self._beside(src_lang)
        self.prefix_tokens, self.suffix_tokens = map(self.convert_tokens_to_ids, (prefix, suffix))
        self._set_template([*prefix, "$A", *suffix], [*prefix, "$A", "$B", *suffix])

    def set_tgt_lang_special_tokens(self, tgt_lang: str) -> None:
        """As `set_src_lang_special_tokens`: both kinds of text have it in the same place."""
        self.set_src_lang_special_tokens(tgt_lang)

    def _beside(self, language: str) -> tuple[list[str], list[str]]:
        if self._tokenizer.token_to_id(language) is None:
            raise InputError(f"language {language!r}: not a token of this tokenizer; {self._src_lang!r} is one")
        eos = str(self.eos_token)
        return ([language], [eos]) if self._language_first() else ([], [eos, language])

    def _backend(self, is_target: bool) -> Tokenizer:
        if not is_target:
            return self._tokenizer
        if self.tgt_lang is None:
            self.tgt_lang = self._src_lang
        prefix, suffix = self._beside(self.tgt_lang)
        around = template([*prefix, "$A", *suffix], [*prefix, "$A", "$B", *suffix], self.convert_tokens_to_ids)
        return self._tokenizer.with_post_processor(around)

    def _build_translation_inputs(
        self, raw_inputs: Any, src_lang: str | None = None, tgt_lang: str | None = None, **kwargs: Any
    ) -> BatchEncoding:
        """What `generate` takes: texts of one language, and the first token of the other."""
        if src_lang is None or tgt_lang is None:
            raise ValueError("Translation requires a `src_lang` and a `tgt_lang` for this model")
        self.src_lang = src_lang
        self._beside(tgt_lang)
        inputs = self(raw_inputs, add_special_tokens=True, **kwargs)
        inputs["forced_bos_token_id"] = self.convert_tokens_to_ids(tgt_lang)
        return inputs


class MBartTokenizer(BesideALanguage, UnigramTokenizer):
    """A </s> en_XX."""

    vocab_files_names = {"vocab_file": "sentencepiece.bpe.model", "tokenizer_file": "tokenizer.json"}

    def __init__(
        self,
        vocab: Vocab | None = None,
        bos_token: Special = "<s>",
        eos_token: Special = "</s>",
        sep_token: Special = "</s>",
        cls_token: Special = "<s>",
        unk_token: Special = "<unk>",
        pad_token: Special = "<pad>",
        mask_token: Special = "<mask>",
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        additional_special_tokens: Sequence[Special] | None = None,
        **kwargs: Any,
    ) -> None:
        first = [str(token) for token in (bos_token, pad_token, eos_token, unk_token)]
        super().__init__(
            _with_languages(vocab, first, _MBART, mask_token),
            {"unk_id": 3},
            normalizer=(),
            prepend_scheme="always",
            bos_token=bos_token,
            eos_token=eos_token,
            sep_token=sep_token,
            cls_token=cls_token,
            unk_token=unk_token,
            pad_token=pad_token,
            mask_token=_mask(mask_token),
            src_lang=src_lang,
            tgt_lang=tgt_lang,
            additional_special_tokens=[*_MBART, *(t for t in additional_special_tokens or () if str(t) not in _MBART)],
            **kwargs,
        )
        self.lang_code_to_id = {code: self.convert_tokens_to_ids(code) for code in _MBART}
        self._src_lang = "en_XX"
        self._start(src_lang or "en_XX", tgt_lang)

    def _language_first(self) -> bool:
        return False


class MBart50Tokenizer(BesideALanguage, UnigramTokenizer):
    """en_XX A </s>."""

    vocab_files_names = {"vocab_file": "sentencepiece.bpe.model", "tokenizer_file": "tokenizer.json"}

    def __init__(
        self,
        vocab: Vocab | None = None,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        eos_token: Special = "</s>",
        sep_token: Special = "</s>",
        cls_token: Special = "<s>",
        unk_token: Special = "<unk>",
        pad_token: Special = "<pad>",
        mask_token: Special = "<mask>",
        additional_special_tokens: Sequence[Special] | None = None,
        **kwargs: Any,
    ) -> None:
        first = [str(token) for token in (cls_token, pad_token, eos_token, unk_token)]
        super().__init__(
            _with_languages(vocab, first, _MBART_50, mask_token),
            {"unk_id": 3},
            normalizer=[*precompiled(charsmap(vocab)), replace(" {2,}", " ", regex=True)],
            words=None,
            prepend_scheme="always",
            src_lang=src_lang,
            tgt_lang=tgt_lang,
            eos_token=eos_token,
            sep_token=sep_token,
            cls_token=cls_token,
            unk_token=unk_token,
            pad_token=pad_token,
            mask_token=_mask(mask_token),
            additional_special_tokens=[*(additional_special_tokens or ()), *_MBART_50],
            **kwargs,
        )
        named = self.extra_special_tokens
        self._extra_special_tokens = [*self._extra_special_tokens, *(code for code in _MBART_50 if code not in named)]
        self.lang_code_to_id = {code: self.convert_tokens_to_ids(code) for code in _MBART_50}
        self.id_to_lang_code = {id: code for code, id in self.lang_code_to_id.items()}
        self._src_lang = "en_XX"
        self._start(src_lang or "en_XX", tgt_lang)


class NllbTokenizer(BesideALanguage, VocabularyTokenizer):
    """eng_Latn A </s>, or A </s> eng_Latn with `legacy_behaviour`."""

    vocab_files_names = {"vocab_file": "sentencepiece.bpe.model", "tokenizer_file": "tokenizer.json"}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self,
        vocab: Vocab | None = None,
        merges: Merges | None = None,
        bos_token: Special = "<s>",
        eos_token: Special = "</s>",
        sep_token: Special = "</s>",
        cls_token: Special = "<s>",
        unk_token: Special = "<unk>",
        pad_token: Special = "<pad>",
        mask_token: Special = "<mask>",
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        additional_special_tokens: Sequence[Special] | None = None,
        extra_special_tokens: Sequence[Special] | None = None,
        legacy_behaviour: bool = False,
        **kwargs: Any,
    ) -> None:
        self.legacy_behaviour = legacy_behaviour
        extra = additional_special_tokens if extra_special_tokens is None else extra_special_tokens
        first = [str(token) for token in (bos_token, pad_token, eos_token, unk_token)]
        pieces: Any = {token: id for id, token in enumerate(first)} if vocab is None else vocab
        if isinstance(vocab, SentencePieceModel):
            pieces = vocab.arranged(first, 3)
        map_of_characters = precompiled(charsmap(vocab))
        spaces = metaspace("always")
        super().__init__(
            pieces,
            {"type": "BPE", "unk_token": str(unk_token), "fuse_unk": True},
            {
                "normalizer": (
                    normalizers(*map_of_characters, replace(" {2,}", " ", regex=True)) if map_of_characters else None
                ),
                "pre_tokenizer": spaces,
                "decoder": spaces,
            },
            merges=merges,
            bos_token=bos_token,
            eos_token=eos_token,
            sep_token=sep_token,
            cls_token=cls_token,
            unk_token=unk_token,
            pad_token=pad_token,
            src_lang=src_lang,
            tgt_lang=tgt_lang,
            mask_token=_mask(mask_token),
            extra_special_tokens=_NLLB if extra is None else extra,
            legacy_behaviour=legacy_behaviour,
            **kwargs,
        )
        self._src_lang = "eng_Latn"
        self._start(src_lang or "eng_Latn", tgt_lang)

    def _language_first(self) -> bool:
        return not self.legacy_behaviour


def _with_languages(
    vocab: Vocab | None, first: list[str], languages: list[str], mask: Special
) -> Vocab | ArrangedPieces:
    """The pieces of a SentencePiece model behind the first four tokens, then the languages and the mask."""
    if vocab is None:
        return _scored([*first, ("▁", -2.0), *languages, mask])
    return vocab.arranged(first, 3, [*languages, str(mask)]) if isinstance(vocab, SentencePieceModel) else vocab


def _mask(token: Special) -> AddedToken:
    """It takes the space before it along."""
    return AddedToken(token, lstrip=True, special=True) if isinstance(token, str) else token


MBartTokenizerFast = MBartTokenizer
MBart50TokenizerFast = MBart50Tokenizer
NllbTokenizerFast = NllbTokenizer
