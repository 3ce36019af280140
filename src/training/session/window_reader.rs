//! Windows as the policy reads them in updates: an image is embedded once in a run, where nobody trains its encoder.

use eva_rl_agents::model::{Conditioning, EmbeddingCache, Inputs, TransformerPolicy};

use super::learner::Learner;
use crate::data::Windows;

/// Bytes of embedded images that are kept: half a million of a policy of width 128.
const EMBEDDED_BYTES: usize = 256 << 20;

/// Makes the policy's inputs of windows.
pub struct WindowReader {
    /// What the image encoder has made of the images so far; none where it is trained, or where there is none.
    embedded: Option<EmbeddingCache>,
}

impl WindowReader {
    /// For the policy of `learner`.
    pub fn new(learner: &Learner) -> Self {
        Self { embedded: EmbeddingCache::new(&learner.policy, &learner.adapters, EMBEDDED_BYTES) }
    }

    /// The inputs of `policy`, which is the one that this was made for.
    pub fn read(
        &mut self,
        policy: &TransformerPolicy,
        conditioning: &Conditioning,
        windows: &Windows,
    ) -> Inputs {
        let window = windows.view();
        let Some(cache) = &mut self.embedded else { return conditioning.inputs(&window) };
        let embedded = tch::no_grad(|| cache.embed(policy, window.pixels)); // [B·T, D]
        let images = embedded.view([window.batch as i64, window.steps as i64, -1]);
        conditioning.inputs_of(&window, Some(images))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use eva_rl_agents::adapter::{AdapterFolder, AdapterSet, Origin, Rank, Scaling, lora};
    use eva_rl_agents::model;
    use tch::{Device, Kind};

    use super::*;
    use crate::config;

    /// The kind of the images of a window's inputs, where the modules of these names have adapters, or all is trained.
    fn kind_of_images(adapted: Option<&str>) -> Kind {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let policy =
            model::read(&root.join("policies/pixels"), model::Given::default(), Device::Cpu).unwrap();
        let conditioning = Conditioning::new(policy.config(), Device::Cpu).unwrap();
        let plan = config::load(&root.join("configs/pixels-finetune.toml"), &[]).unwrap().plan().unwrap();
        let scaling = Scaling { alpha: 1.0, rank_stabilised: false };
        let adapters = adapted.map(|name| {
            let mut adapters = AdapterSet::default();
            for site in policy.sites_named(&[name.to_owned()]).unwrap() {
                let lora = lora(site.input, site.output, Rank::try_from(1).unwrap(), scaling, Device::Cpu);
                adapters.sites.insert(site.module, lora);
            }
            let facts = AdapterFolder {
                base: String::new(),
                revision: None,
                fingerprint: None,
                rank: 1,
                scaling,
                origin: Origin::Lora,
                fan_in_fan_out: true,
                kernels: policy.kernels(),
            };
            (facts, adapters)
        });
        let learner = Learner::new(policy, adapters, &plan);
        let windows = Windows::new(2, 1, 0, 1).with_images(4 * 84 * 84);
        let inputs = WindowReader::new(&learner).read(&learner.policy, &conditioning, &windows);
        inputs.images.unwrap().kind()
    }

    #[test]
    fn images_are_embedded_before_updates_where_nobody_trains_their_encoder() {
        assert_eq!(kind_of_images(Some("c_fc")), Kind::Float);
        assert_eq!(kind_of_images(Some("convolutions.0")), Kind::Uint8);
        assert_eq!(kind_of_images(None), Kind::Uint8);
    }
}
