//! Files of `torch.save`, by torch 2.15 (`tests/data/torch_files`) and by hand: what torch wrote is what is read, nothing else is
//! run, and no damage does more than an error.

mod common {
    pub(crate) mod folder;
}

use std::path::Path;

use common::folder::Folder;
use ferroformer_model::Checkpoint;
use proptest::prelude::*;

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/torch_files");
/// The pickles of the magic number, of the version, and of the writer's properties.
const HEAD: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";

fn recorded(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(RECORDED).join(name)).unwrap()
}

/// Name, shape and values.
type Read = (String, Vec<usize>, Vec<f32>);

/// Writes, opens and reads all of a file: its tensors by name, or what is wrong.
fn read(folder: &Folder, bytes: &[u8]) -> Result<Vec<Read>, String> {
    let path = folder.0.join("pytorch_model.bin");
    std::fs::write(&path, bytes).unwrap();
    let checkpoint = Checkpoint::open(&[path], None).map_err(|e| e.to_string())?;
    let floats = checkpoint.names().map(|name| (name, checkpoint.tensor(name).unwrap()));
    let floats = floats.filter(|(_, tensor)| {
        tensor.dtype().contains('F')
            && tensor.shape().iter().fold(1, |n: usize, size| n.saturating_mul(*size)) < 1 << 20
    });
    floats
        .map(|(name, tensor)| Ok((name.to_owned(), tensor.shape().to_vec(), tensor.values()?)))
        .collect::<ferroformer_model::Result<_>>()
        .map_err(|e| e.to_string())
}

