//! The library from outside, against references and hostile files.
//!
//! | module | what it tests | reference |
//! |---|---|---|
//! | `atari` | the Atari decision transformer's files, and what of it learns | – |
//! | `cache` | cached contexts and sliding windows | whole forwards |
//! | `convolutions` | adapters and EVA on convolutions | PEFT, numpy |
//! | `foundation` | contexts with ALiBi and of blocks that see a few tokens, files written back whole | whole forwards |
//! | `hostile` | files that contradict themselves | – |
//! | `methods` | adapter initialisation, AdaLoRA, LoRA+ | PEFT |
//! | `missions` | symbols and missions as ids | transformers, EnvPool |
//! | `observations` | states of numbers, texts and images | whole forwards |
//! | `peft` | policies, adapters and EVA | transformers, PEFT |
//! | `vision` | EVA on a vision transformer | transformers, PEFT |

mod atari;
mod cache;
mod convolutions;
mod foundation;
mod hostile;
mod methods;
mod missions;
mod observations;
mod peft;
mod support;
mod vision;
