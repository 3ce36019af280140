//! Scripted players of Atari games, which look at EnvPool's frames alone: 84 × 84, grey, the last four of them.

mod breakout;
mod paddle;
mod pong;
mod screen;

use crate::core::controller::VecController;
use crate::core::error::EnvError;
use crate::core::kwargs::Kwargs;

/// EnvPool's kwargs that change what a frame looks like, how far apart frames are or which actions there are.
const FRAME_KWARGS: [&str; 6] =
    ["frame_skip", "full_action_space", "gray_scale", "img_height", "img_width", "stack_num"];

/// The player of one of EnvPool's games, by its name there; none where nobody has written one.
pub(crate) fn player(
    id: &str,
    game: &str,
    kwargs: &Kwargs,
) -> Option<Result<Box<dyn VecController>, EnvError>> {
    let player: Box<dyn VecController> = match game {
        "Pong-v5" => Box::new(pong::Pong),
        "Breakout-v5" => Box::new(breakout::Breakout),
        _ => return None,
    };
    for name in FRAME_KWARGS {
        if let Some(found) = kwargs.get(name) {
            return Some(Err(EnvError::Kwarg {
                id: id.to_owned(),
                name: name.to_owned(),
                found: found.to_string(),
                wanted: "its default, because the scripted player knows no other frames",
            }));
        }
    }
    Some(Ok(player))
}
