//! The modules that may get an adapter, as a policy's family describes them.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The name of a module in the files of its policy, such as `encoder.h.0.attn.c_attn`, which is PEFT's name too.
///
/// Names order as people read them, numbers by their value: `h.2` comes before `h.10`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModuleName(Arc<str>);

impl ModuleName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ModuleName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for ModuleName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for ModuleName {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        natural(&self.0, &other.0).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for ModuleName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares part by part between dots, parts that are numbers by their value and before words.
fn natural(a: &str, b: &str) -> Ordering {
    let key = |part: &str| part.parse::<u64>().map_err(|_| ());
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (key(a), key(b)) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(())) => Ordering::Less,
                (Err(()), Ok(_)) => Ordering::Greater,
                (Err(()), Err(())) => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// What a convolution reads at once: `[C, height, width]`.
pub type Kernel = [i64; 3];

/// A name of target modules that no module ends in.
#[derive(Debug, thiserror::Error)]
#[error(
    "`target_modules` names `{found}`, which ends no module that can be adapted, expected the end of one of {known}"
)]
pub struct UnknownModule {
    /// The name.
    pub found: String,
    /// The modules that can be adapted.
    pub known: String,
}

/// A linear module or a convolution of a policy: the place of at most one adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Its name.
    pub module: ModuleName,
    /// Width of its input; of a convolution, the numbers of a patch.
    pub input: i64,
    /// Width of its output.
    pub output: i64,
    /// Whether its weight is kept as `[in, out]`, as GPT-2's Conv1D keeps it.
    pub fan_in_fan_out: bool,
    /// The patch that a convolution reads, which is a linear map of every patch of an image; absent of a linear module.
    pub kernel: Option<Kernel>,
    /// Sites of one group are given the same input, as a query, a key and a value map are.
    pub input_group: usize,
    /// Whether it gets an adapter where the user names no target modules.
    pub adapted_by_default: bool,
}

impl Site {
    /// A linear module that gets no adapter unless it is named, in a group by itself until [`Site::group`].
    pub fn linear(module: impl Into<ModuleName>, [input, output]: [i64; 2]) -> Self {
        Self {
            module: module.into(),
            input,
            output,
            fan_in_fan_out: false,
            kernel: None,
            input_group: 0,
            adapted_by_default: false,
        }
    }

    /// Those of `sites` whose names are one of `ends`, or end in one after a dot.
    pub fn ending<'a>(
        sites: impl IntoIterator<Item = &'a Self>,
        ends: &[String],
    ) -> Result<Vec<Self>, UnknownModule> {
        let sites: Vec<&Self> = sites.into_iter().collect();
        let fits = |site: &Self, end: &str| {
            let name = site.module.as_str();
            name == end || name.ends_with(&format!(".{end}"))
        };
        if let Some(end) = ends.iter().find(|end| !sites.iter().any(|site| fits(site, end))) {
            let known = sites.iter().map(|site| site.module.as_str()).collect::<Vec<_>>().join(", ");
            return Err(UnknownModule { found: end.clone(), known });
        }
        let wanted = |site: &&Self| ends.iter().any(|end| fits(site, end));
        Ok(sites.into_iter().filter(wanted).cloned().collect())
    }

    /// Numbers the groups of sites in the order of the forward pass; one whose name ends in one of `shared` has the
    /// input of the site before it.
    pub fn group(sites: &mut [Self], shared: &[&str]) {
        let mut groups = 0;
        for site in sites {
            let shares = shared.iter().any(|end| site.module.as_str().ends_with(end));
            groups += usize::from(!shares);
            site.input_group = groups - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_order_as_the_forward_pass_meets_the_blocks() {
        let names = [
            "encoder.h.2.attn.c_attn",
            "encoder.h.2.attn.c_proj",
            "encoder.h.2.mlp.c_fc",
            "encoder.h.2.mlp.c_proj",
            "encoder.h.10.attn.c_attn",
        ];
        let modules: Vec<ModuleName> = names.into_iter().map(ModuleName::from).collect();
        assert!(modules.is_sorted());
    }

    #[test]
    fn only_the_same_name_is_equal() {
        assert_ne!(ModuleName::from("h.1"), ModuleName::from("h.01"));
        assert_ne!(ModuleName::from("h.1").cmp(&ModuleName::from("h.01")), Ordering::Equal);
        assert_eq!(ModuleName::from("h.1"), ModuleName::from("h.1".to_owned()));
    }
}
