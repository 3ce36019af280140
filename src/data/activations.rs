//! Activations of any model, in files that its own framework has written.
//!
//! A folder holds `sites.json`, which says whose inputs the arrays are, and safetensors shards of arrays `[rows, width]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eva_rl_agents::adapter::site::{ModuleName, Site};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;
use serde_json::{Map, Value};
use tch::{Kind, Tensor};

use super::numbers::MappedFile;

/// The file that says whose inputs the arrays are.
const SITES: &str = "sites.json";

/// Rows of one array that are looked at together.
const PIECE: usize = 8192;

/// A folder of activations.
#[derive(Debug)]
pub struct Activations {
    /// The model that they are of, where the folder says.
    pub base: Option<String>,
    /// The modules, those that share an input in one group.
    pub sites: Vec<Site>,
    /// The array of each group's input.
    arrays: Vec<String>,
    shards: Vec<(PathBuf, MappedFile)>,
    /// What is looked at together, in order.
    pieces: Vec<Piece>,
}

/// Part `part`, from 0, of `of` equal parts of every array of a shard.
#[derive(Clone, Copy, Debug)]
struct Piece {
    shard: usize,
    part: usize,
    of: usize,
}

/// `sites.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    base_model: Option<String>,
    #[serde(default)]
    fan_in_fan_out: bool,
    /// [`TableSite`]s, in their order.
    sites: Map<String, Value>,
}

/// One module of `sites.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableSite {
    /// The array of its input; absent means the one of its own name.
    input: Option<String>,
    out_features: i64,
}

impl Activations {
    /// Looks at a folder's files; their rows are read when they are asked for.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let path = folder.join(SITES);
        let text =
            std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path:?}: {error}"))?;
        let table: Table = serde_json::from_str(&text).map_err(|error| format!("{path:?}: {error}"))?;
        let mut arrays: Vec<String> = Vec::new();
        let mut sites = Vec::new();
        for (name, value) in table.sites {
            let refuse = |what: String| format!("{path:?}: the site `{name}` {what}");
            let TableSite { input, out_features } = serde_json::from_value(value).map_err(|error| {
                refuse(format!("is not as expected, {{\"input\": ARRAY, \"out_features\": N}}: {error}"))
            })?;
            if out_features < 1 {
                return Err(refuse(format!("has out_features {out_features}, expected at least 1")));
            }
            let input = input.unwrap_or_else(|| name.clone());
            let group = arrays.iter().position(|array| *array == input).unwrap_or(arrays.len());
            if group == arrays.len() {
                arrays.push(input);
            }
            let linear = Site::linear(ModuleName::from(name.as_str()), [0, out_features]);
            sites.push(Site { fan_in_fan_out: table.fan_in_fan_out, input_group: group, ..linear });
        }
        if sites.is_empty() {
            return Err(format!("{path:?} names no sites, expected at least one"));
        }
        let mut found =
            Self { base: table.base_model, sites, arrays, shards: shards(folder)?, pieces: Vec::new() };
        found.measure(&path)?;
        Ok(found)
    }

    /// Checks every shard, learns the widths of the inputs, and divides the shards into pieces.
    fn measure(&mut self, path: &Path) -> Result<(), String> {
        let mut widths: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, (file, bytes)) in self.shards.iter().enumerate() {
            let shard = read(file, bytes)?;
            let mut rows = 0usize;
            for array in &self.arrays {
                let refuse = |what: String| Err(format!("{file:?}: the array `{array}` {what}"));
                let Ok(view) = shard.tensor(array) else {
                    return refuse(format!("is not there, expected one for every input in {SITES}"));
                };
                let [count, width] = *view.shape() else {
                    return refuse(format!("is of shape {:?}, expected [rows, width]", view.shape()));
                };
                let known = *widths.entry(array).or_insert(width);
                if width == 0 || width != known {
                    return refuse(format!("has rows of {width} numbers, expected {}", known.max(1)));
                }
                if kind(view.dtype()).is_none() {
                    return refuse(format!("holds {:?}, expected F32, F16, BF16 or F64", view.dtype()));
                }
                rows = rows.max(count);
            }
            let of = rows.div_ceil(PIECE);
            self.pieces.extend((0..of).map(|part| Piece { shard: number, part, of }));
        }
        if self.pieces.is_empty() {
            return Err(format!("the shards beside {path:?} hold no rows, expected at least one"));
        }
        for site in &mut self.sites {
            site.input = widths[self.arrays[site.input_group].as_str()] as i64;
        }
        Ok(())
    }

    /// Into how many pieces the rows are divided.
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// The rows of every group's input in a piece: f32 `[rows, width]` each, in the groups' order.
    pub fn piece(&self, number: usize) -> Result<Vec<Tensor>, String> {
        let Piece { shard, part, of } = self.pieces[number];
        let (path, bytes) = &self.shards[shard];
        let shard = read(path, bytes)?;
        let rows = |array: &String| {
            let view = shard.tensor(array).map_err(|error| format!("{path:?}: {error}"))?;
            Ok(part_of(&view, part, of))
        };
        self.arrays.iter().map(rows).collect()
    }
}

/// Part `part` of `of` of a matrix that has been checked: f32 `[rows, width]`.
fn part_of(view: &TensorView, part: usize, of: usize) -> Tensor {
    let (count, width) = (view.shape()[0], view.shape()[1]);
    let (from, to) = (count * part / of, count * (part + 1) / of);
    let kind = kind(view.dtype()).expect("it was checked");
    let row = width * kind.elt_size_in_bytes();
    let bytes = &view.data()[from * row..to * row];
    Tensor::from_data_size(bytes, &[(to - from) as i64, width as i64], kind).to_kind(Kind::Float)
}

/// The kind of numbers that rows may have.
fn kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F64 => Some(Kind::Double),
        _ => None,
    }
}

/// The safetensors files of a folder by name, mapped.
fn shards(folder: &Path) -> Result<Vec<(PathBuf, MappedFile)>, String> {
    let cannot = |path: &Path, error| format!("cannot read {path:?}: {error}");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| cannot(folder, error))? {
        let path = entry.map_err(|error| cannot(folder, error))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(format!(
            "{folder:?} has no shards, expected files that end in .safetensors beside {SITES}"
        ));
    }
    paths.sort();
    let map = |path: PathBuf| match MappedFile::open(&path) {
        Ok(bytes) => Ok((path, bytes)),
        Err(error) => Err(cannot(&path, error)),
    };
    paths.into_iter().map(map).collect()
}

fn read<'a>(path: &Path, file: &'a MappedFile) -> Result<SafeTensors<'a>, String> {
    SafeTensors::deserialize(file.bytes())
        .map_err(|error| format!("{path:?} is no whole safetensors file: {error}"))
}
