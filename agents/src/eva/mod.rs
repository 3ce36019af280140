//! Explained variance adaptation (EVA, arXiv 2410.07170): adapters that start along the directions in
//! which a frozen model's activations vary most over the new task's data.
//!
//! Per linear map: the leading right-singular vectors of its input activations over batches of the data,
//! ranks shared out by explained variance, `A` the first vectors as rows, `B = 0`.
//! Nothing here knows what a model is: it shows its maps' inputs to a [`Tap`]. `policy` does that for ours.

mod allocate;
mod controls;
mod policy;
mod recorder;
mod settings;

use std::collections::BTreeMap;
use std::fmt;

use tch::{Device, Kind, Tensor};

use self::recorder::Recorder;
use crate::adapter::Rank;
use crate::linalg::{Solver, Spectrum};
use crate::pass::Tap;

pub use allocate::allocate;
pub use policy::{adapters, inputs_of, observe_policy};
pub use settings::{Directions, Score, Settings, SolverKind, Stop};

/// Batches after which halves are first compared.
const FIRST_CHECK: usize = 6;

/// Linear maps that are given the same input, so that it is solved once.
#[derive(Clone, Debug)]
pub struct SharedInput<S> {
    /// The maps, in order.
    pub sites: Vec<S>,
    /// Width of the input.
    pub width: i64,
}

/// Why activations cannot be decomposed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each variant's sentence says what its fields are
pub enum EvaError {
    #[error(
        "{batches} batches gave {found} unpadded tokens at {site}, and {wanted} components need at least as many"
    )]
    TooFewRows { site: String, batches: usize, found: i64, wanted: i64 },

    #[error("the activations of {site} hold NaN or infinity in batch {batch}")]
    NotFinite { site: String, batch: usize },

    #[error("EVA was given {found}, and with it {wanted} is wanted")]
    Contradiction { found: &'static str, wanted: &'static str },

    #[error("no pass showed the activations of {site}")]
    NotSeen { site: String },
}

/// How far EVA is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Share of the sites whose directions have settled.
    pub settled: f64,
    /// Whether the rule says stop.
    pub done: bool,
}

/// What EVA found at one site.
#[derive(Clone, Debug)]
pub struct SiteReport<S> {
    /// The site.
    pub site: S,
    /// Rank that it was given; 0 means that it gets no adapter.
    pub rank: i64,
    /// Share of the site's variance that each candidate direction explains, descending.
    pub explained: Vec<f64>,
    /// How sure its directions are: under [`Stop::Turn`] the least cosine to the batch before, under
    /// [`Stop::Halves`] the estimated root mean square cosine to all of the data's; 1 if it has none.
    pub cosine: f64,
}

impl<S> SiteReport<S> {
    /// Share of the site's variance that its adapter's directions explain together.
    pub fn covered(&self) -> f64 {
        self.explained[..self.rank as usize].iter().fold(0.0, |sum, share| sum + share) // a sum of none is −0
    }
}

/// What EVA found.
#[derive(Debug)]
pub struct Found<S> {
    /// A of each site that gets an adapter: `[R, in]`, float32.
    pub directions: BTreeMap<S, Tensor>,
    /// Every site, in order.
    pub reports: Vec<SiteReport<S>>,
}

/// EVA in progress: show it batches with [`Eva::observe`], then [`Eva::finish`].
#[derive(Debug)]
pub struct Eva<S> {
    settings: Settings,
    batches: usize,
    /// Batches when the directions were last looked at.
    looked: usize,
    /// Batches after which halves are compared next.
    next_check: usize,
    /// Batches after which all data was seen.
    whole: f64,
    inputs: Vec<Input<S>>,
}

#[derive(Debug)]
struct Input<S> {
    sites: Vec<S>,
    candidates: i64,
    solver: Box<dyn Solver>,
    /// The directions when they were last looked at.
    spectrum: Option<Spectrum>,
    /// Cosine of each candidate to the look before.
    turns: Vec<f64>,
    /// See [`SiteReport::cosine`].
    cosine: f64,
    settled: bool,
    /// Whether this batch's rows were seen.
    fed: bool,
}

