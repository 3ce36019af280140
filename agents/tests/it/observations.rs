//! Policies whose states are numbers, a text and an image: each is read, learns, and acts alike by windows and whole.

use eva_rl_agents::adapter::{self, AdapterSet, Rank, Scaling};
use eva_rl_agents::loss::behaviour_cloning;
use eva_rl_agents::model::{
    self, ActionKind, EmbeddedImages, EmbeddingCache, ForwardContext, Given, ImageNetwork, Inputs,
    PolicyConfig, SlidingWindows, TransformerPolicy, Vocabulary,
};
use tch::{Device, Kind, Tensor};

/// Of five numbers, the middle one of which is the only character of a text, and an image.
fn config(network: ImageNetwork, image: [i64; 3]) -> PolicyConfig {
    let words = ["ball", "box", "go", "red"].map(str::to_owned).to_vec();
    model::new_config(PolicyConfig {
        state_dim: 5 + image.iter().product::<i64>(),
        image_shape: Some(image),
        image_encoder: Some(network),
        text: Some(Vocabulary { columns: 2..3, characters: "ab".to_owned(), words, longest: 3 }),
        act_dim: 6,
        hidden_size: 16,
        n_layer: 2,
        n_head: 2,
        max_ep_len: 50,
        context_length: Some(4),
        action_kind: ActionKind::Discrete,
        action_tanh: false,
        return_scale: Some(1.0),
        state_mean: Some(vec![0.0; 5]),
        state_std: Some(vec![1.0; 5]),
        target_return: Some(1.0),
        ..PolicyConfig::default()
    })
}

fn networks() -> [(ImageNetwork, [i64; 3]); 3] {
    [
        (ImageNetwork::NatureCnn, [4, 40, 36]),
        (ImageNetwork::ImpalaCnn, [3, 21, 18]),
        (ImageNetwork::Symbols, [3, 7, 7]),
    ]
}

/// Three windows of four steps.
fn inputs(image: [i64; 3]) -> Inputs {
    let [channels, height, width] = image;
    Inputs {
        states: Tensor::randn([3, 4, 4], (Kind::Float, Device::Cpu)),
        words: Some(Tensor::randint(5, [3, 4, 3], (Kind::Int64, Device::Cpu))),
        images: Some(Tensor::randint(40, [3, 4, channels, height, width], (Kind::Uint8, Device::Cpu))),
        previous: None,
        actions: Tensor::randint(6, [3, 4], (Kind::Int64, Device::Cpu)).one_hot(6).to_kind(Kind::Float),
        rewards: None,
        returns_to_go: Tensor::rand([3, 4, 1], (Kind::Float, Device::Cpu)),
        timesteps: Tensor::arange(4, (Kind::Int64, Device::Cpu)).repeat([3, 1]),
        mask: Tensor::ones([3, 4], (Kind::Bool, Device::Cpu)),
    }
}

fn logits(policy: &TransformerPolicy, inputs: &Inputs) -> Tensor {
    tch::no_grad(|| policy.forward(&mut ForwardContext::bare(), inputs).actions)
}

#[test]
fn every_network_s_policy_is_written_and_read_back() {
    for (network, image) in networks() {
        let folder = tempfile::tempdir().unwrap();
        let policy = TransformerPolicy::new(config(network, image), Device::Cpu);
        model::write(&policy, folder.path()).unwrap();
        let read = model::read(folder.path(), Given::default(), Device::Cpu).unwrap();
        assert_eq!(read.config().text, policy.config().text);
        assert_eq!(read.config().model_type, "eva_rl_decision_transformer");
        let inputs = inputs(image);
        assert_eq!(logits(&read, &inputs), logits(&policy, &inputs), "{network:?}");
    }
}

