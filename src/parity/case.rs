//! One case: its arrays beside ours.

use std::fmt;
use std::path::{Path, PathBuf};

use eva_rl_agents::tensor::file::TensorFile;
use tch::{Kind, Tensor};

use crate::support::errors::{InputError, OrInput};

/// Arrays with greater numbers than this are compared in units of their greatest: float32 holds seven digits.
const LARGE: f64 = 1e3;

/// How far a number may be from the reference's.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Whatever the number.
    pub absolute: f64,
    /// For each of its units more.
    pub relative: f64,
}

/// The arrays of a case, and how far ours are from them.
pub struct Case {
    name: String,
    path: PathBuf,
    file: TensorFile,
    tolerance: Tolerance,
    /// The array that is farthest, and by how much; in units of what is allowed, where that depends on the number.
    worst: Option<(String, f64)>,
    /// Arrays of whole numbers that are not equal.
    unequal: Vec<String>,
    compared: Vec<String>,
}

impl Case {
    /// The case `name` of a folder.
    pub fn open(folder: &Path, name: &str, tolerance: Tolerance) -> anyhow::Result<Self> {
        let path = folder.join(format!("{name}.safetensors"));
        let file = TensorFile::open(&path).or_input()?;
        Ok(Self {
            name: name.to_owned(),
            path,
            file,
            tolerance,
            worst: None,
            unequal: Vec::new(),
            compared: Vec::new(),
        })
    }

    /// Whether it has an array of this name.
    pub fn holds(&self, name: &str) -> bool {
        self.file.shape(name).is_some()
    }

    /// One of its arrays, of the shape that the file gives it.
    pub fn array(&self, name: &str) -> anyhow::Result<Tensor> {
        match self.file.shape(name) {
            Some(_) => self.file.read(name).or_input(),
            None => Err(InputError(format!("{:?} lacks `{name}`", self.path)).into()),
        }
    }

    /// Compares `found`, of any shape, with the array `name`: equal where it holds whole numbers.
    pub fn compare(&mut self, name: &str, found: &Tensor) -> anyhow::Result<()> {
        let expected = self.array(name)?;
        self.compared.push(name.to_owned());
        if expected.size() != found.size() {
            let text = format!(
                "{:?} holds `{name}` with shape {:?}, and ours has {:?}",
                self.path,
                expected.size(),
                found.size()
            );
            return Err(InputError(text).into());
        }
        if !expected.is_floating_point() {
            let equal = found.to_kind(Kind::Int64) == expected.to_kind(Kind::Int64);
            if !equal {
                self.unequal.push(name.to_owned());
            }
            return Ok(());
        }
        let expected = expected.to_kind(Kind::Double);
        let allowed = expected.abs() * (self.tolerance.relative / self.tolerance.absolute) + 1.0;
        let greatest = expected.abs().max().double_value(&[]);
        let allowed = if greatest > LARGE { allowed.clamp_min(greatest) } else { allowed };
        let difference = ((found.to_kind(Kind::Double) - expected).abs() / allowed).max().double_value(&[]);
        // A difference that is no number is the worst of all.
        if self.worst.as_ref().is_none_or(|(_, worst)| difference > *worst || difference.is_nan()) {
            self.worst = Some((name.to_owned(), difference));
        }
        Ok(())
    }

    /// Refuses arrays of the reference's that nothing of ours was compared with; those named `in.…` are inputs.
    pub fn finish(self) -> anyhow::Result<Self> {
        let missed = self
            .file
            .names()
            .find(|name| !name.starts_with("in.") && !self.compared.iter().any(|compared| compared == name));
        match missed {
            None => Ok(self),
            Some(name) => {
                Err(InputError(format!("{:?} holds `{name}`, which is not known", self.path)).into())
            }
        }
    }

    /// Whether all arrays are within the tolerance.
    pub fn passes(&self) -> bool {
        self.unequal.is_empty()
            && self.worst.as_ref().is_none_or(|(_, worst)| *worst <= self.tolerance.absolute)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} arrays", self.name, self.compared.len())?;
        if let Some((name, worst)) = &self.worst {
            write!(f, ", worst difference {worst:.1e} in {name}, tolerance {:.0e}", self.tolerance.absolute)?;
            if self.tolerance.relative > 0.0 {
                write!(f, ", and {:.0e} of the number", self.tolerance.relative)?;
            }
        }
        if !self.unequal.is_empty() {
            write!(f, ", not equal: {}", self.unequal.join(", "))?;
        }
        Ok(())
    }
}
