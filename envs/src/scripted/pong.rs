//! Pong: the paddle on the right, moved up and down.

use std::sync::LazyLock;

use super::paddle::{HORIZON, Paddle};
use super::screen::{FRAMES, STACK, Screen, bounced};
use crate::core::controller::VecController;
use crate::core::error::EnvError;

const BACKGROUND: u8 = 87;
/// The field's rows between the walls.
const ROWS: std::ops::Range<usize> = 14..77;
/// Its columns between the paddles, and those of our paddle.
const FIELD: std::ops::Range<usize> = 12..73;
const OURS: std::ops::Range<usize> = 73..77;
/// Where the ball's centre turns at the walls, and the column at which our paddle meets it.
const WALLS: [f32; 2] = [14.5, 75.5];
const PLANE: f32 = 74.5;
/// The row to wait in.
const MIDDLE: f32 = 45.0;

/// Rows from the paddle's centre beyond which the ball is missed, and from which it goes off as steeply and fast as it can.
const REACH: f32 = 4.2;
const END: f32 = 3.9;
/// What a miss costs, where to meet the ball at an end of the paddle earns 1 and at its centre 0.
const MISS: f32 = 3.0;
/// How far the paddle may be from where it is thought to be in the end, in rows: whatever is done, by each press
/// (an action may be repeated for a step), and by each step until then.
const SPREAD: f32 = 0.35;
const SPREAD_OF_PRESS: f32 = 0.9;
const SPREAD_OF_STEP: f32 = 0.08;

const PADDLE: Paddle = Paddle { response: [2.46, 4.90, 1.37, 0.35], ends: [14.5, 76.0] };

const FIRE: f32 = 1.0;
const UP: f32 = 2.0;
const DOWN: f32 = 3.0;

/// A player that meets the ball as near an end of its paddle as is safe, which sends it off steep and fast.
pub(super) struct Pong;

impl VecController for Pong {
    fn act_rows(
        &mut self,
        rows: usize,
        _: &[f32],
        pixels: &[u8],
        actions: &mut [f32],
    ) -> Result<(), EnvError> {
        assert_eq!(pixels.len(), rows * STACK, "a frame of Pong is 84 by 84");
        for (stack, action) in pixels.chunks_exact(STACK).zip(actions) {
            *action = act(&Screen(stack));
        }
        Ok(())
    }
}

fn act(screen: &Screen) -> f32 {
    let Some(ball) = screen.centre(0, ROWS, FIELD, BACKGROUND) else { return FIRE };
    let ours: [_; FRAMES] = std::array::from_fn(|age| screen.centre(age, ROWS, OURS, BACKGROUND));
    let [Some(_), Some(_), Some(_), Some(_)] = ours else { return 0.0 };
    let ours = ours.map(|centre| centre.map_or(MIDDLE, |centre| centre.row));

    let before = screen.centre(1, ROWS, FIELD, BACKGROUND);
    let (right, down) =
        before.map_or((0.0, 0.0), |before| (ball.column - before.column, ball.row - before.row));
    let press = if right > 0.5 {
        let steps = (PLANE - ball.column) / right;
        let meets = bounced(ball.row + down * steps, WALLS[0], WALLS[1]);
        PADDLE.press(ours, steps, |place, presses| {
            let spread = SPREAD.powi(2)
                + presses as f32 * SPREAD_OF_PRESS.powi(2)
                + (SPREAD_OF_STEP * steps.max(0.0)).powi(2);
            worth(place - meets, spread.sqrt())
        })
    } else {
        PADDLE.press(ours, HORIZON, |place, _| -(place - MIDDLE).abs())
    };
    match press {
        press if press < 0.0 => UP,
        press if press > 0.0 => DOWN,
        _ => 0.0,
    }
}

/// The normal distribution, in steps that are small beside the jump of what is worth at the paddle's end.
static NORMAL: LazyLock<[(f32, f32); 61]> = LazyLock::new(|| {
    let deviations: [f32; 61] = std::array::from_fn(|index| index as f32 / 10.0 - 3.0);
    let densities = deviations.map(|deviation| (-deviation * deviation / 2.0).exp());
    let sum: f32 = densities.iter().sum();
    std::array::from_fn(|index| (deviations[index], densities[index] / sum))
});

/// What it is worth to meet the ball so far from the paddle's centre, give or take.
fn worth(offset: f32, spread: f32) -> f32 {
    let mut sum = 0.0;
    for (deviation, weight) in NORMAL.iter() {
        let met = (offset + deviation * spread).abs();
        sum += weight * if met > REACH { -MISS } else { met.min(END) / END };
    }
    // Where all places miss, the nearest is best.
    let far = 0.02 * (offset.abs() - 4.0).max(0.0);
    sum - far
}
