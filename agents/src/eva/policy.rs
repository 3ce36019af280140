//! EVA over a decision transformer: which tokens count, what adapters result.

use tch::{Device, Tensor};

use super::{Eva, EvaError, Found, Half, Progress, SharedInput};
use crate::adapter::{self, AdapterSet};
use crate::model::{DecisionTransformer, Inputs};
use crate::pass::{Pass, Tap};
use crate::site::{Site, Token};

/// The inputs of `sites`, of which a decision transformer's blocks share none.
pub fn inputs_of(policy: &DecisionTransformer, sites: &[Site]) -> Vec<SharedInput<Site>> {
    let input = |&site: &Site| {
        let (width, _) = policy.site_shape(site).expect("a site of this policy");
        SharedInput { sites: vec![site], width }
    };
    sites.iter().map(input).collect()
}

/// Shows EVA one batch of windows; only unpadded tokens of these kinds count, all kinds where there are none.
pub fn observe_policy(
    eva: &mut Eva<Site>,
    policy: &DecisionTransformer,
    inputs: &Inputs,
    tokens: &[Token],
) -> Result<Progress, EvaError> {
    let windows = inputs.mask.size()[0];
    if !eva.takes_halves() || windows < 2 || policy.device() != Device::Cpu {
        let rows = counted(policy, inputs, tokens);
        return eva.observe(rows.as_ref(), |tap| show(policy, inputs, tap));
    }
    let (first, second) = (inputs.narrow(0, windows / 2), inputs.narrow(windows / 2, windows - windows / 2));
    let twin = policy.share();
    eva.observe_halves(
        Half { rows: counted(policy, &first, tokens), pass: |tap: &mut dyn Tap| show(policy, &first, tap) },
        Half {
            rows: counted(policy, &second, tokens),
            pass: move |tap: &mut dyn Tap| show(&twin, &second, tap),
        },
    )
}

/// The unpadded tokens of these kinds, by their places in `[B · K]`: `[N]`; nothing where all count.
fn counted(policy: &DecisionTransformer, inputs: &Inputs, tokens: &[Token]) -> Option<Tensor> {
    let order = &policy.config().token_order;
    let counted: Vec<bool> = order.iter().map(|token| tokens.is_empty() || tokens.contains(token)).collect();
    let steps = inputs.mask.size()[1];
    let counted = Tensor::from_slice(&counted).to_device(policy.device()).repeat([steps]); // [K]
    let counts = policy.token_mask(inputs).logical_and(&counted).flatten(0, -1); // [B · K]
    let all = counts.all().int64_value(&[]) == 1;
    (!all).then(|| counts.nonzero().squeeze_dim(-1))
}

fn show(policy: &DecisionTransformer, inputs: &Inputs, tap: &mut dyn Tap) {
    let mut pass = Pass { adapters: &AdapterSet::default(), tap, train: false, mixed: false };
    tch::no_grad(|| policy.show(&mut pass, inputs));
}

/// Adapters that begin along the directions found, all at one `scale`, with B zero.
pub fn adapters(found: &Found<Site>, policy: &DecisionTransformer, scale: f64, dropout: f64) -> AdapterSet {
    let mut adapters = AdapterSet { dropout, ..AdapterSet::default() };
    for (site, down) in &found.directions {
        let (_, output) = policy.site_shape(*site).expect("a site of this policy");
        adapters.sites.insert(*site, adapter::placed(down.copy(), output, scale));
    }
    adapters
}
