//! Pong: the paddle on the right, moved up and down.

use std::sync::LazyLock;

use super::button;
use super::paddle::{HORIZON, Paddle};
use super::screen::{FRAMES, Screen, bounced};

const BACKGROUND: u8 = 87;
/// The field's rows between the walls.
const ROWS: std::ops::Range<usize> = 14..77;
/// Its columns between the paddles, and those of our paddle.
const FIELD: std::ops::Range<usize> = 12..73;
const OURS: std::ops::Range<usize> = 73..77;
/// Where the ball's centre turns at the walls, and the column at which our paddle meets it.
const WALLS: [f32; 2] = [14.5, 75.5];
const PLANE: f32 = 74.5;
/// The row to wait in, and how many rows nearer to it are worth as much as to meet a ball at an end of the paddle.
const MIDDLE: f32 = 45.0;
const NEAR: f32 = 50.0;

/// Rows from the paddle's centre beyond which the ball is missed, and from which it goes off as steeply and fast as it can.
const REACH: f32 = 4.2;
const END: f32 = 3.9;
/// What a miss costs, where to meet the ball at an end of the paddle earns 1 and at its centre 0.
const MISS: f32 = 3.0;
/// Standard deviations, in rows, of where the paddle is when the ball arrives: at least; by each press until then, because
/// an action may be sticky; and by each step until then, which is the ball's.
const SPREAD: f32 = 0.35;
const SPREAD_OF_PRESS: f32 = 0.9;
const SPREAD_OF_STEP: f32 = 0.08;

/// By `tools/data/fit_paddles.py`.
const PADDLE: Paddle = Paddle { response: [2.46, 4.91, 1.37, 0.34], ends: [14.5, 76.0] };

const UP: usize = button::RIGHT;
const DOWN: usize = button::LEFT;

/// Meets the ball as near an end of the paddle as is safe, which sends it off steeply.
pub(super) fn act(screen: &Screen) -> usize {
    let Some(ball) = screen.centre(0, ROWS, FIELD, BACKGROUND) else { return button::FIRE };
    let ours: [_; FRAMES] = std::array::from_fn(|age| screen.centre(age, ROWS, OURS, BACKGROUND));
    let [Some(_), Some(_), Some(_), Some(_)] = ours else { return button::NONE };
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
        PADDLE.press(ours, HORIZON, |place, _| -(place - MIDDLE).abs() / NEAR)
    };
    match press {
        press if press < 0.0 => UP,
        press if press > 0.0 => DOWN,
        _ => button::NONE,
    }
}

/// The standard normal distribution from -3 to 3, and each value's probability: in steps so small that where the paddle
/// ends, [`worth`] does not jump.
static NORMAL: LazyLock<[(f32, f32); 61]> = LazyLock::new(|| {
    let deviations: [f32; 61] = std::array::from_fn(|index| index as f32 / 10.0 - 3.0);
    let densities = deviations.map(|deviation| (-deviation * deviation / 2.0).exp());
    let sum: f32 = densities.iter().sum();
    std::array::from_fn(|index| (deviations[index], densities[index] / sum))
});

/// What it is expected to be worth to meet the ball `offset` rows from the paddle's centre, where `spread` is the standard
/// deviation of that.
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
