//! Decision transformers, adapters, EVA, losses and optimisers.