impl<S: Ord + Clone + fmt::Display> Eva<S> {
    /// Ready for the first batch; `inputs` name the maps that may get an adapter, and `whole` says after how many
    /// batches all data was seen once, where it ends.
    pub fn new(
        inputs: Vec<SharedInput<S>>,
        settings: Settings,
        whole: Option<usize>,
        device: Device,
    ) -> Self {
        let start = |SharedInput { sites, width }| Input {
            sites,
            candidates: settings.candidates(width),
            solver: settings.solver(width, device),
            spectrum: None,
            turns: Vec::new(),
            cosine: 0.0,
            settled: false,
            fed: false,
        };
        let inputs = inputs.into_iter().map(start).collect();
        let whole = whole.map_or(f64::INFINITY, |whole| whole as f64);
        Self { settings, batches: 0, looked: 0, next_check: FIRST_CHECK, whole, inputs }
    }

    /// Batches seen so far.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// Takes in what one pass of the model shows: `rows` `[N]` are the positions that count, in each map's
    /// input with all but its last axis flattened; all of them where absent.
    pub fn observe(
        &mut self,
        rows: Option<&Tensor>,
        pass: impl FnOnce(&mut dyn Tap<S>),
    ) -> Result<Progress, EvaError> {
        let batch = self.batches;
        self.inputs.iter_mut().for_each(|input| input.fed = false);
        let mut tap =
            Recorder { settings: &self.settings, inputs: &mut self.inputs, rows, batch, failure: None };
        pass(&mut tap);
        if let Some(failure) = tap.failure {
            return Err(failure);
        }
        if let Some(unseen) = self.inputs.iter().find(|input| !input.fed) {
            return Err(EvaError::NotSeen { site: unseen.sites[0].to_string() });
        }
        self.batches += 1;
        let enough = self.inputs.iter().all(|input| input.solver.rows() >= input.candidates);
        let done = match self.settings.stop {
            _ if !enough => false,
            Stop::Turn => self.check_turns(),
            Stop::Halves if self.batches as f64 >= self.whole => {
                for input in &mut self.inputs {
                    (input.cosine, input.settled) = (1.0, true);
                }
                true // nothing is left to learn
            }
            Stop::Halves => self.batches >= self.next_check && self.check_halves(),
        };
        let sites: usize = self.inputs.iter().map(|input| input.sites.len()).sum();
        let settled = self.inputs.iter().filter(|input| input.settled).map(|input| input.sites.len());
        Ok(Progress { settled: settled.sum::<usize>() as f64 / sites as f64, done })
    }

    /// Shares out the ranks and gives each site its directions.
    pub fn finish(mut self) -> Result<Found<S>, EvaError> {
        for input in &self.inputs {
            let (found, wanted) = (input.solver.rows(), input.candidates);
            if found < wanted {
                let (site, batches) = (input.sites[0].to_string(), self.batches);
                return Err(EvaError::TooFewRows { site, batches, found, wanted });
            }
        }
        self.look();
        let ranks = self.ranks();
        let mut directions = BTreeMap::new();
        let mut reports = BTreeMap::new();
        for input in &self.inputs {
            let spectrum = input.spectrum.as_ref().expect("every input was looked at");
            for site in &input.sites {
                let rank = ranks.get(site).map_or(0, |rank| rank.get());
                if rank > 0 {
                    directions.insert(site.clone(), self.settings.first(spectrum, rank));
                }
                let explained = spectrum.explained_ratio();
                let report = SiteReport { site: site.clone(), rank, explained, cosine: input.cosine };
                reports.insert(site.clone(), report);
            }
        }
        Ok(Found { directions, reports: reports.into_values().collect() })
    }

    /// Looks at the directions of all rows so far.
    fn look(&mut self) {
        if std::mem::replace(&mut self.looked, self.batches) == self.batches {
            return;
        }
        for input in &mut self.inputs {
            if input.spectrum.as_ref().is_some_and(|old| old.rows == input.solver.rows()) {
                continue; // it rests, and its directions are as settled as its last batch left them
            }
            let new = input.solver.spectrum();
            if let Some(old) = &input.spectrum {
                let cosines = (&new.basis * &old.basis).sum_dim_intlist(1, false, Kind::Double); // [C]
                input.turns = Vec::try_from(cosines).expect("cosines are float64");
            }
            input.spectrum = Some(new);
        }
    }

