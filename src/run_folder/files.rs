//! The files of a run's folder, for the reference.

/// Each file's path within the folder, and what it holds.
pub const FILES: &[(&str, &str)] = &[
    (
        "config.toml",
        "the config as it ran, with every default and `--set` in it; `eva-rl train` takes it again",
    ),
    (
        "README.md",
        "the model card: what was run, the results, and how to use the policy; written when the run ends",
    ),
    (
        "evaluation.json",
        "every evaluation: per target return the mean return, its standard deviation and bootstrap interval, length, \
         success and normalised score, with the returns that it is measured by",
    ),
    ("metrics.jsonl", "every number of the [TensorBoard tags](tensorboard.md), one JSON object a line"),
    ("events.out.tfevents.…", "the same for TensorBoard, over updates"),
    (
        "env_steps/events.out.tfevents.…",
        "of a run that explores: returns, lengths and success over environment steps",
    ),
    ("eva.json", "of EVA: rank, candidate components, explained variance and convergence of each module"),
    ("eva.svg", "of EVA: the same as a figure"),
    (
        "before.gif, after.gif",
        "the first episode of the first and of the last evaluation, where the environment draws",
    ),
    ("best/", "what the best evaluation had: `adapter/`, or `policy/` where all weights are trained"),
    ("best/adapter/adapter_config.json", "the adapter's config, PEFT's"),
    ("best/adapter/adapter_model.safetensors", "the adapter's weights, PEFT's names"),
    ("best/adapter/eva_rl.json", "what PEFT has no place for, such as the fingerprint of the base policy"),
    ("checkpoints/NNNNNNNN/", "a checkpoint after so many updates: `adapter/` or `policy/` as in `best/`"),
    (
        "checkpoints/NNNNNNNN/state.json",
        "where the run stood: updates, rounds, environment steps, evaluations",
    ),
    ("checkpoints/NNNNNNNN/training_state.safetensors", "optimiser, online algorithm and replay buffer"),
    ("checkpoints/NNNNNNNN.torn/", "a checkpoint that could not be read when the run was resumed"),
    (
        "subspaces/",
        "what `eva-rl subspaces` has written: `subspaces.json`, and its numbers as TensorBoard's events",
    ),
    (".lock", "held by the process that writes the run; it names its id"),
];
