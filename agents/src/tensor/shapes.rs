//! The axes that shapes in this crate are written with.
//!
//! | letter | axis |
//! |---|---|
//! | B | batch: windows that one forward pass takes together |
//! | T | environment steps in a window |
//! | K | tokens: 3·T, ordered return-to-go, state, action |
//! | D | width of the residual stream |
//! | H | attention heads |
//! | I | inner width of the feed-forward part |
//! | S, A | width of a state, of an action |
//! | R | rank of an adapter |
//! | N | rows: unpadded tokens of a batch |
