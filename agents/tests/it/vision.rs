//! EVA on a model that is no policy: a vision transformer, beside what transformers and PEFT computed
//! (fixtures by `tools/golden/golden_vision.py`).
//!
//! The model is here and not in the library, which shows that solvers and ranks know no model: `Eva` is told
//! names and widths, and a closure shows it the inputs of maps.

use std::collections::BTreeMap;

use eva_rl_agents::adapter::Rank;
use eva_rl_agents::adapter_init::eva::{Eva, EvaOptions, EvaResult, SharedInput, SolverKind, StopRule};
use eva_rl_agents::model::Tap;
use eva_rl_agents::tensor::Rows;
use tch::{Device, Kind, Tensor};

use crate::support;

const LAYERS: usize = 2;
const WIDTH: i64 = 16;
const INNER_WIDTH: i64 = 24;
const HEADS: i64 = 2;
const PATCH: i64 = 4;
const BATCHES: usize = 12;

fn tensors(name: &str) -> BTreeMap<String, Tensor> {
    support::tensors(&support::golden("vision").join(name))
}

/// Hugging Face's `ViTModel`, by the names of its modules.
struct Vit(BTreeMap<String, Tensor>);

impl Vit {
    fn read() -> Self {
        Self(tensors("model.safetensors"))
    }

    /// The last hidden state: `[B, 3, height, width]` → `[B, K, D]`.
    fn forward(&self, tap: &mut dyn Tap<String>, images: &Tensor) -> Tensor {
        let mut x = self.embed(images);
        for layer in 0..LAYERS {
            let layer = format!("layers.{layer}");
            x = &x + self.attend(tap, &layer, &self.norm(&format!("{layer}.layernorm_before"), &x));
            let normed = self.norm(&format!("{layer}.layernorm_after"), &x);
            let wide = self.project(tap, format!("{layer}.mlp.fc1"), &normed).gelu("none"); // [B, K, inner]
            x = &x + self.project(tap, format!("{layer}.mlp.fc2"), &wide);
        }
        self.norm("layernorm", &x)
    }

    /// A class token and a token a patch: `[B, 3, height, width]` → `[B, K, D]`.
    fn embed(&self, images: &Tensor) -> Tensor {
        let (weight, bias) = self.weight_and_bias("embeddings.patch_embeddings.projection");
        let stride = [PATCH, PATCH];
        let patches = images.conv2d(weight, Some(bias), stride, [0, 0], [1, 1], 1); // [B, D, rows, columns]
        let patches = patches.flatten(2, 3).transpose(1, 2); // [B, K − 1, D]
        let class = self.0["embeddings.cls_token"].expand([images.size()[0], 1, WIDTH], false);
        Tensor::cat(&[class, patches], 1) + &self.0["embeddings.position_embeddings"]
    }

    /// Self-attention of every token to every token: `[B, K, D]` → `[B, K, D]`.
    fn attend(&self, tap: &mut dyn Tap<String>, layer: &str, x: &Tensor) -> Tensor {
        let (batch, tokens, _) = x.size3().unwrap();
        let [q, k, v] = ["q_proj", "k_proj", "v_proj"].map(|map| {
            let y = self.project(tap, format!("{layer}.attention.{map}"), x); // [B, K, D]
            y.view([batch, tokens, HEADS, WIDTH / HEADS]).transpose(1, 2) // [B, H, K, D/H]
        });
        let scores = q.matmul(&k.transpose(-2, -1)) / ((WIDTH / HEADS) as f64).sqrt(); // [B, H, K, K]
        let mixed = scores.softmax(-1, Kind::Float).matmul(&v).transpose(1, 2).flatten(2, 3); // [B, K, D]
        self.project(tap, format!("{layer}.attention.o_proj"), &mixed)
    }

    /// A map that may get an adapter: `[B, K, in]` → `[B, K, out]`.
    fn project(&self, tap: &mut dyn Tap<String>, site: String, x: &Tensor) -> Tensor {
        let (weight, bias) = self.weight_and_bias(&site);
        tap.record(&site, &Rows::of(x));
        x.linear(weight, Some(bias))
    }

    /// `[B, K, D]` → `[B, K, D]`.
    fn norm(&self, name: &str, x: &Tensor) -> Tensor {
        let (weight, bias) = self.weight_and_bias(name);
        x.layer_norm([WIDTH], Some(weight), Some(bias), 1e-12, false)
    }

    fn weight_and_bias(&self, name: &str) -> (&Tensor, &Tensor) {
        (&self.0[&format!("{name}.weight")], &self.0[&format!("{name}.bias")])
    }
}

/// Every map that gets an adapter, with those of the same input together.
fn inputs() -> Vec<SharedInput<String>> {
    let of_layer = |layer: usize| {
        let input = |maps: &[&str], width: i64| {
            let sites = maps.iter().map(|map| format!("layers.{layer}.{map}")).collect();
            SharedInput { sites, width, of_patches: false }
        };
        [
            input(&["attention.q_proj", "attention.k_proj", "attention.v_proj"], WIDTH),
            input(&["attention.o_proj"], WIDTH),
            input(&["mlp.fc1"], WIDTH),
            input(&["mlp.fc2"], INNER_WIDTH),
        ]
    };
    (0..LAYERS).flat_map(of_layer).collect()
}

