//! EVA in progress, as Python drives it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use eva_rl_agents::adapter::Rank;
use eva_rl_agents::adapter_init::eva::{Eva, EvaOptions, SharedInput, SolverKind, StopRule};
use eva_rl_agents::tensor::Rows;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3_tch::PyTensor;
use tch::{Device, Kind};

use crate::all_reduce::TorchRanks;
use crate::errors::{guarded, of_eva};

/// A module, in the order of the model's: ties of explained variance go to the first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    index: usize,
    name: String,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// EVA in progress over modules that Python names by their index.
#[pyclass(frozen)]
pub struct Search {
    sites: Vec<Site>,
    eva: Mutex<Option<Eva<Site>>>,
    ranks: Option<&'static TorchRanks>,
}

/// What a module gets.
#[pyclass(frozen, get_all)]
pub struct Found {
    /// The module's index.
    index: usize,
    /// 0 where it gets no adapter.
    rank: i64,
    /// Share of the module's variance that each candidate explains, descending.
    explained: Vec<f64>,
    /// How sure the components are.
    cosine: f64,
    /// A: `[R, in]`; nothing where the rank is 0.
    components: Option<PyObject>,
}

fn rank(number: usize) -> PyResult<Rank> {
    u16::try_from(number)
        .ok()
        .and_then(|number| Rank::try_from(number).ok())
        .ok_or_else(|| PyValueError::new_err(format!("a rank is {number}, expected 1 to {}", u16::MAX)))
}

fn solver(word: &str) -> PyResult<(SolverKind, StopRule)> {
    let halves = StopRule::SplitHalf;
    match word {
        "auto" => Ok((SolverKind::Auto, halves)),
        "gram" => Ok((SolverKind::Gram, halves)),
        "sketch" => Ok((SolverKind::Sketch, halves)),
        "incremental" => Ok((SolverKind::Incremental, StopRule::ComponentCosine)),
        _ => Err(PyValueError::new_err(format!(
            "solver is {word:?}, expected \"auto\", \"gram\", \"sketch\" or \"incremental\""
        ))),
    }
}

#[pymethods]
impl Search {
    /// `sites` are names and ranks of all modules; which input each has is said later. `all_reduce` is this
    /// process's number, how many there are, and what sums a tensor over them.
    #[new]
    #[pyo3(signature = (sites, *, rho, tau, whiten, solver_name, energy, batches_per_pass, device, all_reduce))]
    #[expect(clippy::too_many_arguments, reason = "they are the keywords of one call")]
    fn new(
        sites: Vec<(String, usize)>,
        rho: f64,
        tau: f64,
        whiten: bool,
        solver_name: &str,
        energy: Option<f64>,
        batches_per_pass: Option<usize>,
        device: (String, usize),
        all_reduce: Option<(usize, usize, PyObject)>,
    ) -> PyResult<Self> {
        let (solver, stop) = solver(solver_name)?;
        let device = match (device.0.as_str(), device.1) {
            ("cpu", _) => Device::Cpu,
            ("cuda", index) => Device::Cuda(index),
            ("mps", _) => Device::Mps,
            (other, _) => {
                return Err(PyValueError::new_err(format!(
                    "the device is {other}, expected cpu, cuda or mps"
                )));
            }
        };
        let mut ranks_of = BTreeMap::new();
        let mut names = Vec::new();
        for (index, (name, number)) in sites.into_iter().enumerate() {
            let site = Site { index, name };
            ranks_of.insert(site.clone(), rank(number)?);
            names.push(site);
        }
        let smallest =
            ranks_of.values().copied().min().ok_or_else(|| PyValueError::new_err("there are no modules"))?;
        let options = EvaOptions { rho, tau: Some(tau), whiten, solver, stop, ..EvaOptions::new(smallest) };
        let mut eva = Eva::growing(options, ranks_of, batches_per_pass, device);
        if let Some(energy) = energy {
            eva = eva.with_energy(energy);
        }
        let ranks =
            all_reduce.map(|(rank, size, sum)| &*Box::leak(Box::new(TorchRanks::new(rank, size, sum))));
        if let Some(ranks) = ranks {
            eva = eva.over(ranks);
        }
        Ok(Self { sites: names, eva: Mutex::new(Some(eva)), ranks })
    }

    /// The first module that is given this input, which is `width` wide.
    fn add_input(&self, site: usize, width: i64, of_patches: bool) -> PyResult<()> {
        let sites = vec![self.sites[site].clone()];
        self.with(|eva| eva.add_input(SharedInput { sites, width, of_patches }))
    }

    /// A further module that is given the same input as `known`.
    fn join_input(&self, known: usize, site: usize) -> PyResult<()> {
        self.with(|eva| eva.join_input(&self.sites[known], self.sites[site].clone()))
    }

    /// Takes in rows `[N, width]` of a module that was added.
    fn record(&self, site: usize, rows: PyTensor) -> PyResult<()> {
        let taken = self.with(|eva| {
            let rows = Rows::plain(&rows.to_kind(Kind::Float));
            eva.record(&self.sites[site], &rows)
        })?;
        taken.map_err(of_eva)
    }

    /// Counts a batch: how many there were, the share of modules that have converged, and whether it was the last
    /// that is needed.
    fn end_batch(&self) -> PyResult<(usize, f64, bool)> {
        let progress = self.with(Eva::end_batch)?;
        self.check_sums()?;
        Ok((progress.batches, progress.converged_fraction, progress.done))
    }

    /// What every module gets, in their order; there is nothing to add after it.
    fn finish(&self, py: Python<'_>) -> PyResult<Vec<Found>> {
        let eva = self.lock()?.take().ok_or_else(finished)?;
        let mut result = guarded(|| eva.finish())?.map_err(of_eva)?;
        self.check_sums()?;
        let mut found = Vec::new();
        for report in result.sites {
            let components =
                result.components.remove(&report.site).map(|down| PyTensor(down).into_pyobject(py));
            found.push(Found {
                index: report.site.index,
                rank: report.rank,
                cosine: report.cosine,
                components: components.transpose()?.map(Bound::unbind),
                explained: report.explained,
            });
        }
        Ok(found)
    }
}

impl Search {
    fn lock(&self) -> PyResult<std::sync::MutexGuard<'_, Option<Eva<Site>>>> {
        self.eva.lock().map_err(|_| PyRuntimeError::new_err("the search failed before"))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Eva<Site>) -> T) -> PyResult<T> {
        let mut eva = self.lock()?;
        let eva = eva.as_mut().ok_or_else(finished)?;
        guarded(|| work(eva))
    }

    fn check_sums(&self) -> PyResult<()> {
        self.ranks.map_or(Ok(()), TorchRanks::check)
    }
}

fn finished() -> PyErr {
    PyRuntimeError::new_err("the search has ended")
}
