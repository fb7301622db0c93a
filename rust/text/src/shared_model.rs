//! Models behind an `Arc`: a tokenizer with one more added token shares its vocabulary with the old one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::wordpiece::WordPieceTrainer;
use tokenizers::{Model, ModelWrapper, Result, Token};

use crate::bpe_model::Bpe;
use crate::unigram_model::Unigram;
use crate::word_piece_model::WordPiece;

#[derive(Clone)]
pub(crate) struct SharedModel(Arc<AnyModel>);

enum AnyModel {
    WordPiece(WordPiece),
    Bpe(Bpe),
    Unigram(Unigram),
    /// The crate's own: words, and merges at random.
    Other(ModelWrapper),
}

/// The methods have the same names in all models.
macro_rules! with_model {
    ($shared:expr, $model:ident => $call:expr) => {
        match &*$shared.0 {
            AnyModel::WordPiece($model) => $call,
            AnyModel::Bpe($model) => $call,
            AnyModel::Unigram($model) => $call,
            AnyModel::Other($model) => $call,
        }
    };
}

impl SharedModel {
    pub(crate) fn kind(&self) -> &'static str {
        match &*self.0 {
            AnyModel::WordPiece(_) | AnyModel::Other(ModelWrapper::WordPiece(_)) => "WordPiece",
            AnyModel::Bpe(_) | AnyModel::Other(ModelWrapper::BPE(_)) => "BPE",
            AnyModel::Unigram(_) | AnyModel::Other(ModelWrapper::Unigram(_)) => "Unigram",
            AnyModel::Other(ModelWrapper::WordLevel(_)) => "WordLevel",
        }
    }
}

impl From<WordPiece> for SharedModel {
    fn from(model: WordPiece) -> Self {
        Self(Arc::new(AnyModel::WordPiece(model)))
    }
}

impl From<Bpe> for SharedModel {
    fn from(model: Bpe) -> Self {
        Self(Arc::new(AnyModel::Bpe(model)))
    }
}

impl From<Unigram> for SharedModel {
    fn from(model: Unigram) -> Self {
        Self(Arc::new(AnyModel::Unigram(model)))
    }
}

impl Model for SharedModel {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, sequence: &str) -> Result<Vec<Token>> {
        with_model!(self, model => model.tokenize(sequence))
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        with_model!(self, model => model.token_to_id(token))
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        with_model!(self, model => model.id_to_token(id))
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        with_model!(self, model => model.get_vocab())
    }

    fn get_vocab_size(&self) -> usize {
        with_model!(self, model => model.get_vocab_size())
    }

    fn save(&self, _: &Path, _: Option<&str>) -> Result<Vec<PathBuf>> {
        Err("models are written into tokenizer.json".into())
    }

    fn get_trainer(&self) -> TrainerWrapper {
        match &*self.0 {
            AnyModel::Other(model) => model.get_trainer(),
            _ => WordPieceTrainer::default().into(),
        }
    }
}

impl Serialize for SharedModel {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        with_model!(self, model => model.serialize(serializer))
    }
}

impl<'de> Deserialize<'de> for SharedModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?;
        read(json.get()).map(|model| Self(Arc::new(model))).map_err(D::Error::custom)
    }
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    /// Of BPE: the probability that a merge is left out.
    dropout: Option<f32>,
}

/// Looks for the type first: the crate reads the whole model into a tree of JSON values before it does.
fn read(json: &str) -> serde_json::Result<AnyModel> {
    let Kind { kind, dropout } = serde_json::from_str(json)?;
    Ok(match kind.as_deref() {
        Some("WordPiece") => AnyModel::WordPiece(serde_json::from_str(json)?),
        Some("BPE") if dropout.is_none_or(|dropout| dropout == 0.0) => {
            AnyModel::Bpe(Bpe::from_json(json, serde_json::from_str(json)?)?)
        }
        Some("BPE") => AnyModel::Other(ModelWrapper::BPE(serde_json::from_str(json)?)),
        Some("WordLevel") => AnyModel::Other(ModelWrapper::WordLevel(serde_json::from_str(json)?)),
        Some("Unigram") => AnyModel::Unigram(serde_json::from_str(json)?),
        // files of old versions name no type
        _ => AnyModel::Other(serde_json::from_str(json)?),
    })
}
