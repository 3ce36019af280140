//! Files that lie: each is refused in one sentence, or read within its own size (`tools/golden/hostile_files.py`).

use std::fs;

use eva_rl_agents::tensor::file::{TensorFile, state_dict};
use proptest::prelude::*;

use crate::support::golden;

#[test]
fn every_hostile_file_is_refused_in_one_sentence() {
    let mut seen = 0;
    for entry in fs::read_dir(golden("hostile")).unwrap() {
        let path = entry.unwrap().path();
        let refusal = TensorFile::open(&path).expect_err(&format!("{path:?} was read")).to_string();
        assert!(refusal.lines().count() == 1 && refusal.len() < 400, "{path:?}: {refusal}");
        assert!(refusal.contains(path.file_name().unwrap().to_str().unwrap()), "{refusal}");
        seen += 1;
    }
    assert!(seen > 30);
}

#[track_caller]
fn check_refusal(name: &str, words: &[&str]) {
    let refusal = TensorFile::open(&golden("hostile").join(name)).unwrap_err().to_string();
    for word in words {
        assert!(refusal.contains(word), "{refusal:?} lacks {word:?}");
    }
}

#[test]
fn a_refusal_says_what_was_found() {
    check_refusal("runs-a-command.bin", &["system", "which a state dict does not need"]);
    check_refusal("evaluates.bin", &["builtins.eval"]);
    check_refusal("outside.bin", &["[3]", "outside its storage of 4"]);
    check_refusal("short-storage.bin", &["8 bytes", "asks for 16"]);
    check_refusal("no-tensor.bin", &["`w`", "no tensor"]);
    check_refusal("old-torch.bin", &["since PyTorch 1.6"]);
    check_refusal("script.bin", &["TorchScript"]);
    check_refusal("float8.safetensors", &["`w`", "F8_E4M3"]);
}

/// Reads whatever can be read of a file with these bytes.
fn read_all(bytes: &[u8], end: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("file.{end}"));
    fs::write(&path, bytes).unwrap();
    let Ok(file) = TensorFile::open(&path) else { return };
    for name in file.names() {
        let shape = file.shape(name).unwrap();
        let bytes_claimed = shape.iter().map(|size| *size as usize).product::<usize>();
        assert!(bytes_claimed <= bytes.len(), "`{name}` of {shape:?} is larger than its file");
        let _ = file.read(name);
    }
}

/// A file that is read, and changes to it.
fn spoilt(name: &str) -> impl Strategy<Value = Vec<u8>> {
    let whole = fs::read(golden(name)).unwrap();
    let length = whole.len();
    let changes = prop::collection::vec((0..length, any::<u8>()), 0..6);
    (changes, length / 2..=length).prop_map(move |(changes, kept)| {
        let mut bytes = whole.clone();
        for (place, byte) in changes {
            bytes[place] = byte;
        }
        bytes.truncate(kept);
        bytes
    })
}

/// The pickle inside an archive that is read.
fn pickle() -> Vec<u8> {
    let mut archive =
        zip::ZipArchive::new(fs::File::open(golden("policies/pickle/pytorch_model.bin")).unwrap()).unwrap();
    let name = archive.file_names().flatten().find(|name| name.ends_with("data.pkl")).unwrap().into_owned();
    let mut bytes = Vec::new();
    std::io::copy(&mut archive.by_name(&name).unwrap(), &mut bytes).unwrap();
    bytes
}

/// Opcodes that the reader knows, with arguments that are often short or sound.
fn opcode() -> impl Strategy<Value = Vec<u8>> {
    let bare =
        prop::sample::select(b"()}]Ntsu.QRbh\x85\x86\x87\x88\x93\x94".to_vec()).prop_map(|byte| vec![byte]);
    let small = (prop::sample::select(b"Khq\x80".to_vec()), 0..6u8).prop_map(|(code, byte)| vec![code, byte]);
    let long = any::<i64>().prop_map(|int| [&[0x8a, 8][..], &int.to_le_bytes()].concat());
    let text = prop::sample::select(vec!["storage", "0", "cpu", "w"])
        .prop_map(|text| [&[0x8c, text.len() as u8][..], text.as_bytes()].concat());
    let name = prop::sample::select(vec![
        "ctorch._utils\n_rebuild_tensor_v2\n",
        "ctorch._utils\n_rebuild_parameter\n",
        "ctorch\nFloatStorage\n",
        "ccollections\nOrderedDict\n",
    ])
    .prop_map(|name| name.as_bytes().to_vec());
    prop_oneof![4 => bare, 2 => small, 1 => long, 2 => text, 2 => name]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_spoilt_archive_is_read_within_its_size_or_refused(bytes in spoilt("policies/pickle/pytorch_model.bin")) {
        read_all(&bytes, "bin");
    }

    #[test]
    fn a_spoilt_safetensors_file_is_read_within_its_size_or_refused(bytes in spoilt("policies/old/model.safetensors")) {
        read_all(&bytes, "safetensors");
    }

    #[test]
    fn a_spoilt_pickle_gives_tensors_inside_their_storages(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = pickle();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        check_pickle(&bytes);
    }

    #[test]
    fn any_run_of_opcodes_ends(opcodes in prop::collection::vec(opcode(), 0..60)) {
        check_pickle(&opcodes.concat());
    }

    #[test]
    fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_pickle(&bytes);
    }
}

/// Every tensor that a pickle gives lies inside its storage, whatever the pickle says.
fn check_pickle(bytes: &[u8]) {
    for stored in state_dict(bytes).unwrap_or_default().values() {
        let count: i64 = stored.shape.iter().product();
        let reach: i64 =
            stored.shape.iter().zip(&stored.strides).map(|(size, stride)| (size - 1) * stride).sum();
        assert!(stored.offset >= 0 && count <= stored.storage_len);
        assert!(count == 0 || stored.offset + reach < stored.storage_len, "{stored:?}");
    }
}
