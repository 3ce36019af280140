//! EVA in progress: batches are observed, components found, ranks allocated.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;

use tch::Device;

use super::allocation::allocate;
use super::input::{Input, SharedInput};
use super::options::{EvaOptions, SolverKind, StopRule};
use super::outcome::{EvaError, EvaResult, Progress, SiteReport};
use super::recorder::{Destination, RecordedInput, Recorder};
use crate::adapter::Rank;
use crate::model::Tap;
use crate::ranks::{OneRank, Ranks};
use crate::tensor::{Rows, side_by_side};

/// Batches after which halves are first compared.
const FIRST_COMPARISON: usize = 6;

/// What decides how many components the modules get.
#[derive(Clone, Copy, Debug)]
enum Spending {
    /// The sum of their ranks is spent, on the components of most explained variance.
    Budget,
    /// Each gets the fewest that explain this share of its variance.
    Energy(f64),
}

/// EVA in progress: show it batches with [`Eva::observe`], then [`Eva::finish`].
#[derive(Debug)]
pub struct Eva<S> {
    options: EvaOptions,
    /// Of the modules whose rank is not the options'.
    ranks_of: BTreeMap<S, Rank>,
    spending: Spending,
    device: Device,
    progress: Progress,
    /// Batches when the components were last computed.
    updated_at: usize,
    /// Batches when the ranks last spoke.
    shared_at: usize,
    /// Batches after which halves are compared next.
    next_comparison: usize,
    /// Batches after which all data was seen.
    batches_per_pass: f64,
    /// Those that each see a part of every batch.
    ranks: &'static dyn Ranks,
    inputs: Vec<Input<S>>,
}

impl<S: Ord + Clone + fmt::Display + Send + Sync> Eva<S> {
    /// Ready for the first batch; `inputs` name the modules that may get an adapter, and `batches_per_pass` says after how many batches
    /// all data was seen once, where it ends.
    pub fn new(
        inputs: Vec<SharedInput<S>>,
        options: EvaOptions,
        batches_per_pass: Option<usize>,
        device: Device,
    ) -> Self {
        let mut eva = Self::growing(options, BTreeMap::new(), batches_per_pass, device);
        inputs.into_iter().for_each(|input| eva.add_input(input));
        eva
    }

    /// The same with no module yet: [`Eva::add_input`] and [`Eva::join_input`] name them as the first passes show them.
    /// `ranks` are those that differ from the options'.
    pub fn growing(
        options: EvaOptions,
        ranks: BTreeMap<S, Rank>,
        batches_per_pass: Option<usize>,
        device: Device,
    ) -> Self {
        Self {
            options,
            ranks_of: ranks,
            spending: Spending::Budget,
            device,
            progress: Progress::default(),
            updated_at: 0,
            shared_at: 0,
            next_comparison: FIRST_COMPARISON,
            batches_per_pass: batches_per_pass.map_or(f64::INFINITY, |batches| batches as f64),
            ranks: &OneRank,
            inputs: Vec::new(),
        }
    }

    /// The same where a module gets the fewest components that explain `energy` of its variance, or all of its candidates
    /// where they explain less, instead of its part of a budget.
    pub fn with_energy(self, energy: f64) -> Self {
        Self { spending: Spending::Energy(energy), ..self }
    }

    /// One more input, of modules that are new.
    pub fn add_input(&mut self, input: SharedInput<S>) {
        // A module that joins later may have any of the ranks.
        let rank = self.ranks_of.values().copied().chain([self.options.lora.rank]).max();
        let rank = rank.expect("the options have a rank");
        self.inputs.push(Input::new(input, rank, &self.options, self.device));
    }

    /// One more module, which is given the same input as `known`.
    pub fn join_input(&mut self, known: &S, site: S) {
        let input = self.inputs.iter_mut().find(|input| input.sites.contains(known));
        input.expect("the input was added").sites.push(site);
    }

