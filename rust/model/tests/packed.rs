//! Packed files: the same bits as what was packed, and never anything else.

mod common {
    pub(crate) mod folder;
    pub(crate) mod model;
}
use std::path::{Path, PathBuf};

use common::folder::Folder;
use common::model::{BLUEPRINT, PRECISIONS, initial};
use ferroformer_kernels::Level;
use ferroformer_model::{Batch, Blueprint, Cancel, Encoder, ModelError, Precision, Want};

fn file(folder: &Folder) -> PathBuf {
    folder.0.join("model.packed.safetensors")
}

fn blueprint() -> Blueprint {
    Blueprint::from_json(BLUEPRINT).unwrap()
}

fn packed(level: Level, precision: Precision) -> Encoder {
    initial(BLUEPRINT, level, precision)
}

/// A good file of the best level in int8, and its bytes.
fn good(folder: &Folder) -> Vec<u8> {
    packed(Level::best(), Precision::Int8).save_packed(&file(folder)).unwrap();
    std::fs::read(file(folder)).unwrap()
}

fn map(path: &Path) -> Result<Encoder, ModelError> {
    Encoder::map(blueprint(), Level::best(), None, path, 2)
}

fn message(result: Result<Encoder, ModelError>) -> String {
    result.err().expect("an error").to_string()
}

fn forward(encoder: &Encoder) -> Result<Vec<u32>, ModelError> {
    let ids: Vec<i64> = (0..40).map(|i| i * 31 % 97).collect();
    let batch = Batch::from_ragged(&ids, None, &[1, 3, 16, 20], encoder.blueprint()).unwrap();
    let out = encoder.forward(2, &batch, Want::default(), &Cancel::new(&|| false))?;
    Ok(out.last_hidden_state.iter().chain(&out.pooled).flatten().map(|x| x.to_bits()).collect())
}

#[test]
fn a_mapped_model_has_the_same_bits_on_every_level_that_shares_the_layout() {
    let folder = Folder::new("packed-bits");
    for (level, precision) in Level::available().flat_map(|level| PRECISIONS.map(|precision| (level, precision))) {
        let own = packed(level, precision);
        own.save_packed(&file(&folder)).unwrap();
        for other in Level::available() {
            let mapped = Encoder::map(blueprint(), other, None, &file(&folder), 2);
            if precision.layout(level) != precision.layout(other) {
                assert!(message(mapped).contains("layout is \"panels"), "{level:?}, {other:?}, {precision:?}");
                continue;
            }
            let mapped = mapped.unwrap();
            assert_eq!((mapped.precision(), mapped.bytes()), (precision, own.bytes()));
            assert!(forward(&mapped).unwrap() == forward(&packed(other, precision)).unwrap(), "{level:?}, {other:?}");
            assert_eq!(mapped.tensor("pooler.weight").unwrap(), own.tensor("pooler.weight").unwrap());
        }
    }
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "nothing is left beside the file");
}

#[test]
fn every_tensor_starts_a_cache_line_of_a_sound_safetensors_file() {
    let folder = Folder::new("packed-lines");
    let bytes = good(&folder);
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!((8 + header) % 64, 0);
    assert!(metadata.tensors().values().all(|info| info.data_offsets.0 % 64 == 0));
    safetensors::SafeTensors::deserialize(&bytes).unwrap();
}

#[test]
fn a_mapped_model_can_be_saved_over_its_own_file() {
    let folder = Folder::new("packed-again");
    let bytes = good(&folder);
    let mapped = map(&file(&folder)).unwrap();
    let before = forward(&mapped).unwrap();
    mapped.save_packed(&file(&folder)).unwrap();
    assert_eq!(std::fs::read(file(&folder)).unwrap(), bytes);
    assert!(forward(&mapped).unwrap() == before, "the old pages stay");
}