/// A file of the old format: a pickle, and storages of f32 by key.
fn old(pickle: &[u8], storages: &[(&str, &[f32])]) -> Vec<u8> {
    let mut file = [HEAD, b"\x80\x02", pickle, b"\x80\x02]("].concat();
    storages.iter().for_each(|(key, _)| file.extend(text(key)));
    file.extend(b"e.");
    for (_, values) in storages {
        file.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    }
    file
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn int(n: i64) -> Vec<u8> {
    [b"\x8a\x08", &n.to_le_bytes()[..]].concat()
}

fn ints(ns: &[i64]) -> Vec<u8> {
    [b"(".to_vec(), ns.iter().flat_map(|n| int(*n)).collect(), b"t".to_vec()].concat()
}

/// A tensor of storage "7" with so many elements.
fn tensor(numel: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let storage =
        [text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text("7"), text("cpu"), int(numel), b"N".to_vec()];
    let storage = [b"(".to_vec(), storage.concat(), b"tQ".to_vec()].concat();
    let hooks = b"\x89ccollections\nOrderedDict\n)R".to_vec();
    let arguments = [storage, int(offset), ints(shape), ints(strides), hooks].concat();
    [b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(), arguments, b"tR".to_vec()].concat()
}

fn dict_of(value: &[u8]) -> Vec<u8> {
    [b"}", &text("a")[..], value, b"s."].concat()
}

#[test]
fn both_formats_hold_the_same() {
    let folder = Folder::new("torch-both");
    let tensors = read(&folder, &recorded("zip.bin")).unwrap();
    assert_eq!(tensors, read(&folder, &recorded("legacy.bin")).unwrap());
    assert_eq!(tensors.len(), 12);
    let get = |name: &str| tensors.iter().find(|(found, ..)| found == name).unwrap();
    let (_, shape, whole) = get("shared.whole");
    let (_, turned_shape, turned) = get("shared.transposed");
    assert_eq!((&shape[..], &turned_shape[..]), (&[6, 5][..], &[5, 6][..]));
    for (i, value) in turned.iter().enumerate() {
        assert_eq!(*value, whole[i % 6 * 5 + i / 6]);
    }
    assert_eq!(get("shared.rows").2, whole[10..25]);
    assert_eq!(get("expanded").2, [1.5, 1.5, 1.5, 2.5, 2.5, 2.5]);
    assert_eq!(get("scalar").2, [0.25]);
}

#[test]
fn views_are_gathered_from_afar() {
    let folder = Folder::new("torch-views");
    let (rows, cols) = (700, 300);
    let values: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
    let pickle = dict_of(&tensor(values.len() as i64, 0, &[cols as i64, rows as i64], &[1, cols as i64]));
    let tensors = read(&folder, &old(&pickle, &[("7", &values)])).unwrap();
    let expected: Vec<f32> = (0..rows * cols).map(|i| (i % rows * cols + i / rows) as f32).collect();
    assert_eq!(tensors, [("a".to_owned(), vec![cols, rows], expected)]);
}

#[test]
fn nothing_but_tensors_is_read() {
    let folder = Folder::new("torch-refused");
    let good = tensor(6, 0, &[2, 3], &[3, 1]);
    let run = |function: &str| [format!("c{function}\n(").as_bytes(), &text("id"), b"tR"].concat();
    let deep = [b")".to_vec(), vec![0x85; 1 << 20]].concat();
    let cases = [
        (dict_of(&run("posix\nsystem")), "it holds posix.system, which is not a plain tensor"),
        (dict_of(&run("__builtin__\neval")), "it holds __builtin__.eval, which is not a plain tensor"),
        (dict_of(b"ctorch._utils\n_rebuild_qtensor\n"), "it holds torch._utils._rebuild_qtensor, which"),
        (dict_of(b"ctorch\nQInt8Storage\n"), "it holds torch.QInt8Storage, which"),
        (dict_of(b"ctorch.storage\nFloatStorage\n"), "it holds torch.storage.FloatStorage, which"),
        (b"X\x05\0\0\0posixX\x06\0\0\0system\x93.".to_vec(), "opcode 0x93"),
        (b"(iposix\nsystem\n.".to_vec(), "opcode 0x69"),
        (b"ccollections\nOrderedDict\n)\x81.".to_vec(), "opcode 0x81"),
        (b"\x82\x01.".to_vec(), "opcode 0x82"),
        (b"\x80\x04}.".to_vec(), "protocol 4"),
        ([&good[..], b"."].concat(), "it holds a tensor; expected a dict of tensors by name"),
        (dict_of(b"K\x01"), "its \"a\" is an int, which is not a tensor"),
        (dict_of(&[b"}", &text("b")[..], &good, b"s"].concat()), "its \"a\" is a dict, which is not a tensor"),
        ([b"}K\x01", &good[..], b"s."].concat(), "one is an int"),
        (dict_of(&[b"(", &text("module")[..], b"NtQ"].concat()), "it holds a module, which is not read"),
        (dict_of(&[b"(", &text("storage")[..], b"NtQ"].concat()), "a persistent id that is no storage"),
        (dict_of(b"NQ"), "where a tuple should be"),
        (dict_of(b"NNR"), "where a tuple should be"),
        (dict_of(b"N)R"), "calls None, a bool or a float"),
        (dict_of(b"ctorch\nFloatStorage\n)R"), "calls a function with arguments"),
        (dict_of(b"ctorch._utils\n_rebuild_tensor_v2\n)R"), "should have a storage, an offset"),
        (dict_of(b"ctorch._utils\n_rebuild_parameter\nN\x85R"), "calls a function with arguments"),
        (dict_of(&[&good[..], b"}b"].concat()), "sets attributes of a tensor"),
        (dict_of(&deep), "its \"a\" is a tuple"),
        (b"h\x05.".to_vec(), "asks for value 5"),
        (b"t.".to_vec(), "a mark that is not there"),
        (b"}(Nu.".to_vec(), "a key without a value"),
        (b"N(NNu.".to_vec(), "what is no dict"),
        (b"NNa.".to_vec(), "appends to None"),
        (b"a.".to_vec(), "more from its stack"),
        (b"s.".to_vec(), "more from its stack"),
        (b"\x87.".to_vec(), "more from its stack"),
        (b"q\0.".to_vec(), "more from its stack"),
        (b".".to_vec(), "empty stack"),
        (b"X\xff\xff\xff\xffa.".to_vec(), "cut short"),
        (b"X\x01\0\0\0\xff.".to_vec(), "not UTF-8"),
        ([b"\x8a\xff".to_vec(), vec![0; 255], b".".to_vec()].concat(), "an int of more than 8 bytes"),
        (vec![b'N'; (1 << 22) + 1], "more than 4194304 opcodes"),
    ];
    for (pickle, expected) in cases {
        let message = read(&folder, &old(&pickle, &[("7", &[0.0; 6])])).unwrap_err();
        assert!(message.contains(expected) && message.contains("pytorch_model.bin"), "{expected:?}: {message}");
    }
}

#[test]
fn tensors_lie_inside_their_storages() {
    let folder = Folder::new("torch-inside");
    let huge = i64::MAX;
    let cases = [
        (tensor(6, 1, &[2, 3], &[3, 1]), "outside of its 6 elements"),
        (tensor(6, 0, &[2, 3], &[4, 1]), "outside of its 6 elements"),
        (tensor(6, 7, &[0], &[1]), "outside of its 6 elements"),
        (tensor(6, 6, &[], &[]), "outside of its 6 elements"),
        (tensor(6, 0, &[huge, huge, huge], &[0, 0, 0]), "outside of its 6 elements"),
        (tensor(6, 0, &[2], &[huge]), "outside of its 6 elements"),
        (tensor(6, huge, &[huge], &[huge]), "outside of its 6 elements"),
        (tensor(6, -1, &[2], &[1]), "has -1 where a size should be"),
        (tensor(6, 0, &[-2], &[1]), "has -2 where a size should be"),
        (tensor(6, 5, &[2], &[-1]), "has -1 where a size should be"),
        (tensor(6, 0, &[2, 3], &[1]), "has 2 axes and 1 strides"),
        (tensor(7, 0, &[7], &[1]), "has 6 elements; 7 are expected"),
        (tensor(huge, 0, &[7], &[1]), "has 6 elements; 9223372036854775807 are expected"),
    ];
    for (pickle, expected) in cases {
        let message = read(&folder, &old(&dict_of(&pickle), &[("7", &[0.0; 6])])).unwrap_err();
        assert!(message.contains(expected), "{expected:?}: {message}");
    }
    let pickle = dict_of(&tensor(6, 0, &[6], &[1]));
    for (storages, expected) in [(&[][..], "is missing"), (&[("8", &[0.0; 6][..])], "of no tensor")] {
        let message = read(&folder, &old(&pickle, storages)).unwrap_err();
        assert!(message.contains(expected), "{expected:?}: {message}");
    }
    let mut cut = old(&pickle, &[("7", &[0.0; 6])]);
    cut.pop();
    assert!(read(&folder, &cut).unwrap_err().contains("incomplete download"));
}

#[test]
fn storages_that_are_views_of_others() {
    let folder = Folder::new("torch-storage-views");
    let view = |offset, size| [b"(".to_vec(), text("8"), int(offset), int(size), b"t".to_vec()].concat();
    let tensor = |view: &[u8]| {
        let names = [text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text("7"), text("cpu"), int(6)].concat();
        let storage = [b"(", &names[..], view, b"tQ"].concat();
        let arguments = [storage, int(1), ints(&[2]), ints(&[1])].concat();
        dict_of(&[b"ctorch._utils\n_rebuild_tensor\n(", &arguments[..], b"tR"].concat())
    };
    let read = |view: &[u8]| read(&folder, &old(&tensor(view), &[("7", &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])]));
    assert_eq!(read(&view(2, 3)).unwrap()[0].2, [3.0, 4.0]);
    assert!(read(&view(2, 2)).unwrap_err().contains("outside of its 2 elements"));
    assert!(read(&view(4, 3)).unwrap_err().contains("a view of storage \"7\" lies outside of it"));
    assert!(read(&view(i64::MAX, i64::MAX)).unwrap_err().contains("lies outside of it"));
    assert!(read(&ints(&[1, 2])).unwrap_err().contains("a key, an offset and a size"));
}