#[test]
fn every_part_of_a_state_counts_and_learns() {
    for (network, image) in networks() {
        let mut policy = TransformerPolicy::new(config(network, image), Device::Cpu);
        let (whole, other) = (inputs(image), inputs(image));
        let logits_of = |inputs: &Inputs| logits(&policy, inputs);
        let parts = [
            Inputs { states: other.states.copy(), ..whole.narrow(0, 3) },
            Inputs { words: other.words.as_ref().map(Tensor::copy), ..whole.narrow(0, 3) },
            Inputs { images: other.images.as_ref().map(Tensor::copy), ..whole.narrow(0, 3) },
        ];
        for changed in &parts {
            assert_ne!(logits_of(changed), logits_of(&whole), "{network:?}");
        }
        policy.unfreeze();
        behaviour_cloning(&policy, &mut ForwardContext::bare(), &whole).backward();
        for (name, tensor) in policy.weights() {
            let unused =
                ["encoder.wte", "encoder.wpe", "predict_return"].iter().any(|part| name.starts_with(part));
            let learns = tensor.grad().defined() && tensor.grad().abs().max().double_value(&[]) > 0.0;
            assert!(learns || unused, "{network:?}: {name}");
        }
    }
}

#[test]
fn images_embedded_once_and_windows_that_slide_give_a_whole_forward_s_actions() {
    let _guard = tch::no_grad_guard();
    for (network, image) in networks() {
        let policy = TransformerPolicy::new(config(network, image), Device::Cpu);
        let whole = inputs(image);
        let rows = [0, 1, 2];
        let mut embedded = EmbeddedImages::new(&policy, 3, 4).unwrap();
        let mut sliding = SlidingWindows::new(&policy, 3, 4).unwrap();
        for seen in 1..=4_usize {
            let latest = whole.images.as_ref().unwrap().select(1, seen as i64 - 1);
            embedded.push(&policy, &rows, &[seen; 3], &latest);
            let part = |x: &Tensor, steps: i64| x.narrow(1, seen as i64 - steps, steps);
            let window = |steps: i64, images: Tensor| Inputs {
                states: part(&whole.states, steps),
                words: whole.words.as_ref().map(|words| part(words, steps)),
                images: Some(images),
                previous: None,
                actions: part(&whole.actions, steps),
                rewards: None,
                returns_to_go: part(&whole.returns_to_go, steps),
                timesteps: part(&whole.timesteps, steps),
                mask: part(&whole.mask, steps),
            };
            let steps = seen as i64;
            let expected =
                policy.encode_for_acting(&window(steps, part(whole.images.as_ref().unwrap(), steps)));
            let once = policy.encode_for_acting(&window(steps, embedded.windows(&rows, &[seen; 3], seen)));
            assert!((&once - &expected).abs().max().double_value(&[]) < 1e-5, "{network:?}");
            // The latest two steps; the first has only itself, behind a step of padding.
            let two = if seen == 1 {
                let doubled = window(1, embedded.windows(&rows, &[1; 3], 1));
                let twice = |x: &Tensor| Tensor::cat(&[x, x], 1);
                let mask = Tensor::from_slice(&[false, true]).view([1, 2]).expand([3, 2], false);
                Inputs {
                    states: twice(&doubled.states),
                    words: doubled.words.as_ref().map(twice),
                    images: doubled.images.as_ref().map(twice),
                    previous: None,
                    actions: twice(&doubled.actions),
                    rewards: None,
                    returns_to_go: twice(&doubled.returns_to_go),
                    timesteps: twice(&doubled.timesteps),
                    mask,
                }
            } else {
                window(2, embedded.windows(&rows, &[seen; 3], 2))
            };
            let slid = policy.slide(&mut sliding, &rows, &two);
            assert!((slid - &expected).abs().max().double_value(&[]) < 1e-5, "{network:?} at {seen}");
        }
    }
}

#[test]
fn what_a_state_cannot_hold_is_refused() {
    let refused = |config: PolicyConfig, sentence: &str| {
        let error = model::check_config(&config).unwrap_err().to_string();
        assert!(error.contains(sentence), "{error}");
    };
    let whole = || config(ImageNetwork::NatureCnn, [4, 40, 36]);
    refused(PolicyConfig { image_shape: Some([4, 35, 40]), ..whole() }, "with sides of at least 36 pixels");
    refused(PolicyConfig { state_dim: 5759, ..whole() }, "expected at least the 5760 bytes of an image");
    refused(PolicyConfig { image_shape: None, ..whole() }, "expected absent without image_shape");
    let text = Vocabulary { columns: 4..6, ..whole().text.unwrap() };
    refused(PolicyConfig { text: Some(text), ..whole() }, "expected columns among the 5 of a state's row");
}