#[test]
fn a_model_without_pooler_reads_a_file_with_one_and_not_the_other_way_round() {
    let folder = Folder::new("packed-pooler");
    let without = || Blueprint::from_json(&BLUEPRINT.replace(r#"{"activation": "tanh"}"#, "null")).unwrap();
    good(&folder);
    let mapped = Encoder::map(without(), Level::best(), None, &file(&folder), 1).unwrap();
    mapped.save_packed(&file(&folder)).unwrap();
    assert!(message(map(&file(&folder))).contains("no tensor \"pooler\""));
}

/// The same bytes with another text, of the same length, in the header.
fn edited(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).expect(from);
    let mut edited = bytes.to_vec();
    edited[at..at + to.len()].copy_from_slice(to.as_bytes());
    edited
}

#[test]
fn what_does_not_fit_is_named_with_what_was_found_and_expected() {
    let folder = Folder::new("packed-misfits");
    let bytes = good(&folder);
    let cases = [
        (r#""format":"ferroformer-packed""#, r#""format":"ferroformer-PACKED""#, "expected \"ferroformer-packed\""),
        (r#""layout_version":"1""#, r#""layout_version":"2""#, "layout_version is \"2\"; expected \"1\""),
        (r#""precision":"int8""#, r#""precision":"int9""#, "precision is \"int9\"; expected \"float32\""),
        ("columns, fours", "columns, fives", "layout is \"panels"),
        ("num_layers 2", "num_layers 3", "num_layers 3"),
        (r#""layout":"#, r#""lAyout":"#, "layout is missing"),
        (r#""checksum":"#, r#""cHecksum":"#, "the file is damaged"),
        (r#""layers.0.feed_forward.up""#, r#""layers.0.feed_forward.uq""#, "the file is damaged"),
        (r#""dtype":"U32""#, r#""dtype":"F32""#, "dtype is F32; expected U32"),
    ];
    for (from, to, expected) in cases {
        std::fs::write(file(&folder), edited(&bytes, from, to)).unwrap();
        let message = message(map(&file(&folder)));
        assert!(message.contains(expected) && message.contains("model.packed.safetensors"), "{to}: {message}");
    }
    std::fs::write(file(&folder), &bytes).unwrap();
    let asked = Encoder::map(blueprint(), Level::best(), Some(Precision::BFloat16), &file(&folder), 1);
    assert!(message(asked).contains("precision is \"int8\"; expected \"bfloat16\""));
}

#[test]
fn a_header_that_is_not_aligned_is_refused() {
    let folder = Folder::new("packed-unaligned");
    let bytes = good(&folder);
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let longer = [&(length as u64 + 4).to_le_bytes(), &bytes[8..8 + length], b"    ", &bytes[8 + length..]].concat();
    std::fs::write(file(&folder), longer).unwrap();
    assert!(message(map(&file(&folder))).contains("not at multiples of 64"));
}

#[test]
fn every_byte_of_the_weights_is_summed() {
    let folder = Folder::new("packed-flips");
    let bytes = good(&folder);
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for i in (data..bytes.len()).step_by(997) {
        let mut damaged = bytes.clone();
        damaged[i] ^= 1 << (i % 8);
        std::fs::write(file(&folder), damaged).unwrap();
        assert!(message(map(&file(&folder))).contains("checksum"), "byte {i}");
    }
}

#[test]
fn a_file_of_any_length_is_refused() {
    let folder = Folder::new("packed-cut");
    let bytes = good(&folder);
    for len in (0..200).chain((200..bytes.len()).step_by(4099)).chain([bytes.len() - 1]) {
        std::fs::write(file(&folder), &bytes[..len]).unwrap();
        assert!(matches!(map(&file(&folder)), Err(ModelError::Corrupt { .. })), "{len} bytes");
    }
    std::fs::write(file(&folder), [&bytes[..], &[0; 64]].concat()).unwrap();
    assert!(matches!(map(&file(&folder)), Err(ModelError::Corrupt { .. })));
}

/// Whatever a header says: an error, or a model with the bits that were saved.
#[test]
fn a_damaged_header_is_never_misread() {
    let folder = Folder::new("packed-header");
    let bytes = good(&folder);
    let expected = forward(&map(&file(&folder)).unwrap()).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..3000 {
        let mut damaged = bytes.clone();
        for _ in 0..=random(3) {
            damaged[random(header)] = match random(3) {
                0 => random(256) as u8,
                1 => b'0' + random(10) as u8,
                _ => b"[]{},:\" -"[random(9)],
            };
        }
        std::fs::write(file(&folder), damaged).unwrap();
        if let Ok(mapped) = map(&file(&folder)) {
            assert!(forward(&mapped).unwrap() == expected);
        }
    }
}

#[test]
fn a_file_that_changes_under_a_model_is_noticed() {
    let folder = Folder::new("packed-changes");
    let bytes = good(&folder);
    let (cut, written) = (map(&file(&folder)).unwrap(), map(&file(&folder)).unwrap());
    forward(&cut).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(file(&folder)).unwrap();
    file.set_len(bytes.len() as u64 / 2).unwrap();
    assert!(forward(&cut).unwrap_err().to_string().contains("was changed after the model was loaded"));
    file.set_len(bytes.len() as u64).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(5)).unwrap();
    assert!(matches!(forward(&written), Err(ModelError::Corrupt { .. })));
}

#[test]
fn a_file_that_is_replaced_under_a_model_leaves_it_as_it_was() {
    let folder = Folder::new("packed-replaced");
    good(&folder);
    let mapped = map(&file(&folder)).unwrap();
    let before = forward(&mapped).unwrap();
    packed(Level::best(), Precision::Float32).save_packed(&file(&folder)).unwrap();
    assert!(forward(&mapped).unwrap() == before);
    assert_eq!(map(&file(&folder)).unwrap().precision(), Precision::Float32);
}
