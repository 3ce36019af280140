//! A paddle that coasts, steered by looking ahead.
//!
//! A press moves it for some steps, by more in all than the paddle is long: where it comes to rest, the places are too
//! far apart to meet every ball, so it is often met while the paddle still moves. What was pressed is inferred
//! from how the paddle has moved, and what to press is found by trying every plan of a few presses.

/// Steps that a press moves it for; as many presses are planned.
const STEPS: usize = 4;
/// Steps that are looked ahead, at most.
pub(super) const HORIZON: f32 = 6.0;
/// Presses that are tried for the past; EnvPool's sticky actions may repeat another for half a step.
const PAST: [f32; 5] = [0.0, -1.0, 1.0, -0.5, 0.5];
const NEXT: [f32; 3] = [0.0, -1.0, 1.0];
/// What a half press among those of the past adds to the squared error, because it is rare.
const HALF: f32 = 0.15;
/// What a press costs, in the unit of a place's worth, so that none is made for nothing; and what it costs more with every
/// step that it is put off, so that of plans that are worth the same the earliest is chosen.
const PRESS: f32 = 0.01;
const DELAY: f32 = 0.002;
/// How much its movement in each of the last three steps counts in finding what was pressed, the latest first.
const WEIGHTS: [f32; 3] = [1.0, 0.5, 0.2];
/// Pixels that it moves in a step at most; more is a new game.
const FASTEST: f32 = 14.0;

/// How a paddle answers, along the axis that it moves on.
pub(super) struct Paddle {
    /// Pixels by which a press moves it in its step and in those that follow.
    pub response: [f32; STEPS],
    /// The least and the greatest place of its centre.
    pub ends: [f32; 2],
}

/// Presses, the first one first in time.
type Presses = [f32; STEPS];

impl Paddle {
    /// What to press, -1, 0 or 1, by where it was seen, the latest first.
    ///
    /// `worth` is what a place in `steps` steps is worth, after so many presses until then.
    pub fn press(&self, seen: [f32; STEPS], steps: f32, worth: impl Fn(f32, usize) -> f32) -> f32 {
        let past = self.pressed(seen);
        let steps = steps.clamp(0.0, HORIZON);
        let (mut best, mut most) = (0.0, f32::NEG_INFINITY);
        for_each(&NEXT, |next| {
            let pressed = |presses: &[f32]| presses.iter().filter(|press| **press != 0.0).count();
            let until_then = (steps.ceil() as usize).min(STEPS);
            let place = self.place(seen[0], &past, next, steps);
            let delay: usize = (0..STEPS).filter(|step| next[*step] != 0.0).sum();
            let cost = PRESS * pressed(next) as f32 + DELAY * delay as f32;
            let found = worth(place, pressed(&next[..until_then])) - cost;
            if found > most {
                (best, most) = (next[0], found);
            }
        });
        best
    }

    /// The presses that explain best how it has moved.
    fn pressed(&self, seen: [f32; STEPS]) -> Presses {
        let moved = [0, 1, 2].map(|age| (seen[age] - seen[age + 1]).clamp(-FASTEST, FASTEST));
        let (mut best, mut least) = ([0.0; STEPS], f32::INFINITY);
        for_each(&PAST, |past| {
            let mut error = HALF * past.iter().filter(|press| press.abs() == 0.5).count() as f32;
            for (age, (moved, weight)) in moved.iter().zip(WEIGHTS).enumerate() {
                let now = STEPS - 1 - age;
                let explained: f32 = (0..=now).map(|at| past[at] * self.response[now - at]).sum();
                error += weight * (moved - explained).powi(2);
            }
            if error < least {
                (best, least) = (*past, error);
            }
        });
        best
    }

    /// Where its centre is in `steps` steps, after these presses and then none. What a press does to a paddle that lies
    /// at an end already is not modelled: the place is clipped to the ends once, after all of them.
    fn place(&self, mut place: f32, past: &Presses, next: &Presses, steps: f32) -> f32 {
        let [low, high] = self.ends;
        let mut left = steps;
        for step in 0..HORIZON as usize {
            // Of the presses before, those that still move it; then those of the plan.
            for (at, press) in past.iter().chain(next).enumerate().take(STEPS + step + 1) {
                let age = STEPS + step - at;
                if age < STEPS {
                    place += left.clamp(0.0, 1.0) * press * self.response[age];
                }
            }
            left -= 1.0;
        }
        place.clamp(low, high)
    }
}

/// Calls `f` with all sequences of these presses.
fn for_each(presses: &[f32], mut f: impl FnMut(&Presses)) {
    for first in presses {
        for second in presses {
            for third in presses {
                for fourth in presses {
                    f(&[*first, *second, *third, *fourth]);
                }
            }
        }
    }
}
