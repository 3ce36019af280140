//! Pictures of the classic tasks, after Gymnasium's.

use super::canvas::{Canvas, Colour, Frame, Point, placed};
use super::trig::sin_cos;

const INK: Colour = [51, 55, 64];
const PALE: Colour = [200, 204, 210];
const GRASS: Colour = [222, 232, 214];
const WOOD: Colour = [202, 152, 101];
const STEEL: Colour = [129, 132, 203];
const RED: Colour = [204, 77, 77];
const TEAL: Colour = [38, 166, 166];
const GOLD: Colour = [224, 176, 44];

/// A cart at `position` on its track, with its pole at `angle` from upright, clockwise.
pub fn cart_pole(position: f64, angle: f64, limit: f64) -> Frame {
    let mut canvas = Canvas::new(300, [-2.6, -0.9], [2.6, 2.567]);
    canvas.bar([-2.6, 0.0], [2.6, 0.0], 0.01, INK);
    for end in [-limit, limit] {
        canvas.bar([end, -0.1], [end, 0.1], 0.015, RED);
    }
    canvas.polygon(&rectangle([position, 0.0], 0.0, 0.22, 0.13), INK);
    let axle = [position, 0.06];
    canvas.bar(axle, placed(axle, -angle, [0.0, 1.0]), 0.05, WOOD);
    canvas.disc(axle, 0.045, STEEL);
    canvas.finish()
}

/// A rod at `angle` from upright, anticlockwise.
pub fn pendulum(angle: f64) -> Frame {
    let mut canvas = Canvas::new(200, [-1.3, -1.3], [1.3, 1.3]);
    canvas.bar([0.0, 0.0], placed([0.0, 0.0], angle, [0.0, 1.0]), 0.11, RED);
    canvas.disc([0.0, 0.0], 0.05, INK);
    canvas.finish()
}

/// A car at `position` in its valley, and a flag at its goal.
pub fn valley(position: f64, goal: f64) -> Frame {
    let mut canvas = Canvas::new(300, [-1.25, 0.0], [0.65, 1.267]);
    let surface: Vec<Point> =
        (-130..=70).map(|hundredth| f64::from(hundredth) / 100.0).map(|x| [x, ground(x)]).collect();
    canvas.polygon(&[&surface[..], &[[0.7, -0.1], [-1.3, -0.1]]].concat(), GRASS);
    canvas.line(&surface, 0.004, INK);

    let (foot, top) = (ground(goal), ground(goal) + 0.17);
    canvas.bar([goal, foot], [goal, top], 0.004, INK);
    canvas.polygon(&[[goal, top], [goal, top - 0.05], [goal + 0.08, top - 0.025]], GOLD);

    let (place, angle) = ([position, ground(position)], slope(position).atan());
    canvas.polygon(&rectangle(placed(place, angle, [0.0, 0.056]), angle, 0.06, 0.026), INK);
    for wheel in [-0.034, 0.034] {
        canvas.disc(placed(place, angle, [wheel, 0.026]), 0.022, STEEL);
    }
    canvas.finish()
}

/// Two links that hang at these angles, the second relative to the first, below a line.
pub fn acrobot(first: f64, second: f64) -> Frame {
    let mut canvas = Canvas::new(200, [-2.2, -2.2], [2.2, 2.2]);
    canvas.bar([-2.2, 1.0], [2.2, 1.0], 0.012, PALE);
    let elbow = placed([0.0, 0.0], first, [0.0, -1.0]);
    let tip = placed(elbow, first + second, [0.0, -1.0]);
    canvas.bar([0.0, 0.0], elbow, 0.1, TEAL);
    canvas.bar(elbow, tip, 0.1, TEAL);
    canvas.disc([0.0, 0.0], 0.1, GOLD);
    canvas.disc(elbow, 0.1, GOLD);
    canvas.finish()
}

fn ground(x: f64) -> f64 {
    0.45 * sin_cos(3.0 * x).0 + 0.55
}

fn slope(x: f64) -> f64 {
    3.0 * 0.45 * sin_cos(3.0 * x).1
}

/// Corners, anticlockwise, of a rectangle that is twice `half_width` by twice `half_height`.
fn rectangle(centre: Point, angle: f64, half_width: f64, half_height: f64) -> [Point; 4] {
    [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
        .map(|(x, y)| placed(centre, angle, [x * half_width, y * half_height]))
}
