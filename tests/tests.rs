//! The program as a user runs it. Units are tested beside their code.
//!
//! | module | what it holds |
//! |---|---|
//! | `job` | the main job, from a dataset to an adapted policy, and its run folder |
//! | `methods` | every method of adapter initialisation, trained and resumed |
//! | `policies` | policies of every kind, from every format, and what they may lack |
//! | `online` | every algorithm of online fine-tuning, stopped within a round too |
//! | `activations` | EVA of any model whose activations are in files |
//! | `ranks` | runs on several ranks |
//! | `rollout` | how policies act: by a cache or by whole windows |
//! | `stop` | runs that are killed or interrupted, and go on |
//! | `tasks` | one policy of several tasks |
//! | `sweep` | a grid of runs, and a report of them |
//! | `subspaces` | how a run's adapters moved |
//! | `learning` | returns rise: a tiny task for each algorithm of `[online]` |
//! | `data_statistics` | what a policy takes from a dataset, and whether it does what the data did |
//! | `parity` | foundation policies beside their reference implementations |
//! | `foundation` | policies of many tasks: named, played, trained, refused |
//! | `missions` | a policy of many tasks that reads BabyAI's missions by its own tokenizer |
//! | `half_precision` | weights that files keep in 16 bits |
//! | `new_tasks` | tasks that a policy of many tasks does not know, and demonstrations |
//! | `new_policies` | new policies whose actions are ids of a vocabulary |
//! | `pixels` | policies that read images: data, training, refusals |
//! | `bridge` | environments in Python workers, which fail and never outlive the program |
//! | `hub`, `hub_names`, `hub_push` | downloads with faults, names in every command, uploads; against `hub_server`, in `hub_bench` |
//! | `init` | configs to start from |
//! | `bad_input` | wrong input: one sentence, exit 2, nothing written |
//! | `messages` | what the program says of common mistakes, word for word |
//! | `examples` | every example of `--help` |
//! | `faults` | kills, full disks and damaged files |
//! | `structure`, `imports` | the rules that ARCHITECTURE.md states about the sources |

mod activations;
mod bad_input;
#[cfg(target_os = "linux")]
mod bridge;
mod data_statistics;
mod examples;
mod faults;
mod foundation;
mod half_precision;
mod hub;
mod hub_bench;
mod hub_names;
mod hub_push;
mod hub_server;
mod imports;
mod init;
mod job;
mod learning;
mod messages;
mod methods;
#[cfg(target_os = "linux")]
mod missions;
mod new_policies;
mod new_tasks;
mod online;
mod parity;
#[cfg(target_os = "linux")]
mod pixels;
mod policies;
#[cfg(feature = "mpi")]
mod ranks;
mod rollout;
mod stop;
mod structure;
mod subspaces;
mod support;
mod sweep;
mod tasks;
