//! Scripted players of Atari games, which look at EnvPool's frames alone: 84 × 84, grey, the last four of them.

mod breakout;
mod paddle;
mod pong;
mod screen;

use serde_json::{Value, json};

use self::screen::{STACK, Screen};
use crate::core::controller::VecController;
use crate::core::error::EnvError;
use crate::core::kwargs::Kwargs;

/// The player of one of EnvPool's games, by its name there; none where nobody has written one.
pub(crate) fn player(
    id: &str,
    game: &str,
    kwargs: &Kwargs,
) -> Option<Result<Box<dyn VecController>, EnvError>> {
    let act = match game {
        "Pong-v5" => pong::act,
        "Breakout-v5" => breakout::act,
        _ => return None,
    };
    for (name, default) in frame_kwargs() {
        if let Some(found) = kwargs.get(name).filter(|found| **found != default) {
            return Some(Err(EnvError::Kwarg {
                id: id.to_owned(),
                name: name.to_owned(),
                found: found.to_string(),
                wanted: "EnvPool's default, because the scripted player knows no other frames and actions",
            }));
        }
    }
    Some(Ok(Box::new(Player { act })))
}

/// EnvPool's kwargs that change what a frame looks like, how far apart frames are or which actions there are, with their
/// defaults.
fn frame_kwargs() -> [(&'static str, Value); 7] {
    [
        ("frame_skip", json!(4)),
        ("full_action_space", json!(false)),
        ("gray_scale", json!(true)),
        ("img_height", json!(84)),
        ("img_width", json!(84)),
        ("stack_num", json!(4)),
        ("use_inter_area_resize", json!(true)),
    ]
}

/// What a game's player does about what it sees.
struct Player {
    act: fn(&Screen) -> f32,
}

impl VecController for Player {
    fn act_rows(
        &mut self,
        rows: usize,
        _: &[f32],
        pixels: &[u8],
        actions: &mut [f32],
    ) -> Result<(), EnvError> {
        assert_eq!(
            pixels.len(),
            rows * STACK,
            "a player of Atari games is shown four frames of 84 by 84 a row"
        );
        for (stack, action) in pixels.chunks_exact(STACK).zip(actions) {
            *action = (self.act)(&Screen(stack));
        }
        Ok(())
    }
}