/// What EVA finds in the fixture's images, and the batches that it asked for.
fn eva(options: EvaOptions) -> (EvaResult<String>, usize) {
    let (vit, images) = (Vit::read(), &tensors("batches.safetensors")["pixel_values"]);
    let mut eva = Eva::new(inputs(), options, Some(BATCHES), Device::Cpu);
    for batch in 0..BATCHES {
        let pass = |tap: &mut dyn Tap<String>| drop(vit.forward(tap, &images.get(batch as i64)));
        if eva.observe(pass).unwrap().done {
            let batches = eva.batches();
            return (eva.finish().unwrap(), batches);
        }
    }
    panic!("the fixture's batches did not suffice");
}

fn options(rho: f64, solver: SolverKind, stop: StopRule) -> EvaOptions {
    EvaOptions { rho, solver, stop, ..EvaOptions::new(Rank::try_from(4).unwrap()) }
}

/// Those of A that exist, `[R, in]` each, the highest rank first.
fn by_rank<'a>(components: impl Iterator<Item = Option<&'a Tensor>>) -> Vec<&'a Tensor> {
    let mut components: Vec<&Tensor> = components.flatten().collect();
    components.sort_by_key(|down| std::cmp::Reverse(down.size()[0]));
    components
}

#[track_caller]
fn check_eva(rho: f64, folder: &str) {
    let (found, batches) = eva(options(rho, SolverKind::Incremental, StopRule::ComponentCosine));
    let forwards = std::fs::read(support::golden("vision").join(folder).join("forwards.json")).unwrap();
    let forwards: serde_json::Value = serde_json::from_slice(&forwards).unwrap();
    assert_eq!(forwards["forwards"], batches + 1, "PEFT's first forward looks for equal inputs");

    let expected = tensors(&format!("{folder}/adapter_model.safetensors"));
    for SharedInput { sites, .. } in inputs() {
        // Maps of one input offer equal shares. Where the budget ends among them, as it does in layer 0, PEFT's
        // choice follows from an unstable sort and a swap with the first map, and ours from their names. How many
        // of them get one direction more is the same, so their ranks are compared in descending order.
        let found = by_rank(sites.iter().map(|site| found.components.get(site)));
        let name = |site: &String| format!("base_model.model.{site}.lora_A.weight");
        let expected = by_rank(sites.iter().map(|site| expected.get(&name(site))));
        let ranks = |components: &[&Tensor]| components.iter().map(|down| down.size()[0]).collect::<Vec<_>>();
        assert_eq!(ranks(&found), ranks(&expected), "ranks of {sites:?}");
        for (found, expected) in found.iter().zip(&expected) {
            // Cosines of the principal angles between the two spanned subspaces.
            let (_, cosines, _) = found.matmul(&expected.tr()).svd(true, true);
            let worst = cosines.min().double_value(&[]);
            assert!(worst > 0.999, "{sites:?} span another subspace: cosine {worst}");
        }
    }
}

#[test]
fn the_model_computes_what_transformers_does() {
    struct NoTap;
    impl Tap<String> for NoTap {
        fn record(&mut self, _: &String, _: &Rows) {}
    }
    let images = tensors("batches.safetensors")["pixel_values"].get(0);
    let difference =
        Vit::read().forward(&mut NoTap, &images) - &tensors("outputs.safetensors")["last_hidden_state"];
    let difference = difference.abs().max().double_value(&[]);
    assert!(difference < 1e-5, "the output differs by {difference}");
}

#[test]
fn eva_with_equal_ranks_finds_peft_s_subspaces() {
    check_eva(1.0, "eva-rho-1");
}

#[test]
fn eva_with_shared_ranks_finds_peft_s_ranks_and_subspaces() {
    check_eva(2.0, "eva-rho-2");
}

#[test]
fn modules_of_one_input_get_the_same_components_up_to_their_ranks() {
    let (found, _) = eva(options(2.0, SolverKind::Incremental, StopRule::ComponentCosine));
    for SharedInput { sites, .. } in inputs() {
        let components = by_rank(sites.iter().map(|site| found.components.get(site)));
        for down in &components {
            assert_eq!(**down, components[0].narrow(0, 0, down.size()[0]), "{sites:?}");
        }
    }
}

#[test]
fn an_input_that_modules_share_is_observed_once() {
    let (vit, images) = (Vit::read(), tensors("batches.safetensors")["pixel_values"].get(0));
    let options = options(2.0, SolverKind::Incremental, StopRule::ComponentCosine);
    let mut eva = Eva::new(inputs(), options, None, Device::Cpu);
    let pass = |tap: &mut dyn Tap<String>| {
        drop(vit.forward(tap, &images));
        let unread = Tensor::full([8, WIDTH], f64::NAN, (Kind::Float, Device::Cpu)); // refused where it is read
        tap.record(&"layers.0.attention.k_proj".to_owned(), &Rows::of(&unread));
    };
    eva.observe(pass).unwrap();
}

#[test]
fn halves_that_agree_stop_it_and_the_budget_is_spent_exactly() {
    let (found, batches) = eva(options(2.0, SolverKind::Auto, StopRule::SplitHalf));
    assert!(batches < BATCHES, "nothing was left to stop for");
    let ranks: Vec<i64> = found.sites.iter().map(|report| report.rank).collect();
    assert_eq!(ranks.len(), 6 * LAYERS);
    assert_eq!(ranks.iter().sum::<i64>(), 4 * 6 * LAYERS as i64, "{ranks:?}");
}
