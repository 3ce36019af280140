//! EVA over a decision transformer: which tokens count, what adapters result.

use tch::Tensor;

use super::{Eva, EvaError, Found, Progress, SharedInput};
use crate::adapter::{self, AdapterSet};
use crate::model::{DecisionTransformer, Inputs};
use crate::pass::Pass;
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
    let order = &policy.config().token_order;
    let counted: Vec<bool> = order.iter().map(|token| tokens.is_empty() || tokens.contains(token)).collect();
    let steps = inputs.mask.size()[1];
    let counted = Tensor::from_slice(&counted).to_device(policy.device()).repeat([steps]); // [K]
    let counts = policy.token_mask(inputs).logical_and(&counted).flatten(0, -1); // [B · K]
    let all = counts.all().int64_value(&[]) == 1;
    let rows = counts.nonzero().squeeze_dim(-1); // [N]
    let no_adapters = AdapterSet::default();
    eva.observe((!all).then_some(&rows), |tap| {
        let mut pass = Pass { adapters: &no_adapters, tap, train: false, mixed: false };
        tch::no_grad(|| policy.show(&mut pass, inputs));
    })
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
