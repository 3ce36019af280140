//! Initialisation that several ranks share, each as a thread, beside one process's.

use tch::{Device, Kind, Tensor};

use super::eva::{EvaOptions, Progress, SolverKind, StopRule};
use super::testing::{random, rank, size};
use super::*;
use crate::model::{Inputs, PolicyConfig, TransformerPolicy};
use crate::ranks::testing::Threads;
use crate::ranks::{OneRank, Ranks};

/// Batches of numbers without a pattern, with padding. What is another rank's to look at holds no number.
struct Batches {
    ranks: &'static dyn Ranks,
    /// Into how many pieces, of which each rank has a part, a batch is cut.
    pieces: i64,
    /// Whether all ranks see the first batch whole.
    whole_first: bool,
}

/// The last batch of a pass is smaller: of its two windows not every rank gets one.
const WINDOWS: [i64; 4] = [9, 9, 9, 2];

impl Batches {
    fn batch(&self, number: usize) -> Inputs {
        let (windows, steps, seed) = (WINDOWS[number % WINDOWS.len()], 5, 10 * number as i64);
        let normal =
            |width: i64, of: i64| random([windows * steps, width], seed + of).view([windows, steps, width]);
        let scales = Tensor::from_slice(&[4.0f32, 2.0, 1.0, 0.5]);
        let first = Tensor::arange(windows, (Kind::Int64, Device::Cpu)).remainder(3).unsqueeze(1);
        let places = Tensor::arange(steps, (Kind::Int64, Device::Cpu)).unsqueeze(0);
        let states = normal(4, 1) * scales;
        let is_shared = self.pieces > 0 && !(self.whole_first && number == 0);
        if !self.ranks.is_alone() && is_shared {
            let kept = Tensor::zeros([windows, 1, 1], (Kind::Bool, Device::Cpu));
            let bounds = (0..=self.pieces).map(|piece| windows * piece / self.pieces).collect::<Vec<_>>();
            for piece in bounds.windows(2) {
                let part = self.ranks.part((piece[1] - piece[0]) as usize);
                let _ = kept.narrow(0, piece[0] + part.start as i64, part.len() as i64).fill_(1);
            }
            let _ = states.shallow_clone().masked_fill_(&kept.logical_not(), f64::NAN);
        }
        Inputs {
            states,
            words: None,
            images: None,
            previous: None,
            actions: normal(2, 2),
            rewards: None,
            returns_to_go: normal(1, 3),
            timesteps: places.repeat([windows, 1]),
            mask: places.ge_tensor(&first),
        }
    }
}

impl TaskData for Batches {
    fn batches_per_pass(&self) -> usize {
        WINDOWS.len()
    }

    fn batch_of_pass(&mut self, pass: usize, batch: usize) -> Inputs {
        self.batch(pass * WINDOWS.len() + batch)
    }

    fn sampled_batch(&mut self, batch: usize) -> Inputs {
        self.batch(batch)
    }

    fn ranks(&self) -> &'static dyn Ranks {
        self.ranks
    }
}

fn policy() -> TransformerPolicy {
    let sizes = PolicyConfig { state_dim: 4, act_dim: 2, hidden_size: 16, n_layer: 2, ..Default::default() };
    let policy =
        TransformerPolicy::new(PolicyConfig { n_positions: 16, max_ep_len: 8, ..sizes }, Device::Cpu);
    for (number, weight) in policy.weights().values().enumerate().filter(|(_, weight)| weight.dim() == 2) {
        let numbers = random([weight.numel() as i64, 1], number as i64).view_as(weight) * 0.3;
        tch::no_grad(|| weight.shallow_clone().copy_(&numbers));
    }
    policy
}

/// What a method finds, of every module its A and B.
fn find(method: &dyn AdapterMethod, mut data: Batches) -> (Vec<Tensor>, Option<Progress>) {
    let policy = policy();
    let sites: Vec<_> = policy.sites().cloned().collect();
    let found = method.initialise(&policy, &sites, &mut data, &mut |_| {}).unwrap();
    let adapters = found.adapters.unwrap();
    let halves = adapters.sites.values().flat_map(|lora| [&lora.down, &lora.up]);
    (halves.map(|half| half.detach().copy()).collect(), found.eva.map(|eva| eva.progress))
}

/// `pieces` and `whole_first` are [`Batches`]'; nothing where every rank looks at all.
#[track_caller]
fn check(method: &(dyn AdapterMethod + Sync), shared: Option<(i64, bool)>) {
    let batches = |ranks| match shared {
        Some((pieces, whole_first)) => Batches { ranks, pieces, whole_first },
        None => Batches { ranks, pieces: 0, whole_first: true },
    };
    let (one, progress) = find(method, batches(&OneRank));
    assert!(one.iter().any(|half| half.abs().max().double_value(&[]) > 0.0));
    for count in [2, 3, 4] {
        for (found, other) in Threads::run(count, |ranks| find(method, batches(ranks))) {
            assert_eq!(other.map(|other| other.batches), progress.map(|progress| progress.batches));
            assert_eq!(found.len(), one.len());
            for (found, one) in found.iter().zip(&one) {
                assert_eq!(found.size(), one.size(), "{} over {count} ranks: other ranks", method.name());
                let apart = (found - one).abs().max().double_value(&[]);
                let size = one.abs().max().double_value(&[]).max(1e-12);
                assert!(apart <= 1e-4 * size, "{} over {count} ranks: {apart} of {size}", method.name());
            }
        }
    }
}

#[test]
fn eva_is_one_process_s_by_either_rule() {
    for stop in [StopRule::SplitHalf, StopRule::ComponentCosine] {
        for tau in [0.9, 1.0] {
            let options =
                EvaOptions { stop, tau: Some(tau), max_batches: 12, rho: 2.0, ..EvaOptions::new(rank(2)) };
            check(&EvaOptions { solver: SolverKind::Gram, ..options.clone() }, Some((2, true)));
            check(&EvaOptions { solver: SolverKind::Incremental, ..options }, None);
        }
    }
}

#[test]
fn methods_by_moments_and_by_gradients_are_one_process_s() {
    check(&CorDa { lora: size(2), batches: 8, mode: Mode::Ipm }, Some((1, true)));
    check(&CorDa { lora: size(2), batches: 8, mode: Mode::Kpm }, Some((1, true)));
    check(&Ipa { lora: size(2), batches: 8, frozen: false }, Some((1, true)));
    check(&LoraGa { lora: size(2), batches: 8, gamma: 16.0 }, Some((1, false)));
    check(&LoraOne { lora: size(2), batches: 8, gamma: 128.0 }, Some((1, false)));
}
