//! The crate's models behind an `Arc`: a tokenizer with one more added token shares its vocabulary with the old one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use tokenizers::models::TrainerWrapper;
use tokenizers::{Model, ModelWrapper, Result, Token};

#[derive(Clone)]
pub(crate) struct SharedModel(Arc<ModelWrapper>);

impl SharedModel {
    pub(crate) fn new(model: impl Into<ModelWrapper>) -> Self {
        Self(Arc::new(model.into()))
    }

    pub(crate) fn kind(&self) -> &'static str {
        match *self.0 {
            ModelWrapper::BPE(_) => "BPE",
            ModelWrapper::WordPiece(_) => "WordPiece",
            ModelWrapper::WordLevel(_) => "WordLevel",
            ModelWrapper::Unigram(_) => "Unigram",
        }
    }
}

impl Model for SharedModel {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, sequence: &str) -> Result<Vec<Token>> {
        self.0.tokenize(sequence)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.id_to_token(id)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.0.get_vocab()
    }

    fn get_vocab_size(&self) -> usize {
        self.0.get_vocab_size()
    }

    fn save(&self, folder: &Path, prefix: Option<&str>) -> Result<Vec<PathBuf>> {
        self.0.save(folder, prefix)
    }

    fn get_trainer(&self) -> TrainerWrapper {
        self.0.get_trainer()
    }
}

impl Serialize for SharedModel {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?;
        read(json.get()).map(Self::new).map_err(D::Error::custom)
    }
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
}

/// Looks for the type first: the crate reads the whole model into a tree of JSON values before it does.
fn read(json: &str) -> serde_json::Result<ModelWrapper> {
    Ok(match serde_json::from_str::<Kind<'_>>(json)?.kind.as_deref() {
        Some("BPE") => ModelWrapper::BPE(serde_json::from_str(json)?),
        Some("WordPiece") => ModelWrapper::WordPiece(serde_json::from_str(json)?),
        Some("WordLevel") => ModelWrapper::WordLevel(serde_json::from_str(json)?),
        Some("Unigram") => ModelWrapper::Unigram(serde_json::from_str(json)?),
        // files of old versions name no type
        _ => serde_json::from_str(json)?,
    })
}