    /// Ranks that the spectra last looked at give.
    fn ranks(&self) -> BTreeMap<S, Rank> {
        let mut offers = BTreeMap::new();
        for input in &self.inputs {
            let spectrum = input.spectrum.as_ref().expect("every input was looked at");
            let scores = self.settings.score.of(spectrum);
            offers.extend(input.sites.iter().map(|site| (site.clone(), scores.clone())));
        }
        allocate(&offers, self.settings.rank.get() as usize * offers.len())
    }

    /// PEFT's rule: every direction that the present ranks use turned by little in this batch. A site that
    /// has settled rests, until a later sharing-out gives it a direction that has not.
    fn check_turns(&mut self) -> bool {
        self.look();
        let ranks = self.ranks();
        for input in &mut self.inputs {
            let used = input.used(&ranks);
            let known = input.turns.get(..used).unwrap_or(&[0.0]); // no turn is known after the first batch
            input.cosine = known.iter().copied().fold(1.0, f64::min);
            input.settled = input.cosine >= self.settings.tau;
        }
        self.inputs.iter().all(|input| input.settled)
    }

    /// Compares the halves' spans, and says when to do so next.
    fn check_halves(&mut self) -> bool {
        self.look();
        let ranks = self.ranks();
        let (mut overlap, mut budget) = (0.0, 0.0);
        let seen = self.batches as f64;
        let unseen = 1.0 - seen / self.whole;
        for input in &mut self.inputs {
            let used = input.used(&ranks) as i64;
            let spectrum = input.spectrum.as_ref().expect("every input was looked at");
            let Some([even, odd]) = &spectrum.halves else { return false };
            let between = even.narrow(0, 0, used).matmul(&odd.narrow(0, 0, used).tr()); // [R, R]
            let squares = between.square().sum(Kind::Double).double_value(&[]);
            let difference = if used == 0 { 0.0 } else { 1.0 - squares / used as f64 };
            input.cosine = (1.0 - difference / 4.0 * unseen).min(1.0).sqrt();
            input.settled = input.cosine >= self.settings.tau;
            overlap += squares;
            budget += used as f64;
        }
        let (error, allowed) = ((1.0 - overlap / budget) / 4.0, 1.0 - self.settings.tau.powi(2));
        // Errors fall as 1/n − 1/N, which says how many batches will do.
        let enough = 1.0 / (allowed / (error * seen) + 1.0 / self.whole);
        let enough = enough.clamp(seen + 2.0, 4.0 * seen).min(self.whole).ceil() as usize;
        self.next_check = enough.next_multiple_of(2); // halves are equal after an even number
        error * unseen <= allowed
    }
}

