//! Breakout: the paddle at the bottom, moved left and right.

use super::button;
use super::paddle::{HORIZON, Paddle};
use super::screen::{FRAMES, Screen, bounced};

const BACKGROUND: u8 = 0;
/// Columns between the walls.
const COLUMNS: std::ops::Range<usize> = 5..79;
/// Rows of the bricks, of the air below them, and of the paddle.
const BRICKS: std::ops::Range<usize> = 22..38;
const AIR: std::ops::Range<usize> = 38..75;
const OURS: std::ops::Range<usize> = 75..78;
/// Where the ball's centre turns at the walls, and the row in which the paddle meets it.
const WALLS: [f32; 2] = [4.5, 79.0];
const PLANE: f32 = 75.0;
/// The column of a paddle that is not seen.
const MIDDLE: f32 = 41.5;
/// Columns from the paddle's centre at which it is to meet the ball, taken in turn as bricks are cleared, so that the ball
/// does not go the same way again and again.
const AIMS: [f32; 5] = [-2.5, 1.0, 2.5, -1.0, 0.0];

/// Columns from the place to be in that are worth 1.
const NEAR: f32 = 50.0;

/// By `tools/data/fit_paddles.py`.
const PADDLE: Paddle = Paddle { response: [5.06, 6.49, 0.40, 0.04], ends: [8.3, 76.8] };

/// Meets the ball at another place of the paddle with every brick that is cleared.
pub(super) fn act(screen: &Screen) -> usize {
    // A ball among the bricks is not told from them; to fire does nothing then.
    let Some(ball) = screen.centre(0, AIR, COLUMNS, BACKGROUND) else { return button::FIRE };
    let ours: [_; FRAMES] = std::array::from_fn(|age| screen.centre(age, OURS, COLUMNS, BACKGROUND));
    let ours = ours.map(|centre| centre.map_or(MIDDLE, |centre| centre.column));

    let (mut target, mut steps) = (ball.column, HORIZON);
    if let Some(before) = screen.centre(1, AIR, COLUMNS, BACKGROUND) {
        let (right, down) = (ball.column - before.column, ball.row - before.row);
        if down > 0.2 {
            steps = (PLANE - ball.row).max(0.0) / down;
            let meets = bounced(ball.column + right * steps, WALLS[0], WALLS[1]);
            target = meets + AIMS[screen.count(BRICKS, COLUMNS, BACKGROUND) % AIMS.len()];
        }
    }
    match PADDLE.press(ours, steps, |place, _| -(place - target).abs() / NEAR) {
        press if press < 0.0 => button::LEFT,
        press if press > 0.0 => button::RIGHT,
        _ => button::NONE,
    }
}
