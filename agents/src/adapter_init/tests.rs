//! What holds of every method.

use tch::{Device, Kind, Tensor};

use super::decomposition::SiteError;
use super::site_method::{Requires, SiteContext, SiteMethod};
use super::testing::*;
use super::*;

const SHAPES: [[i64; 2]; 3] = [[6, 9], [9, 6], [7, 7]];

fn methods(rank: u16) -> Vec<Box<dyn SiteMethod>> {
    let corda = |mode| CorDa { lora: size(rank), batches: 1, mode };
    vec![
        Box::new(PlainLora(size(rank))),
        Box::new(PiSsa(size(rank))),
        Box::new(MiLora(size(rank))),
        Box::new(OLora(size(rank))),
        Box::new(corda(Mode::Ipm)),
        Box::new(corda(Mode::Kpm)),
        Box::new(LoraGa { lora: size(rank), batches: 1, gamma: 16.0 }),
        Box::new(Ipa { lora: size(rank), batches: 1, frozen: true }),
        Box::new(AdaLora {
            lora: size(rank),
            target_rank: self::rank(1),
            tinit: 1,
            tfinal: 1,
            delta_t: 1,
            beta1: 0.85,
            beta2: 0.85,
            orth_reg_weight: 0.5,
        }),
    ]
}

fn lora_one(rank: u16) -> LoraOne {
    LoraOne { lora: size(rank), batches: 1, gamma: 128.0 }
}

fn check_refused(method: &dyn SiteMethod, wanted: i64) {
    let (weight, moments) = (random([3, 8], 1), Tensor::eye(8, (Kind::Double, Device::Cpu)));
    let given = SiteContext { weight: &weight, moments: Some(&moments), gradient: Some(&weight) };
    let error = method.init(&given).unwrap_err();
    assert_eq!(error, SiteError::TooFewComponents { wanted, found: 3, input: 8, output: 3 });
}

#[test]
fn a_rank_above_a_module_s_own_is_refused() {
    for method in methods(4) {
        match method.name().as_str() {
            "LoRA" | "AdaLoRA" | "IPA, A frozen" => {} // ranks above a module's own are possible
            "LoRA-GA" => check_refused(method.as_ref(), 8),
            _ => check_refused(method.as_ref(), 4),
        }
    }
    check_refused(&lora_one(4), 4);
}

#[test]
fn what_is_not_finite_is_refused() {
    let weight = random([4, 4], 1);
    let bad = random([4, 4], 1) * f64::NAN;
    let given = SiteContext { weight: &weight, moments: Some(&bad), gradient: Some(&bad) };
    for method in methods(2).iter().filter(|method| method.requires() != Requires::Weights) {
        assert_eq!(method.init(&given).unwrap_err(), SiteError::NotFinite, "{}", method.name());
    }
    assert_eq!(lora_one(2).init(&given).unwrap_err(), SiteError::NotFinite);
}

#[test]
fn every_method_but_lora_one_leaves_the_policy_s_outputs_unchanged() {
    for shape in SHAPES {
        let (weight, gradient) = (random(shape, 1), random(shape, 2));
        let x = random([40, shape[1]], 3).to_kind(Kind::Double);
        let moments = x.tr().matmul(&x) / 40.0;
        let given = SiteContext { weight: &weight, moments: Some(&moments), gradient: Some(&gradient) };
        for method in methods(3) {
            let lora = method.init(&given).unwrap();
            assert_changes_nothing(&lora);
            assert_eq!(lora.merged(&weight), weight);
            assert_eq!((lora.down.size(), lora.up.size()), (vec![3, shape[1]], vec![shape[0], 3]));
        }
        let lora = lora_one(3).init(&given).unwrap();
        assert!(lora.frozen_init.is_none() && lora.delta().abs().max().double_value(&[]) > 0.0);
    }
}
