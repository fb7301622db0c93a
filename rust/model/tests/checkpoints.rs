//! Files as they should be, and as they should not be: each bad one is an error that says what is wrong.

mod common {
    pub(crate) mod folder;
}

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use common::folder::Folder;
use ferroformer_kernels::Level;
use ferroformer_model::{Blueprint, Checkpoint, Encoder, Precision, Slot, Source};
use half::{bf16, f16};

const BLUEPRINT: &str = r#"{
    "hidden_size": 6, "num_layers": 1,
    "embeddings": {"vocab_size": 11, "positions": 9, "token_types": 2, "norm": {"eps": 1e-12}},
    "attention": {"heads": 2, "head_dim": 3},
    "feed_forward": {"size": 5, "activation": "relu"},
    "norm": {"kind": "layer_norm", "eps": 1e-12, "placement": "post"},
    "pooler": null
}"#;

fn write(folder: &Folder, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.0.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// A whole checkpoint in one file: value i of a tensor is i / 8, which every dtype holds exactly.
fn whole(slots: &[Slot], dtype: &str, encode: fn(f32) -> Vec<u8>) -> Vec<u8> {
    let (mut entries, mut data) = (vec![], vec![]);
    for slot in slots {
        let start = data.len();
        (0..slot.shape.iter().product()).for_each(|i: usize| data.extend(encode(i as f32 / 8.0)));
        let (name, shape, end) = (&slot.name, &slot.shape, data.len());
        entries.push(format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#));
    }
    file(&format!("{{{}}}", entries.join(",")), &data)
}

fn slots() -> Vec<Slot> {
    Encoder::slots(&Blueprint::from_json(BLUEPRINT).unwrap()).unwrap()
}

fn load(path: &Path) -> Result<Encoder, String> {
    let checkpoint = Checkpoint::open(&[path.to_owned()], None).map_err(|e| e.to_string())?;
    let names: HashMap<_, _> = slots().into_iter().map(|slot| (slot.name.clone(), slot.name)).collect();
    let source = Source {
        checkpoint: Some(&checkpoint),
        tensor_names: &names,
        initializer_range: 0.02,
        spreads: &HashMap::new(),
        seed: 0,
    };
    Encoder::load(Blueprint::from_json(BLUEPRINT).unwrap(), Level::best(), Precision::Float32, &source, 2)
        .map_err(|e| e.to_string())
}

#[test]
fn every_dtype_and_slot_comes_back_as_stored() {
    let folder = Folder::new("dtypes");
    type Encode = fn(f32) -> Vec<u8>;
    let dtypes: [(&str, Encode); 4] = [
        ("F32", |x| x.to_le_bytes().into()),
        ("F16", |x| f16::from_f32(x).to_le_bytes().into()),
        ("BF16", |x| bf16::from_f32(x).to_le_bytes().into()),
        ("F64", |x| f64::from(x).to_le_bytes().into()),
    ];
    for (dtype, encode) in dtypes {
        let encoder = load(&write(&folder, "model.safetensors", &whole(&slots(), dtype, encode))).unwrap();
        for slot in slots() {
            let (shape, values) = encoder.tensor(&slot.name).unwrap();
            let expected: Vec<_> = (0..values.len()).map(|i| i as f32 / 8.0).collect();
            assert_eq!((shape, values), (slot.shape, expected), "{dtype} {}", slot.name);
        }
    }
}

#[test]
fn what_is_saved_loads_the_same_and_leaves_nothing_beside() {
    let folder = Folder::new("saved");
    let first =
        load(&write(&folder, "a.safetensors", &whole(&slots(), "F32", |x| (x - 3.0).to_le_bytes().into()))).unwrap();
    let names = slots().into_iter().map(|slot| (slot.name.clone(), slot.name)).collect();
    let path = folder.0.join("b.safetensors");
    first.save(&path, &names).unwrap();
    let second = load(&path).unwrap();
    for slot in slots() {
        assert_eq!(first.tensor(&slot.name).unwrap(), second.tensor(&slot.name).unwrap());
    }
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 2);
    assert!(first.save(&folder.0.join("missing/c.safetensors"), &names).is_err());
}

#[test]
fn damaged_files_say_what_is_wrong() {
    let folder = Folder::new("damaged");
    let good = whole(&slots(), "F32", |x| x.to_le_bytes().into());
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "0 bytes are too few"),
        (vec![1, 2, 3], "3 bytes are too few"),
        (good[..200].to_vec(), "incomplete download"),
        (good[..good.len() - 1].to_vec(), "incomplete download"),
        ([&good[..], &[0]].concat(), "the file holds"),
        (file("", &[]), "not valid safetensors JSON"),
        (file("[]", &[]), "not valid safetensors JSON"),
        (file(&"[".repeat(100_000), &[]), "not valid safetensors JSON"),
        (file("\u{0}{}", &[]), "not valid safetensors JSON"),
        ([u64::MAX.to_le_bytes().to_vec(), vec![0; 50]].concat(), "incomplete download"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "git lfs pull"),
        (b"PK\x03\x04 and so on, a zip".to_vec(), "zip archive"),
        (b"<!DOCTYPE html><html></html>".to_vec(), "web page"),
        (file(&tensor("F32", "[2]", "[0,4]"), &[0; 4]), "not valid safetensors JSON"),
        (file(&tensor("F32", "[1]", "[4,8]"), &[0; 8]), "not valid safetensors JSON"),
        (file(&tensor("F32", "[1]", "[4,0]"), &[0; 4]), "not valid safetensors JSON"),
        (file(&tensor("F32", "[-1]", "[0,4]"), &[0; 4]), "not valid safetensors JSON"),
        (file(&tensor("F128", "[1]", "[0,4]"), &[0; 4]), "not valid safetensors JSON"),
        (file(&tensor("F32", "[4294967296,4294967296,4]", "[0,4]"), &[0; 4]), "not valid safetensors JSON"),
        (file(&tensor("F32", "[1099511627776]", "[0,4398046511104]"), &[0; 4]), "the file holds 4"),
    ];
    for (bytes, expected) in cases {
        let path = write(&folder, "model.safetensors", &bytes);
        let message = load(&path).err().unwrap_or_else(|| panic!("no error where {expected:?} was expected"));
        assert!(message.contains(expected) && message.contains("model.safetensors"), "{expected:?}: {message}");
    }
}