/// Images of bytes `[N, C, H, W]`, one after another.
fn bytes(images: &Tensor) -> Vec<u8> {
    Vec::try_from(images.flatten(0, -1)).unwrap()
}

#[test]
fn an_image_is_embedded_once_and_alike_whatever_it_is_embedded_with() {
    let _guard = tch::no_grad_guard();
    for (network, image) in networks() {
        let policy = TransformerPolicy::new(config(network, image), Device::Cpu);
        let shape = [&[100, 1], image.as_slice()].concat();
        let images = Tensor::randint(256, &*shape, (Kind::Uint8, Device::Cpu)); // [100, 1, C, H, W]
        let cache = |bytes| EmbeddingCache::new(&policy, &AdapterSet::default(), bytes).unwrap();
        let mut all = cache(1 << 20);
        let expected = all.embed(&policy, &bytes(&images)); // [100, D]
        assert_eq!(all.len(), 100);
        let mut steps = inputs(image);
        for one in [0, 63, 64, 99] {
            let alone = cache(1 << 20).embed(&policy, &bytes(&images.narrow(0, one, 1)));
            assert_eq!(alone, expected.narrow(0, one, 1), "{network:?}: image {one}");
        }
        // Shown again, beside a new one; and once more where only ten fit.
        let again = Tensor::cat(
            &[images.narrow(0, 90, 10), images.narrow(0, 95, 5), 255 - images.narrow(0, 0, 1)],
            0,
        );
        let found = all.embed(&policy, &bytes(&again));
        assert_eq!(found.narrow(0, 0, 10), expected.narrow(0, 90, 10));
        assert_eq!(found.narrow(0, 10, 5), expected.narrow(0, 95, 5));
        assert_eq!(all.len(), 101);
        let mut small = cache(10 * 4 * expected.size()[1] as usize);
        let _kept = small.embed(&policy, &bytes(&images.narrow(0, 90, 10)));
        for _ in 0..2 {
            assert_eq!(small.embed(&policy, &bytes(&again)), found, "{network:?}");
            assert_eq!(small.len(), 10);
        }
        // What the policy says of them is what it says of the images.
        let logits_of_images = logits(&policy, &steps);
        let (batch, length) = steps.timesteps.size2().unwrap();
        let embedded = all.embed(&policy, &bytes(steps.images.as_ref().unwrap()));
        steps.images = Some(embedded.view([batch, length, -1]));
        assert!(
            (logits(&policy, &steps) - logits_of_images).abs().max().double_value(&[]) < 1e-5,
            "{network:?}"
        );
    }
}

#[test]
fn nothing_is_kept_of_an_image_whose_encoder_is_trained() {
    let (network, image) = networks()[0];
    let mut policy = TransformerPolicy::new(config(network, image), Device::Cpu);
    let cached = |policy: &TransformerPolicy, end: &str| {
        let mut adapters = AdapterSet::default();
        for site in policy.sites_named(&[end.to_owned()]).unwrap() {
            let scaling = Scaling { alpha: 1.0, rank_stabilised: false };
            let lora =
                adapter::lora(site.input, site.output, Rank::try_from(1).unwrap(), scaling, Device::Cpu);
            adapters.sites.insert(site.module.clone(), lora);
        }
        EmbeddingCache::new(policy, &adapters, 1 << 20).is_some()
    };
    assert!(cached(&policy, "c_attn"));
    assert!(!cached(&policy, "embed_image.convolutions.1"));
    assert!(!cached(&policy, "embed_image.projection"));
    policy.unfreeze();
    assert!(!cached(&policy, "c_attn"));
}
