//! Scripted players of Atari games, which look at EnvPool's frames alone: 84 × 84, grey, the last four of them.

mod breakout;
mod paddle;
mod pong;
mod screen;

use serde_json::{Value, json};

use self::screen::{SIDE, STACK, Screen};
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
    let player = Player::new(act, id, kwargs);
    Some(player.map(|player| Box::new(player) as Box<dyn VecController>))
}

/// Nothing, fire, right and left, in that order, among the actions of either game and among all 18 of the console.
const OWN: [f32; 4] = [0.0, 1.0, 2.0, 3.0];
const ALL: [f32; 4] = [0.0, 1.0, 3.0, 4.0];

/// EnvPool's kwargs that change what a frame looks like or how far apart frames are, with their defaults.
fn frame_kwargs() -> [(&'static str, Value); 6] {
    [
        ("frame_skip", json!(4)),
        ("gray_scale", json!(true)),
        ("img_height", json!(84)),
        ("img_width", json!(84)),
        ("stack_num", json!(4)),
        ("use_inter_area_resize", json!(true)),
    ]
}

/// Which button a player presses: the indices of [`OWN`] and [`ALL`].
mod button {
    pub(super) const NONE: usize = 0;
    pub(super) const FIRE: usize = 1;
    pub(super) const RIGHT: usize = 2;
    pub(super) const LEFT: usize = 3;
}

/// What a game's player does about what it sees.
struct Player {
    act: fn(&Screen) -> usize,
    /// What the environment calls the actions that `act` chooses from.
    actions: [f32; 4],
    /// Whether frames are shown as negatives.
    inverted: bool,
    /// Bytes by which the rows of a frame are moved down; what leaves at the bottom enters at the top.
    shifted: usize,
}

impl Player {
    fn new(act: fn(&Screen) -> usize, id: &str, kwargs: &Kwargs) -> Result<Self, EnvError> {
        let refused = |name: &str, wanted: &'static str| {
            let found = kwargs[name].to_string();
            EnvError::Kwarg { id: id.to_owned(), name: name.to_owned(), found, wanted }
        };
        for (name, default) in frame_kwargs() {
            if kwargs.get(name).is_some_and(|found| *found != default) {
                let wanted = "EnvPool's default, because the scripted player knows no other frames";
                return Err(refused(name, wanted));
            }
        }
        let switch = |name: &str| match kwargs.get(name) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| refused(name, "true or false")),
        };
        let actions = if switch("full_action_space")? { ALL } else { OWN };
        let rows = match kwargs.get("shift_frames") {
            None => 0,
            Some(rows) => rows.as_i64().ok_or_else(|| refused("shift_frames", "a whole number of rows"))?,
        };
        let shifted = rows.rem_euclid(SIDE as i64) as usize * SIDE;
        Ok(Self { act, actions, inverted: switch("invert_frames")?, shifted })
    }
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
        let mut usual = [0; STACK];
        for (stack, action) in pixels.chunks_exact(STACK).zip(actions) {
            usual.copy_from_slice(stack);
            if self.inverted {
                usual.iter_mut().for_each(|pixel| *pixel = 255 - *pixel);
            }
            usual.chunks_exact_mut(SIDE * SIDE).for_each(|frame| frame.rotate_left(self.shifted));
            *action = self.actions[(self.act)(&Screen(&usual))];
        }
        Ok(())
    }
}