impl<S: Ord> Input<S> {
    /// Directions that some site of this input uses.
    fn used(&self, ranks: &BTreeMap<S, Rank>) -> usize {
        let ranks = self.sites.iter().filter_map(|site| ranks.get(site));
        ranks.map(|rank| rank.get() as usize).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{End, Gram, Rows};

    const CPU: Device = Device::Cpu;

    /// A model of two inputs: `a` alone, `b` and `c` together; each batch is drawn with these deviations.
    fn settings(rank: u16) -> Settings {
        Settings::new(Rank::try_from(rank).unwrap())
    }

    fn inputs() -> Vec<SharedInput<char>> {
        vec![SharedInput { sites: vec!['a'], width: 6 }, SharedInput { sites: vec!['b', 'c'], width: 4 }]
    }

    /// Rows `[N, width]` whose i-th coordinate has deviation `scale · 0.5ⁱ`.
    fn rows(count: i64, width: i64, scale: f64) -> Tensor {
        let deviations: Vec<f64> = (0..width).map(|i| scale * 0.5f64.powi(i as i32)).collect();
        Tensor::randn([count, width], (Kind::Float, CPU))
            * Tensor::from_slice(&deviations).to_kind(Kind::Float)
    }

    fn show(tap: &mut dyn Tap<char>, a: &Tensor, b: &Tensor) {
        tap.record('a', &Rows::of(a));
        tap.record('b', &Rows::of(b));
        tap.record('c', &Rows::of(b));
    }

    fn find(settings: Settings, batches: usize) -> Found<char> {
        let mut eva = Eva::new(inputs(), settings, None, CPU);
        while eva.batches() < batches {
            let (a, b) = (rows(200, 6, 3.0), rows(200, 4, 2.0));
            if eva.observe(None, |tap| show(tap, &a, &b)).unwrap().done {
                break;
            }
        }
        eva.finish().unwrap()
    }

    fn ranks(found: &Found<char>) -> Vec<i64> {
        found.reports.iter().map(|report| report.rank).collect()
    }

    #[test]
    fn the_budget_is_spent_exactly_and_no_site_gets_more_than_rho_allows() {
        for (rho, most) in [(1.0, 2), (1.5, 3), (2.0, 4)] {
            let found = find(Settings { rho, ..settings(2) }, 6);
            assert_eq!(ranks(&found).iter().sum::<i64>(), 6, "rho {rho}");
            assert!(ranks(&found).iter().all(|rank| *rank <= most), "rho {rho}: {:?}", ranks(&found));
            for (site, down) in &found.directions {
                let report = found.reports.iter().find(|report| report.site == *site).unwrap();
                assert_eq!(down.size()[0], report.rank);
            }
        }
    }

    #[test]
    fn maps_that_share_an_input_share_its_directions() {
        let found = find(Settings { rho: 1.0, ..settings(2) }, 6);
        assert_eq!(found.directions[&'b'], found.directions[&'c']);
    }

    #[test]
    fn a_site_that_explains_little_next_to_others_gets_no_adapter() {
        let one = |width| SharedInput { sites: vec![width], width: i64::from(width) };
        let mut eva = Eva::new(vec![one(2), one(40)], settings(1), None, CPU);
        for _ in 0..4 {
            let (few, many) = (rows(300, 2, 1.0), Tensor::randn([300, 40], (Kind::Float, CPU)));
            eva.observe(None, |tap: &mut dyn Tap<u8>| {
                tap.record(2, &Rows::of(&few));
                tap.record(40, &Rows::of(&many));
            })
            .unwrap();
        }
        let found = eva.finish().unwrap();
        assert_eq!(found.reports.iter().map(|report| report.rank).collect::<Vec<_>>(), [2, 0]);
        assert_eq!(found.reports[1].covered(), 0.0);
    }

    #[test]
    fn the_paper_s_score_favours_large_activations_and_the_ratio_does_not() {
        // Eq. 6 is not free of units: ten times the activations are ten times the score.
        let spectrum = |scale: f64| {
            let mut solver = Gram::new(2, 6, true, End::Leading, CPU);
            solver.update(&Rows::of(&(rows(200, 6, 1.0) * scale))).unwrap();
            solver.spectrum()
        };
        tch::manual_seed(1);
        let (small, large) = (spectrum(1.0), spectrum(10.0));
        let [small_paper, large_paper] = [&small, &large].map(|spectrum| Score::Paper.of(spectrum)[0]);
        let [small_ratio, large_ratio] = [&small, &large].map(|spectrum| Score::Ratio.of(spectrum)[0]);
        assert!(large_paper / small_paper > 5.0);
        assert!((large_ratio / small_ratio - 1.0).abs() < 0.3);
        let sigma = small.singular_values();
        let expected = sigma[0].powi(2) / (199.0 * (sigma[0] + sigma[1]));
        assert!((small_paper - expected).abs() < 1e-12);
    }

    #[test]
    fn whitened_rows_have_the_inverse_root_of_their_singular_value_for_length() {
        let found = find(Settings { whiten: true, rho: 1.0, ..settings(3) }, 4);
        let lengths = found.directions[&'a'].square().sum_dim_intlist(1, false, Kind::Float).sqrt();
        let lengths: Vec<f64> = Vec::try_from(lengths.to_kind(Kind::Double)).unwrap();
        // σ falls by half from one direction to the next, so its inverse root grows by √2.
        assert!((lengths[1] / lengths[0] - 2f64.sqrt()).abs() < 0.1, "{lengths:?}");
    }

    #[test]
    fn controls_keep_what_they_say() {
        let basis = Tensor::eye(6, (Kind::Double, CPU)).narrow(0, 0, 3)
            * Tensor::from_slice(&[1.0, 2.0, 3.0]).unsqueeze(1);
        let rotated = controls::rotated(&basis);
        let product = |x: &Tensor| x.tr().matmul(x);
        assert!((product(&rotated) - product(&basis)).abs().max().double_value(&[]) < 1e-9);
        assert!((&rotated - &basis).abs().max().double_value(&[]) > 0.1);
        let permuted = controls::permuted(&basis);
        let (sorted, _) = permuted.sort(0, false);
        let (expected, _) = basis.sort(0, false);
        assert_eq!(sorted, expected);
        assert_eq!(controls::random(&basis).size(), basis.size());
        assert!(controls::random(&basis).abs().max().double_value(&[]) <= 1.0 / 6f64.sqrt());
    }

    #[test]
    fn halves_that_agree_end_the_search_and_say_how_sure_they_are() {
        let mut eva = Eva::new(inputs(), settings(2), None, CPU);
        let mut progress = Progress { settled: 0.0, done: false };
        while !progress.done {
            assert!(eva.batches() < 400);
            let (a, b) = (rows(200, 6, 3.0), rows(200, 4, 2.0));
            progress = eva.observe(None, |tap| show(tap, &a, &b)).unwrap();
        }
        let found = eva.finish().unwrap();
        assert!(found.reports.iter().all(|report| report.cosine > 0.95 && report.cosine <= 1.0));
        // The true directions are the axes.
        let off_axes = found.directions[&'a'].narrow(1, 2, 4).square().sum(Kind::Double).double_value(&[]);
        assert!(off_axes / found.directions[&'a'].size()[0] as f64 <= 0.6, "{off_axes}");
    }

    #[test]
    fn all_of_the_data_ends_the_search_however_little_the_halves_agree() {
        let mut eva = Eva::new(inputs(), Settings { tau: 1.0, ..settings(2) }, Some(3), CPU);
        let mut done = Vec::new();
        for _ in 0..3 {
            let (a, b) = (rows(20, 6, 3.0), rows(20, 4, 2.0));
            done.push(eva.observe(None, |tap| show(tap, &a, &b)).unwrap().done);
        }
        assert_eq!(done, [false, false, true]);
        assert!(eva.finish().unwrap().reports.iter().all(|report| report.cosine == 1.0));
    }

    #[test]
    fn what_cannot_be_decomposed_is_named() {
        let mut eva = Eva::new(inputs(), settings(2), None, CPU);
        let (a, b) = (rows(20, 6, 3.0), rows(20, 4, 2.0));
        eva.observe(None, |tap| show(tap, &a, &b)).unwrap();
        let error = eva.observe(None, |tap| show(tap, &a, &(&b * f64::NAN))).unwrap_err();
        assert!(matches!(&error, EvaError::NotFinite { site, batch: 1 } if site == "b"), "{error}");
        let error = eva.observe(None, |tap| tap.record('a', &Rows::of(&a))).unwrap_err();
        assert!(matches!(&error, EvaError::NotSeen { site } if site == "b"), "{error}");
    }

    #[test]
    fn too_few_rows_are_an_error_and_no_endless_search() {
        for settings in
            [settings(2), Settings { solver: SolverKind::Incremental, stop: Stop::Turn, ..settings(2) }]
        {
            let mut eva = Eva::new(inputs(), settings, None, CPU);
            let (a, b) = (rows(20, 6, 3.0), rows(20, 4, 2.0));
            let none = Tensor::empty([0], (Kind::Int64, CPU));
            for _ in 0..5 {
                assert!(!eva.observe(Some(&none), |tap| show(tap, &a, &b)).unwrap().done);
            }
            let error = eva.finish().unwrap_err();
            let fits = matches!(&error, EvaError::TooFewRows { batches: 5, found: 0, wanted: 4, .. });
            assert!(fits, "{error}");
        }
    }
}