    /// The same, where each of `ranks` is shown a part of every batch but the first, which all are shown whole, since it
    /// decides what is summed. Wants [`Eva::can_split`]; without it all ranks are shown all.
    pub fn over(self, ranks: &'static dyn Ranks) -> Self {
        Self { ranks, ..self }
    }

    /// Whether this rank is shown a part of the next batch alone.
    pub fn shows_parts(&self) -> bool {
        !self.ranks.is_alone() && self.can_split() && self.progress.batches > 0
    }

    /// What it was made with.
    pub fn options(&self) -> &EvaOptions {
        &self.options
    }

    /// Batches seen so far.
    pub fn batches(&self) -> usize {
        self.progress.batches
    }

    /// Which of `count` windows of the next batch this rank is shown.
    pub fn part(&self, count: usize) -> Range<usize> {
        if self.shows_parts() { self.ranks.part(count) } else { 0..count }
    }

    /// Takes in what one pass of the model shows of each module's input: the rows that count, in any number.
    pub fn observe(&mut self, pass: impl FnOnce(&mut dyn Tap<S>)) -> Result<Progress, EvaError> {
        self.forward_taps(pass)?;
        Ok(self.after_a_batch())
    }

    /// Takes in rows that a module is given, any number of times a batch, where no single pass shows them all;
    /// [`Eva::end_batch`] says when the batch is over.
    pub fn record(&mut self, site: &S, rows: &Rows) -> Result<(), EvaError> {
        let rests = self.options.solver == SolverKind::Incremental;
        let Some(input) = self.inputs.iter_mut().find(|input| input.sites.contains(site)) else {
            return Ok(());
        };
        if rows.shape().0 == 0 || rests && input.converged {
            return Ok(());
        }
        let not_finite = |_| EvaError::NotFinite { site: site.to_string(), batch: self.progress.batches };
        input.solver.update(rows).map_err(not_finite)
    }

    /// Counts a batch that [`Eva::record`] was shown.
    pub fn end_batch(&mut self) -> Progress {
        self.after_a_batch()
    }

    /// Whether a batch may be shown as two halves at once.
    pub fn can_split(&self) -> bool {
        self.options.solver != SolverKind::Incremental
    }

    /// The same of a batch that two passes share: they run side by side, which spares libtorch's threads most of
    /// their waiting for each other. Wants [`Eva::can_split`].
    pub fn observe_split(
        &mut self,
        first: impl FnOnce(&mut dyn Tap<S>),
        second: impl FnOnce(&mut dyn Tap<S>) + Send,
    ) -> Result<Progress, EvaError> {
        self.observe_halves(Some(first), Some(second))
    }

    /// The same where this rank's part may lack either half of the batch, or both.
    pub fn observe_halves(
        &mut self,
        first: Option<impl FnOnce(&mut dyn Tap<S>)>,
        second: Option<impl FnOnce(&mut dyn Tap<S>) + Send>,
    ) -> Result<Progress, EvaError> {
        let batch = self.progress.batches;
        if let Some([feeds, others]) = self.split_inputs() {
            let taken = side_by_side(
                || first.map_or(Ok(()), |first| Recorder::take(feeds, batch, first)),
                || second.map_or(Ok(()), |second| Recorder::take(others, batch, second)),
            );
            taken.0.and(taken.1)?;
        } else {
            // The first rows decide what both sum.
            first.map_or(Ok(()), |first| self.forward_taps(first))?;
            second.map_or(Ok(()), |second| self.forward_taps(second))?;
        }
        Ok(self.after_a_batch())
    }

    /// Takes in what one pass shows.
    fn forward_taps(&mut self, pass: impl FnOnce(&mut dyn Tap<S>)) -> Result<(), EvaError> {
        let rests = self.options.solver == SolverKind::Incremental;
        let feeds = self.inputs.iter_mut().map(|input| {
            let destination = if rests && input.converged {
                Destination::Nowhere
            } else {
                Destination::Solver(&mut *input.solver)
            };
            RecordedInput { sites: &input.sites, destination, fed: false }
        });
        Recorder::take(feeds.collect(), self.progress.batches, pass)
    }

