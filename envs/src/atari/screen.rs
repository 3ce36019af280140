//! What is seen in a stack of frames.

use std::ops::Range;

/// Pixels along a side.
pub(super) const SIDE: usize = 84;
/// Frames in a stack.
pub(super) const FRAMES: usize = 4;
/// Bytes of a stack.
pub(super) const STACK: usize = FRAMES * SIDE * SIDE;
/// By how much a pixel differs from the background where there is something.
const DIFFERENCE: u8 = 12;

/// The last four frames, the latest last.
pub(super) struct Screen<'a>(pub &'a [u8]);

/// The centre of what stands out, in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Centre {
    pub row: f32,
    pub column: f32,
}

impl Screen<'_> {
    /// The centre of what differs from the background in a part of the frame `age` steps ago, if anything does.
    pub fn centre(
        &self,
        age: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        background: u8,
    ) -> Option<Centre> {
        let frame = &self.0[(FRAMES - 1 - age) * SIDE * SIDE..][..SIDE * SIDE];
        let (mut mass, mut row_sum, mut column_sum) = (0.0, 0.0, 0.0);
        for row in rows {
            for column in columns.clone() {
                let difference = frame[row * SIDE + column].abs_diff(background);
                if difference >= DIFFERENCE {
                    let weight = f32::from(difference);
                    mass += weight;
                    row_sum += weight * row as f32;
                    column_sum += weight * column as f32;
                }
            }
        }
        (mass > 0.0).then(|| Centre { row: row_sum / mass, column: column_sum / mass })
    }

    /// How many pixels of the latest frame differ from the background.
    pub fn count(&self, rows: Range<usize>, columns: Range<usize>, background: u8) -> usize {
        let frame = &self.0[(FRAMES - 1) * SIDE * SIDE..];
        let row = |row: usize| &frame[row * SIDE..][columns.clone()];
        rows.flat_map(row).filter(|pixel| pixel.abs_diff(background) >= DIFFERENCE).count()
    }
}

/// Where something that bounces between two walls is, by where it would be without them.
pub(super) fn bounced(place: f32, low: f32, high: f32) -> f32 {
    let span = high - low;
    let along = (place - low).rem_euclid(2.0 * span);
    low + if along > span { 2.0 * span - along } else { along }
}
