//! Explained variance adaptation (EVA, arXiv 2410.07170): adapters that start along the directions in
//! which a frozen model's activations vary most over the new task's data.
//!
//! Per linear map: the leading right-singular vectors of its input activations over batches of the data,
//! ranks shared out by explained variance, `A` the first vectors as rows, `B = 0`.
//! Nothing here knows what a model is: it shows its maps' inputs to a [`Tap`]. `policy` does that for ours.

mod allocate;
mod controls;
mod found;
mod input;
mod policy;
mod recorder;
mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use tch::{Device, Tensor};

use self::input::Input;
use self::recorder::{Feed, Recorder, Sink};
use crate::adapter::Rank;
use crate::pass::Tap;
use crate::threads::side_by_side;

pub use allocate::allocate;
pub use found::{EvaError, Found, Progress, SiteReport};
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

/// One of two passes that share a batch: see [`Eva::observe_halves`].
#[derive(Debug)]
pub struct Half<F> {
    /// Positions that count, in this half: `[N]`; all of them where absent.
    pub rows: Option<Tensor>,
    /// Shows a tap what the model reads of this half.
    pub pass: F,
}

impl<S: Ord + Clone + fmt::Display + Send + Sync> Eva<S> {
    /// Ready for the first batch; `inputs` name the maps that may get an adapter, and `whole` says after how many
    /// batches all data was seen once, where it ends.
    pub fn new(
        inputs: Vec<SharedInput<S>>,
        settings: Settings,
        whole: Option<usize>,
        device: Device,
    ) -> Self {
        let inputs = inputs.into_iter().map(|input| Input::new(input, &settings, device)).collect();
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
        self.show(rows.map(Tensor::shallow_clone), pass)?;
        Ok(self.after_a_batch())
    }

    /// Whether a batch may be shown as two halves at once.
    pub fn takes_halves(&self) -> bool {
        self.settings.solver != SolverKind::Incremental
    }

    /// The same of a batch that two passes share: they run side by side, which spares libtorch's threads most of
    /// their waiting for each other. Wants [`Eva::takes_halves`].
    pub fn observe_halves<F: FnOnce(&mut dyn Tap<S>), G: FnOnce(&mut dyn Tap<S>) + Send>(
        &mut self,
        first: Half<F>,
        second: Half<G>,
    ) -> Result<Progress, EvaError> {
        let batch = self.batches;
        if let Some([feeds, others]) = self.feeds_of_halves() {
            let taken = side_by_side(
                || Recorder::take(feeds, first.rows, batch, first.pass),
                || Recorder::take(others, second.rows, batch, second.pass),
            );
            taken.0.and(taken.1)?;
        } else {
            self.show(first.rows, first.pass)?; // the first rows decide what both sum
            self.show(second.rows, second.pass)?;
        }
        Ok(self.after_a_batch())
    }

    /// Takes in what one pass shows.
    fn show(&mut self, rows: Option<Tensor>, pass: impl FnOnce(&mut dyn Tap<S>)) -> Result<(), EvaError> {
        let rests = self.settings.solver == SolverKind::Incremental;
        let feeds = self.inputs.iter_mut().map(|input| {
            let sink = if rests && input.settled { Sink::Nowhere } else { Sink::Solver(&mut *input.solver) };
            Feed { sites: &input.sites, sink, fed: false }
        });
        Recorder::take(feeds.collect(), rows, self.batches, pass)
    }

