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

use crate::word_piece_model::WordPiece;

#[derive(Clone)]
pub(crate) struct SharedModel(Arc<AnyModel>);

enum AnyModel {
    WordPiece(WordPiece),
    /// The crate's own.
    Other(ModelWrapper),
}

impl SharedModel {
    pub(crate) fn kind(&self) -> &'static str {
        match &*self.0 {
            AnyModel::WordPiece(_) | AnyModel::Other(ModelWrapper::WordPiece(_)) => "WordPiece",
            AnyModel::Other(ModelWrapper::BPE(_)) => "BPE",
            AnyModel::Other(ModelWrapper::WordLevel(_)) => "WordLevel",
            AnyModel::Other(ModelWrapper::Unigram(_)) => "Unigram",
        }
    }
}

impl From<WordPiece> for SharedModel {
    fn from(model: WordPiece) -> Self {
        Self(Arc::new(AnyModel::WordPiece(model)))
    }
}

impl From<ModelWrapper> for SharedModel {
    fn from(model: ModelWrapper) -> Self {
        Self(Arc::new(AnyModel::Other(model)))
    }
}

impl Model for SharedModel {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, sequence: &str) -> Result<Vec<Token>> {
        match &*self.0 {
            AnyModel::WordPiece(model) => model.tokenize(sequence),
            AnyModel::Other(model) => model.tokenize(sequence),
        }
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match &*self.0 {
            AnyModel::WordPiece(model) => model.tokens().id(token),
            AnyModel::Other(model) => model.token_to_id(token),
        }
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        match &*self.0 {
            AnyModel::WordPiece(model) => model.tokens().token(id).map(str::to_owned),
            AnyModel::Other(model) => model.id_to_token(id),
        }
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        match &*self.0 {
            AnyModel::WordPiece(model) => model.tokens().to_map(),
            AnyModel::Other(model) => model.get_vocab(),
        }
    }

    fn get_vocab_size(&self) -> usize {
        match &*self.0 {
            AnyModel::WordPiece(model) => model.tokens().len(),
            AnyModel::Other(model) => model.get_vocab_size(),
        }
    }

    fn save(&self, _: &Path, _: Option<&str>) -> Result<Vec<PathBuf>> {
        Err("models are written into tokenizer.json".into())
    }

    fn get_trainer(&self) -> TrainerWrapper {
        match &*self.0 {
            AnyModel::WordPiece(_) => WordPieceTrainer::default().into(),
            AnyModel::Other(model) => model.get_trainer(),
        }
    }
}

impl Serialize for SharedModel {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match &*self.0 {
            AnyModel::WordPiece(model) => model.serialize(serializer),
            AnyModel::Other(model) => model.serialize(serializer),
        }
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
}

/// Looks for the type first: the crate reads the whole model into a tree of JSON values before it does.
fn read(json: &str) -> serde_json::Result<AnyModel> {
    Ok(AnyModel::Other(match serde_json::from_str::<Kind<'_>>(json)?.kind.as_deref() {
        Some("WordPiece") => return serde_json::from_str(json).map(AnyModel::WordPiece),
        Some("BPE") => ModelWrapper::BPE(serde_json::from_str(json)?),
        Some("WordLevel") => ModelWrapper::WordLevel(serde_json::from_str(json)?),
        Some("Unigram") => ModelWrapper::Unigram(serde_json::from_str(json)?),
        // files of old versions name no type
        _ => serde_json::from_str(json)?,
    }))
}