#[test]
fn overlapping_tensors_are_refused() {
    let folder = Folder::new("overlap");
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    assert!(load(&write(&folder, "model.safetensors", &file(header, &[0; 12]))).is_err());
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let folder = Folder::new("misfits");
    let changed = |change: fn(&mut Slot)| {
        let mut slots = slots();
        change(&mut slots[0]);
        whole(&slots, "F32", |x| x.to_le_bytes().into())
    };
    let cases = [
        (changed(|slot| slot.shape[0] = 12), "[12, 6]"),
        (changed(|slot| slot.shape.reverse()), "expects [11, 6]"),
        (changed(|slot| slot.name = "other".to_owned()), "no tensor \"embeddings.word.weight\""),
        (whole(&slots(), "I32", |x| (x as i32).to_le_bytes().into()), "dtype I32"),
    ];
    for (bytes, expected) in cases {
        let message = load(&write(&folder, "model.safetensors", &bytes)).err().unwrap();
        assert!(message.contains(expected) && message.contains("embeddings.word.weight"), "{message}");
    }
}

#[test]
fn shards_agree_with_their_index() {
    let folder = Folder::new("shards");
    let slots = slots();
    let (front, back) = slots.split_at(5);
    let encode: fn(f32) -> Vec<u8> = |x| x.to_le_bytes().into();
    let files = [
        write(&folder, "1.safetensors", &whole(front, "F32", encode)),
        write(&folder, "2.safetensors", &whole(back, "F32", encode)),
    ];
    let map = |flip: usize| {
        let at = |(i, slot): (usize, &Slot)| (slot.name.clone(), usize::from(i >= 5 && i != flip));
        slots.iter().enumerate().map(at).collect::<HashMap<_, _>>()
    };
    assert_eq!(Checkpoint::open(&files, Some(&map(0))).unwrap().names().count(), slots.len());
    let message = Checkpoint::open(&files, Some(&map(7))).err().unwrap().to_string();
    assert!(message.contains("1.safetensors") && message.contains(&slots[7].name), "{message}");
    let twice = [files[0].clone(), files[0].clone()];
    assert!(Checkpoint::open(&twice, None).err().unwrap().to_string().contains("is also in"));
    let missing = [files[0].clone(), folder.0.join("3.safetensors")];
    assert!(Checkpoint::open(&missing, None).err().unwrap().to_string().contains("3.safetensors"));
    assert!(
        Checkpoint::open(std::slice::from_ref(&folder.0), None)
            .err()
            .unwrap()
            .to_string()
            .contains("not a regular file")
    );
}

#[test]
fn a_file_cut_short_after_it_was_opened_is_an_error() {
    let folder = Folder::new("shrunk");
    let bytes = whole(&slots(), "F32", |x| x.to_le_bytes().into());
    let path = write(&folder, "model.safetensors", &bytes);
    let checkpoint = Checkpoint::open(std::slice::from_ref(&path), None).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(bytes.len() as u64 / 2).unwrap();
    let names: HashMap<_, _> = slots().into_iter().map(|slot| (slot.name.clone(), slot.name)).collect();
    let source = Source {
        checkpoint: Some(&checkpoint),
        tensor_names: &names,
        initializer_range: 0.02,
        spreads: &HashMap::new(),
        seed: 0,
    };
    let message =
        Encoder::load(Blueprint::from_json(BLUEPRINT).unwrap(), Level::best(), Precision::Float32, &source, 2)
            .err()
            .unwrap()
            .to_string();
    assert!(message.contains("cut short"), "{message}");
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let load = |seed| {
        let source = Source {
            checkpoint: None,
            tensor_names: &HashMap::new(),
            initializer_range: 0.02,
            spreads: &HashMap::new(),
            seed,
        };
        Encoder::load(Blueprint::from_json(BLUEPRINT).unwrap(), Level::best(), Precision::Float32, &source, 2).unwrap()
    };
    let slot = "layers.0.feed_forward.up.weight";
    assert_eq!(load(3).tensor(slot).unwrap(), load(3).tensor(slot).unwrap());
    assert_ne!(load(3).tensor(slot).unwrap(), load(4).tensor(slot).unwrap());
    assert_eq!(load(3).tensor("embeddings.norm.weight").unwrap().1, [1.0; 6]);
}