    /// Where two passes put what they show, if every solver has begun.
    fn feeds_of_halves(&mut self) -> Option<[Vec<Feed<'_, S>>; 2]> {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for Input { sites, solver, .. } in &mut self.inputs {
            let [one, other] = solver.halves()?;
            first.push(Feed { sites, sink: Sink::Half(one), fed: false });
            second.push(Feed { sites, sink: Sink::Half(other), fed: false });
        }
        Some([first, second])
    }

    /// Counts a batch, and looks whether it was the last that is needed.
    fn after_a_batch(&mut self) -> Progress {
        self.batches += 1;
        let enough = self.inputs.iter().all(|input| input.solver.rows() >= input.candidates);
        let done = match self.settings.stop {
            _ if !enough => false,
            Stop::Turn => self.check_turns(),
            Stop::Halves if self.saw_all() => {
                for input in &mut self.inputs {
                    (input.cosine, input.settled) = (1.0, true);
                }
                true // nothing is left to learn
            }
            Stop::Halves if self.settings.tau == 1.0 => false, // only all of the data is within no angle of itself
            Stop::Halves => self.batches >= self.next_check && self.check_halves(),
        };
        let sites: usize = self.inputs.iter().map(|input| input.sites.len()).sum();
        let settled = self.inputs.iter().filter(|input| input.settled).map(|input| input.sites.len());
        Progress { settled: settled.sum::<usize>() as f64 / sites as f64, done }
    }

    /// Whether all of the data was seen.
    fn saw_all(&self) -> bool {
        self.batches as f64 >= self.whole
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
        if self.settings.stop == Stop::Halves && !self.saw_all() {
            self.check_halves();
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
                    let least = spectrum.scatter.double_value(&[rank - 1]);
                    if self.settings.whiten && least <= f64::EPSILON * spectrum.total {
                        return Err(EvaError::NoVariance { site: site.to_string() });
                    }
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
        let waiting = Mutex::new(self.inputs.iter_mut());
        let next = || waiting.lock().expect("no thread panics with it").next();
        let work = || {
            while let Some(input) = next() {
                input.look();
            }
        };
        side_by_side(work, work);
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
            let used = input.used(&ranks);
            let Some(agreement) = &input.agreement else { return false };
            let difference = if used == 0 { 0.0 } else { 1.0 - agreement[used] / used as f64 };
            overlap += agreement[used];
            input.cosine = (1.0 - difference / 4.0 * unseen).min(1.0).sqrt();
            input.settled = input.cosine >= self.settings.tau;
            budget += used as f64;
        }
        let (error, allowed) = ((1.0 - overlap / budget) / 4.0, 1.0 - self.settings.tau.powi(2));
        // Errors fall as 1/n − 1/N, which says how many batches will do.
        let enough = 1.0 / (allowed / (error * seen) + 1.0 / self.whole);
        let enough = enough.clamp(seen + 2.0, 4.0 * seen).min(self.whole).ceil() as usize;
        self.next_check = enough.next_multiple_of(2); // a batch that is shown whole goes to one half
        error * unseen <= allowed
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::linalg::{End, Gram, Rows, Solver};

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
            let mut solver = Gram::new(2, 6, true, End::Leading);
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
    fn whitening_refuses_a_direction_without_variance() {
        let mut eva = Eva::new(
            vec![SharedInput { sites: vec!['a'], width: 4 }],
            Settings { whiten: true, rho: 1.0, ..settings(3) },
            Some(1),
            CPU,
        );
        // Two dimensions of four vary.
        let x = Tensor::cat(&[rows(50, 2, 1.0), Tensor::zeros([50, 2], (Kind::Float, CPU))], 1);
        eva.observe(None, |tap: &mut dyn Tap<char>| tap.record('a', &Rows::of(&x))).unwrap();
        let error = eva.finish().unwrap_err().to_string();
        assert!(error.contains("`whiten`") && error.contains("those of a hold a zero"), "{error}");
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
    fn a_search_cut_short_says_how_sure_it_is() {
        let found = find(Settings { tau: 1.0, ..settings(2) }, 3);
        assert!(found.reports.iter().all(|report| report.cosine > 0.0 && report.cosine < 1.0));
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
    fn a_batch_shown_in_two_halves_gives_what_it_gives_whole() {
        let whole = settings(2);
        let mut evas = [(); 2].map(|()| Eva::new(inputs(), whole, None, CPU));
        for _ in 0..3 {
            let (a, b) = (rows(400, 6, 3.0), rows(400, 4, 2.0));
            let half = |x: &Tensor, start| x.narrow(0, start, 200);
            let (first, second) = ((half(&a, 0), half(&b, 0)), (half(&a, 200), half(&b, 200)));
            // The last twenty rows of the second half do not count.
            let counted = Tensor::arange(180, (Kind::Int64, CPU));
            let all = Tensor::cat(&[Tensor::arange(200, (Kind::Int64, CPU)), &counted + 200], 0);
            evas[0].observe(Some(&all), |tap| show(tap, &a, &b)).unwrap();
            let first = Half { rows: None, pass: |tap: &mut dyn Tap<char>| show(tap, &first.0, &first.1) };
            let pass = move |tap: &mut dyn Tap<char>| show(tap, &second.0, &second.1);
            evas[1].observe_halves(first, Half { rows: Some(counted), pass }).unwrap();
        }
        let [whole, halves] = evas.map(|eva| eva.finish().unwrap());
        assert_eq!(ranks(&whole), ranks(&halves));
        for (site, down) in &whole.directions {
            let difference = (down - &halves.directions[site]).abs().max().double_value(&[]);
            assert!(difference < 1e-4, "{site}: {difference}");
        }
    }

    #[test]
    fn what_is_wrong_with_either_half_is_named() {
        for bad in [0, 1] {
            for batch in [0, 1] {
                let mut eva = Eva::new(inputs(), settings(2), None, CPU);
                let (a, b) = (rows(20, 6, 3.0), rows(20, 4, 2.0));
                let half = |b: Tensor| {
                    let a = a.copy();
                    Half { rows: None, pass: move |tap: &mut dyn Tap<char>| show(tap, &a, &b) }
                };
                for _ in 0..batch {
                    eva.observe_halves(half(b.copy()), half(b.copy())).unwrap();
                }
                let [first, second] = [0, 1].map(|index| if index == bad { &b * f64::NAN } else { b.copy() });
                let error = eva.observe_halves(half(first), half(second)).unwrap_err();
                let fits = matches!(&error, EvaError::NotFinite { site, batch: found } if site == "b" && *found == batch);
                assert!(fits, "half {bad}, batch {batch}: {error}");
            }
        }
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