    /// Where two passes put what they show, if every solver has begun.
    fn split_inputs(&mut self) -> Option<[Vec<RecordedInput<'_, S>>; 2]> {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for Input { sites, solver, .. } in &mut self.inputs {
            let [one, other] = solver.halves()?;
            first.push(RecordedInput { sites, destination: Destination::Half(one), fed: false });
            second.push(RecordedInput { sites, destination: Destination::Half(other), fed: false });
        }
        Some([first, second])
    }

    /// Counts a batch, and looks whether it was the last that is needed.
    fn after_a_batch(&mut self) -> Progress {
        self.progress.batches += 1;
        if self.progress.batches == 1 && !self.ranks.is_first() {
            self.inputs.iter_mut().for_each(|input| input.solver.forget()); // the first rank has the same rows
        }
        let is_due = match self.options.stop {
            StopRule::ComponentCosine => true,
            StopRule::SplitHalf if self.options.tau() == 1.0 => self.is_full_pass(), // only all of the data is within no angle of itself
            StopRule::SplitHalf => self.is_full_pass() || self.progress.batches >= self.next_comparison,
        };
        if is_due {
            self.share();
        }
        let enough = is_due && self.inputs.iter().all(|input| input.solver.rows() >= input.candidates);
        let done = match self.options.stop {
            _ if !enough => false,
            StopRule::ComponentCosine => self.check_component_cosines(),
            StopRule::SplitHalf if self.is_full_pass() => {
                for input in &mut self.inputs {
                    (input.cosine, input.converged) = (1.0, true);
                }
                true // nothing is left to learn
            }
            StopRule::SplitHalf => self.compare_halves(),
        };
        let sites: usize = self.inputs.iter().map(|input| input.sites.len()).sum();
        let converged = self.inputs.iter().filter(|input| input.converged).map(|input| input.sites.len());
        self.progress.converged_fraction = converged.sum::<usize>() as f64 / sites as f64;
        self.progress.done = done;
        self.progress
    }

    /// Tells all ranks of the rows that each has seen since they last spoke.
    fn share(&mut self) {
        let is_new = std::mem::replace(&mut self.shared_at, self.progress.batches) != self.progress.batches;
        if is_new && !self.ranks.is_alone() {
            self.inputs.iter_mut().for_each(|input| input.solver.share(self.ranks));
        }
    }

    /// Whether all of the data was seen.
    fn is_full_pass(&self) -> bool {
        self.progress.batches as f64 >= self.batches_per_pass
    }

    /// Allocates the ranks and gives each module its components.
    pub fn finish(mut self) -> Result<EvaResult<S>, EvaError> {
        self.share();
        for input in &self.inputs {
            let (found, wanted) = (input.solver.rows(), input.candidates);
            if found < wanted {
                let (site, batches) = (input.sites[0].to_string(), self.progress.batches);
                return Err(EvaError::TooFewRows { site, batches, found, wanted });
            }
        }
        if self.options.stop == StopRule::SplitHalf && !self.is_full_pass() {
            self.compare_halves();
        }
        self.update_components();
        let ranks = self.ranks();
        let mut components = BTreeMap::new();
        let mut reports = BTreeMap::new();
        for input in &self.inputs {
            let spectrum = input.spectrum.as_ref().expect("every input was updated");
            for site in &input.sites {
                let rank = ranks.get(site).map_or(0, |rank| rank.get());
                if rank > 0 {
                    let least = spectrum.scatter.double_value(&[rank - 1]);
                    if self.options.whiten && least <= f64::EPSILON * spectrum.total {
                        return Err(EvaError::NoVariance { site: site.to_string() });
                    }
                    components.insert(site.clone(), self.options.down(spectrum, rank));
                }
                let explained = spectrum.explained_ratio();
                let report = SiteReport { site: site.clone(), rank, explained, cosine: input.cosine };
                reports.insert(site.clone(), report);
            }
        }
        Ok(EvaResult { components, sites: reports.into_values().collect(), progress: self.progress })
    }

    /// Computes the components of all rows so far.
    fn update_components(&mut self) {
        if std::mem::replace(&mut self.updated_at, self.progress.batches) == self.progress.batches {
            return;
        }
        let waiting = Mutex::new(self.inputs.iter_mut());
        let next = || waiting.lock().expect("no thread panics with it").next();
        let work = || {
            while let Some(input) = next() {
                input.update();
            }
        };
        side_by_side(work, work);
    }

    /// Ranks that the spectra last looked at give.
    fn ranks(&self) -> BTreeMap<S, Rank> {
        let mut candidates = BTreeMap::new();
        let mut budget = 0;
        for input in &self.inputs {
            let spectrum = input.spectrum.as_ref().expect("every input was updated");
            let ranks = input.sites.iter().map(|site| self.rank_of(site));
            let largest = ranks.clone().max().expect("an input has a module");
            let mut scores = self.options.allocation.of(spectrum);
            scores.truncate(self.options.candidates(largest, input.width) as usize);
            match self.spending {
                Spending::Budget => budget += ranks.map(|rank| rank.get() as usize).sum::<usize>(),
                Spending::Energy(energy) => {
                    scores.truncate(fewest(&spectrum.explained_ratio(), energy));
                    budget += scores.len() * input.sites.len();
                }
            }
            candidates.extend(input.sites.iter().map(|site| (site.clone(), scores.clone())));
        }
        allocate(&candidates, budget)
    }

    /// The rank that a module would have if all kept theirs.
    fn rank_of(&self, site: &S) -> Rank {
        self.ranks_of.get(site).copied().unwrap_or(self.options.lora.rank)
    }

    /// PEFT's rule: every component that the present ranks use turned by little in this batch. A module that
    /// has converged rests, until a later allocation gives it a component that has not.
    fn check_component_cosines(&mut self) -> bool {
        self.update_components();
        let ranks = self.ranks();
        for input in &mut self.inputs {
            let used = input.used(&ranks);
            let known = input.turns.get(..used).unwrap_or(&[0.0]); // no turn is known after the first batch
            input.cosine = known.iter().copied().fold(1.0, f64::min);
            input.converged = input.cosine >= self.options.tau();
        }
        self.inputs.iter().all(|input| input.converged)
    }

    /// Compares the halves' spans, and says when to do so next.
    fn compare_halves(&mut self) -> bool {
        self.update_components();
        let ranks = self.ranks();
        let (mut overlap, mut budget) = (0.0, 0.0);
        let seen = self.progress.batches as f64;
        let unseen = 1.0 - seen / self.batches_per_pass;
        for input in &mut self.inputs {
            let used = input.used(&ranks);
            let Some(agreement) = &input.agreement else { return false };
            let difference = if used == 0 { 0.0 } else { 1.0 - agreement[used] / used as f64 };
            overlap += agreement[used];
            input.cosine = (1.0 - difference / 4.0 * unseen).min(1.0).sqrt();
            input.converged = input.cosine >= self.options.tau();
            budget += used as f64;
        }
        let (error, allowed) = ((1.0 - overlap / budget) / 4.0, 1.0 - self.options.tau().powi(2));
        // Errors fall as 1/n − 1/N, which says how many batches will do.
        let enough = 1.0 / (allowed / (error * seen) + 1.0 / self.batches_per_pass);
        let enough = enough.clamp(seen + 2.0, 4.0 * seen).min(self.batches_per_pass).ceil() as usize;
        self.next_comparison = enough.next_multiple_of(2); // a batch that is shown whole goes to one half
        error * unseen <= allowed
    }
}

/// The fewest of these ratios, in order, that sum to `energy`: all where they sum to less, none where there is no variance.
fn fewest(ratios: &[f64], energy: f64) -> usize {
    let mut missing = energy;
    let within = ratios.iter().take_while(|ratio| {
        let more = missing > 0.0 && **ratio > 0.0;
        missing -= **ratio;
        more
    });
    within.count()
}
