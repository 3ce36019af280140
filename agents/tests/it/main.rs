//! The library from outside, against references and hostile files.
//!
//! | module | what it tests | reference |
//! |---|---|---|
//! | `cache` | cached contexts and sliding windows | whole forwards |
//! | `hostile` | files that contradict themselves | – |
//! | `methods` | adapter initialisation, AdaLoRA, LoRA+ | PEFT |
//! | `peft` | policies, adapters and EVA | transformers, PEFT |
//! | `vision` | EVA on a vision transformer | transformers, PEFT |

mod cache;
mod hostile;
mod methods;
mod peft;
mod support;
mod vision;
