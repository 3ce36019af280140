//! Pictures of environments, drawn by tiny-skia in the world's units.

use tiny_skia::{Color, FillRule, LineCap, Paint, Path, PathBuilder, Pixmap, Stroke, Transform};

use super::trig::sin_cos;

/// A picture, rows from the top, three bytes per pixel: red, green, blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height · width · 3` bytes.
    pub rgb: Vec<u8>,
}

pub type Point = [f64; 2];
pub type Colour = [u8; 3];

/// A frame that is drawn on in the world's units, with y upwards.
pub struct Canvas {
    pixels: Pixmap,
    /// From the world to pixels.
    view: Transform,
}

impl Canvas {
    /// A blank canvas of `width` pixels, which shows the world from `corner` to `far`.
    pub fn new(width: u32, corner: Point, far: Point) -> Self {
        let scale = f64::from(width) / (far[0] - corner[0]); // pixels per unit
        let height = ((far[1] - corner[1]) * scale).round();
        let mut pixels = Pixmap::new(width, height as u32).expect("a picture has at least one pixel");
        pixels.fill(Color::WHITE);
        let (left, top) = (-corner[0] * scale, height + corner[1] * scale);
        let view = Transform::from_row(scale as f32, 0.0, 0.0, -scale as f32, left as f32, top as f32);
        Self { pixels, view }
    }

    pub fn finish(self) -> Frame {
        let (width, height) = (self.pixels.width() as usize, self.pixels.height() as usize);
        let opaque = self.pixels.pixels().iter(); // white lies beneath everything
        Frame { width, height, rgb: opaque.flat_map(|p| [p.red(), p.green(), p.blue()]).collect() }
    }

    pub fn disc(&mut self, [x, y]: Point, radius: f64, colour: Colour) {
        self.fill(PathBuilder::from_circle(x as f32, y as f32, radius as f32), colour);
    }

    /// A line with round ends.
    pub fn bar(&mut self, from: Point, to: Point, radius: f64, colour: Colour) {
        self.line(&[from, to], radius, colour);
    }

    /// A line through several points, with round ends.
    pub fn line(&mut self, points: &[Point], radius: f64, colour: Colour) {
        let stroke = Stroke { width: 2.0 * radius as f32, line_cap: LineCap::Round, ..Stroke::default() };
        if let Some(line) = path(points, false) {
            self.pixels.stroke_path(&line, &paint(colour), &stroke, self.view, None);
        }
    }

    /// A polygon.
    pub fn polygon(&mut self, corners: &[Point], colour: Colour) {
        self.fill(path(corners, true), colour);
    }

    fn fill(&mut self, path: Option<Path>, colour: Colour) {
        if let Some(path) = path {
            self.pixels.fill_path(&path, &paint(colour), FillRule::Winding, self.view, None);
        }
    }
}

/// `None` where a state that is not finite leaves nothing to draw.
fn path(points: &[Point], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (index, [x, y]) in points.iter().enumerate() {
        match index {
            0 => path.move_to(*x as f32, *y as f32),
            _ => path.line_to(*x as f32, *y as f32),
        }
    }
    if closed {
        path.close();
    }
    path.finish()
}

fn paint([red, green, blue]: Colour) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, 255);
    paint
}

/// `offset` turned by `angle`, anticlockwise, and moved to `centre`.
pub fn placed(centre: Point, angle: f64, offset: Point) -> Point {
    let (sin, cos) = sin_cos(angle);
    [centre[0] + cos * offset[0] - sin * offset[1], centre[1] + sin * offset[0] + cos * offset[1]]
}

#[cfg(test)]
mod tests {
    use super::{Canvas, Point};

    /// Draws on a canvas of 20 by 10 pixels, whose units are pixels, and looks at one of them.
    #[track_caller]
    fn check(draw: impl Fn(&mut Canvas), at: Point, darkness: u8) {
        let mut canvas = Canvas::new(20, [0.0, 0.0], [20.0, 10.0]);
        draw(&mut canvas);
        let frame = canvas.finish();
        assert_eq!((frame.width, frame.height, frame.rgb.len()), (20, 10, 600));
        let (column, row) = (at[0] as usize, frame.height - 1 - at[1] as usize);
        assert_eq!(frame.rgb[(row * frame.width + column) * 3], 255 - darkness);
    }

    #[test]
    fn a_disc_is_round() {
        let draw = |canvas: &mut Canvas| canvas.disc([5.0, 5.0], 3.0, [0, 0, 0]);
        check(draw, [5.5, 5.5], 255);
        check(draw, [5.5, 3.5], 255);
        check(draw, [7.5, 7.5], 0);
    }

    #[test]
    fn a_bar_ends_round() {
        let draw = |canvas: &mut Canvas| canvas.bar([2.0, 2.0], [12.0, 2.0], 1.0, [0, 0, 0]);
        check(draw, [7.5, 2.5], 255);
        check(draw, [14.5, 2.5], 0);
    }

    #[test]
    fn a_polygon_is_filled_and_y_is_upwards() {
        let draw = |canvas: &mut Canvas| {
            canvas.polygon(&[[1.0, 5.0], [9.0, 5.0], [9.0, 9.0], [1.0, 9.0]], [0, 0, 0]);
        };
        check(draw, [5.5, 7.5], 255);
        check(draw, [5.5, 3.5], 0);
    }
}
