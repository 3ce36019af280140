//! Names that configs of earlier versions have, and what they are called now.

/// Keys: the table (`*` is any one), the earlier name and today's.
const KEYS: &[(&str, &str, &str)] = &[
    ("", "objective", "loss"),
    ("loss", "imitation", "behaviour_cloning"),
    ("data", "evenly", "balanced"),
    ("optimiser", "rule", "algorithm"),
    ("optimiser.schedule.*", "warm_up", "warmup"),
    ("adapter.eva", "directions", "components"),
    ("adapter.eva", "score", "allocation"),
    ("adapter.adalora", "warm_up", "tinit"),
    ("adapter.adalora", "last", "tfinal"),
    ("adapter.adalora", "every", "delta_t"),
    ("adapter.adalora", "orthogonality", "orth_reg_weight"),
    ("online.td3_odt", "critic_warm_up", "critic_warmup"),
    ("online.td3_odt", "trace", "lambda"),
];

/// Words: the key, the earlier word and today's.
const WORDS: &[(&str, &str, &str)] = &[
    ("adapter.eva.stop", "halves", "split_half"),
    ("adapter.eva.stop", "turn", "component_cosine"),
    ("adapter.eva.components", "trailing", "minor"),
    ("adapter.eva.allocation", "ratio", "explained_variance_ratio"),
    ("adapter.eva.allocation", "paper", "l1_norm"),
    ("adapter.corda.mode", "preview", "ipm"),
    ("adapter.corda.mode", "preserve", "kpm"),
];

/// Today's name of what was `name` in the table at `path`.
pub(super) fn key(path: &[String], name: &str) -> Option<&'static str> {
    find(KEYS, path, name)
}

/// Today's word for what was `word` at the key `path`.
pub(super) fn word(path: &[String], word: &str) -> Option<&'static str> {
    find(WORDS, path, word)
}

fn find(renamed: &[(&str, &str, &'static str)], path: &[String], name: &str) -> Option<&'static str> {
    let is_there = |pattern: &str| {
        let parts: Vec<&str> = pattern.split('.').filter(|part| !part.is_empty()).collect();
        parts.len() == path.len() && parts.iter().zip(path).all(|(part, name)| *part == "*" || part == name)
    };
    renamed.iter().find(|(place, old, _)| *old == name && is_there(place)).map(|(_, _, new)| *new)
}