#[test]
fn a_long_pickle_of_the_old_format_is_read_to_its_end() {
    let folder = Folder::new("torch-long");
    let one = |i: usize| [text(&format!("layer.{i}")), tensor(6, 0, &[2, 3], &[3, 1])].concat();
    let items: Vec<u8> = (0..3000).flat_map(one).collect();
    let pickle = [b"}(", &items[..], b"u."].concat();
    assert!(pickle.len() > 1 << 18);
    let tensors = read(&folder, &old(&pickle, &[("7", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])])).unwrap();
    assert_eq!(tensors.len(), 3000);
    assert!(tensors.iter().all(|(_, _, values)| values == &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
}

#[test]
fn what_is_no_torch_file_says_what_it_is() {
    let folder = Folder::new("torch-none");
    let zip = recorded("zip.bin");
    let cases = [
        (vec![], "neither a zip archive nor a file of an older torch"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "git lfs pull"),
        (b"<!DOCTYPE html><html></html>".to_vec(), "web page"),
        (b"\x80\x02}q\0.".to_vec(), "looks like a pickle"),
        (zip[..zip.len() - 1].to_vec(), "incomplete download"),
        (zip[..2000].to_vec(), "incomplete download"),
        (zip[..4].to_vec(), "incomplete download"),
        (recorded("legacy.bin")[..300].to_vec(), "incomplete download"),
    ];
    for (bytes, expected) in cases {
        let message = read(&folder, &bytes).unwrap_err();
        assert!(message.contains(expected), "{expected:?}: {message}");
    }
}

/// A change of a file.
#[derive(Clone, Debug)]
enum Damage {
    Byte(usize, u8),
    Word(usize, u32),
    Cut(usize),
    Remove(usize, usize),
    Repeat(usize, usize),
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let places = || 0..5000_usize;
        let word = prop_oneof![any::<u32>(), Just(u32::MAX), Just(0), 0..300_u32];
        prop_oneof![
            8 => (places(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
            4 => (places(), word).prop_map(|(at, word)| Damage::Word(at, word)),
            1 => places().prop_map(Damage::Cut),
            1 => (places(), 1..20_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
            1 => (places(), 1..200_usize).prop_map(|(at, count)| Damage::Repeat(at, count)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len().max(1);
        let span = |at: usize, count: usize| at % len..(at % len + count).min(len);
        match *self {
            _ if bytes.is_empty() => {}
            Damage::Byte(at, byte) => bytes[at % len] = byte,
            Damage::Word(at, word) => {
                let span = span(at, 4);
                let size = span.len();
                bytes[span].copy_from_slice(&word.to_le_bytes()[..size]);
            }
            Damage::Cut(at) => bytes.truncate(at % len),
            Damage::Remove(at, count) => drop(bytes.drain(span(at, count))),
            Damage::Repeat(at, count) => {
                let again = bytes[span(at, count)].to_vec();
                bytes.splice(at % len..at % len, again);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_an_error_or_harmless(
        zip: bool,
        damages in prop::collection::vec(Damage::any(), 1..4),
    ) {
        thread_local!(static FOLDER: Folder = Folder::new("torch-damage"));
        let mut bytes = recorded(if zip { "zip.bin" } else { "legacy.bin" });
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        FOLDER.with(|folder| {
            if let Err(message) = read(folder, &bytes) {
                assert!(message.contains("pytorch_model.bin"), "{message}");
            }
        });
    }
}
