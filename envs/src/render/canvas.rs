//! Pictures of environments: a small canvas whose shapes are signed distances, so that edges are
//! smooth.

use super::trig::sin_cos;

/// A picture, rows from the top, three bytes a pixel: red, green, blue.
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
    frame: Frame,
    /// The world's point at the lower left corner.
    corner: Point,
    pixels_per_unit: f64,
}

impl Canvas {
    /// A blank canvas of `width` pixels, which shows the world from `corner` to `far`.
    pub fn new(width: usize, corner: Point, far: Point) -> Self {
        let pixels_per_unit = width as f64 / (far[0] - corner[0]);
        let height = ((far[1] - corner[1]) * pixels_per_unit).round() as usize;
        let rgb = vec![255; width * height * 3];
        Self { frame: Frame { width, height, rgb }, corner, pixels_per_unit }
    }

    pub fn finish(self) -> Frame {
        self.frame
    }

    pub fn disc(&mut self, centre: Point, radius: f64, colour: Colour) {
        self.paint(colour, |point| length(minus(point, centre)) - radius);
    }

    /// A line with round ends.
    pub fn bar(&mut self, from: Point, to: Point, radius: f64, colour: Colour) {
        let along = minus(to, from);
        let squared = dot(along, along).max(f64::MIN_POSITIVE);
        self.paint(colour, |point| {
            let offset = minus(point, from);
            let share = (dot(offset, along) / squared).clamp(0.0, 1.0);
            length(minus(offset, [share * along[0], share * along[1]])) - radius
        });
    }

    /// A convex polygon, its corners anticlockwise.
    pub fn polygon(&mut self, corners: &[Point], colour: Colour) {
        let sides: Vec<(Point, Point)> = corners
            .iter()
            .zip(corners.iter().cycle().skip(1))
            .map(|(from, to)| {
                let along = minus(*to, *from);
                (*from, [along[1] / length(along), -along[0] / length(along)])
            })
            .collect();
        self.paint(colour, |point| {
            let beyond = sides.iter().map(|(from, outwards)| dot(minus(point, *from), *outwards));
            beyond.fold(f64::NEG_INFINITY, f64::max)
        });
    }

    /// Colours where `distance` from the shape is negative, and blends over one pixel at its edge.
    pub fn paint(&mut self, colour: Colour, distance: impl Fn(Point) -> f64) {
        let (width, height) = (self.frame.width, self.frame.height);
        for (i, pixel) in self.frame.rgb.chunks_exact_mut(3).enumerate() {
            let (column, row) = (i % width, height - 1 - i / width);
            let point = [
                self.corner[0] + (column as f64 + 0.5) / self.pixels_per_unit,
                self.corner[1] + (row as f64 + 0.5) / self.pixels_per_unit,
            ];
            let cover = (0.5 - distance(point) * self.pixels_per_unit).clamp(0.0, 1.0);
            if cover > 0.0 {
                for (old, new) in pixel.iter_mut().zip(colour) {
                    *old = (f64::from(*old) + cover * (f64::from(new) - f64::from(*old))).round() as u8;
                }
            }
        }
    }
}

/// `offset` turned by `angle`, anticlockwise, and moved to `centre`.
pub fn placed(centre: Point, angle: f64, offset: Point) -> Point {
    let (sin, cos) = sin_cos(angle);
    [centre[0] + cos * offset[0] - sin * offset[1], centre[1] + sin * offset[0] + cos * offset[1]]
}

fn minus(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

fn dot(a: Point, b: Point) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

fn length(a: Point) -> f64 {
    dot(a, a).sqrt()
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

    #[test]
    fn an_edge_through_a_pixel_is_half_dark() {
        check(|canvas| canvas.paint([0, 0, 0], |point| point[0] - 5.5), [5.5, 5.5], 127);
    }
}
