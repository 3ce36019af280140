//! Pictures of simulations, by rays that MuJoCo casts: no window and no graphics card is asked for.

use mujoco_rs::wrappers::{MjModel, MjtGeomBase};

use super::simulation::Simulation;
use super::view::View;
use crate::render::Frame;
use crate::render::trig::sin_cos;

type Vector = [f64; 3];

/// Rays a side of a pixel.
const SAMPLES: usize = 2;
const SKY: Vector = [255.0, 255.0, 255.0];
const TILES: [Vector; 2] = [[216.0, 221.0, 226.0], [237.0, 240.0, 243.0]];
/// Towards the light.
const LIGHT: Vector = [-0.3, -0.4, 0.866];

/// Where rays begin, and which way is right, up and forward.
struct Eye {
    at: Vector,
    right: Vector,
    up: Vector,
    forward: Vector,
    /// Half the height of what is seen at a distance of 1.
    spread: f64,
}

/// Draws what `view` shows of a simulation.
pub(super) fn draw(simulation: &Simulation, view: &View) -> Frame {
    let eye = eye(simulation, view);
    let model = simulation.model();
    // Rays mark what they have checked, so they are cast in a copy.
    let mut data = simulation.data().clone();

    let (columns, rows) = (view.width * SAMPLES, view.height * SAMPLES);
    let offset = |i: usize, count: usize| (2 * i + 1) as f64 - count as f64;
    let rays: Vec<Vector> = (0..columns * rows)
        .map(|i| {
            let x = offset(i % columns, columns) / rows as f64 * eye.spread;
            let y = -offset(i / columns, rows) / rows as f64 * eye.spread;
            unit(plus(eye.forward, plus(times(eye.right, x), times(eye.up, y))))
        })
        .collect();
    let mut normals = vec![[0.0; 3]; rays.len()];
    let (hits, distances) = data.multi_ray(&eye.at, &rays, None, true, None, 1e10, Some(&mut normals));

    // A camera that follows a robot would come to the end of the floor.
    let endless =
        if view.fixed.is_none() && view.camera.follows.is_some() { floor(simulation) } else { None };
    let mut sums = vec![[0.0; 3]; view.width * view.height];
    for (i, ray) in rays.iter().enumerate() {
        let plane = |geom: usize| model.geom_type()[geom] == MjtGeomBase::mjGEOM_PLANE;
        let on_floor = match hits[i] {
            None => endless.and_then(|height| below(&eye, *ray, height)),
            Some(geom) => plane(geom).then_some(distances[i]),
        };
        let colour = match (on_floor, hits[i]) {
            (None, None) => SKY,
            (Some(distance), _) => {
                let at = plus(eye.at, times(*ray, distance));
                let below = shadowed(simulation, at)
                    && data.ray(&plus(at, times(LIGHT, 1e-6)), &LIGHT, None, true, None, None).0.is_some();
                let tile = tile(at, view.camera.distance / 4.0);
                let lit = if below { times(tile, 0.72) } else { tile };
                // Far tiles would flicker.
                mixed(lit, SKY, (distance / view.camera.distance / 6.0).min(1.0).powi(2))
            }
            (None, Some(geom)) => {
                let facing = dot(normals[i], LIGHT).max(0.0);
                let shine = dot(normals[i], unit(minus(LIGHT, *ray))).max(0.0).powi(40);
                mixed(times(paint(model, geom), 0.55 + 0.45 * facing), SKY, 0.25 * shine)
            }
        };
        let pixel = &mut sums[i / columns / SAMPLES * view.width + i % columns / SAMPLES];
        *pixel = plus(*pixel, colour);
    }
    let share = 1.0 / (SAMPLES * SAMPLES) as f64;
    let rgb = sums.as_flattened().iter().map(|sum| (sum * share).round() as u8).collect();
    Frame { width: view.width, height: view.height, rgb }
}

fn eye(simulation: &Simulation, view: &View) -> Eye {
    let (model, data) = (simulation.model(), simulation.data());
    if let Some(camera) = view.fixed {
        let axes = data.cam_xmat()[camera];
        let axis = |i: usize| [axes[i], axes[3 + i], axes[6 + i]];
        let spread = (model.cam_fovy()[camera].to_radians() / 2.0).tan();
        return Eye {
            at: data.cam_xpos()[camera],
            right: axis(0),
            up: axis(1),
            forward: times(axis(2), -1.0),
            spread,
        };
    }
    let camera = &view.camera;
    let mut lookat = camera.lookat;
    if let Some(body) = camera.follows {
        lookat[..2].copy_from_slice(&data.subtree_com()[body][..2]);
    }
    let (turn_sin, turn_cos) = sin_cos(camera.azimuth.to_radians());
    let (lift_sin, lift_cos) = sin_cos(camera.elevation.to_radians());
    let forward = [lift_cos * turn_cos, lift_cos * turn_sin, lift_sin];
    let up = [-lift_sin * turn_cos, -lift_sin * turn_sin, lift_cos];
    let right = [turn_sin, -turn_cos, 0.0];
    let spread = (f64::from(model.vis().global.fovy).to_radians() / 2.0).tan();
    Eye { at: minus(lookat, times(forward, camera.distance)), right, up, forward, spread }
}

/// A body's own colour, or its material's where it has none.
fn paint(model: &MjModel, geom: usize) -> Vector {
    let own = model.geom_rgba()[geom];
    let material = usize::try_from(model.geom_matid()[geom]).ok();
    let rgba = match material {
        Some(material) if own == [0.5, 0.5, 0.5, 1.0] => model.mat_rgba()[material],
        _ => own,
    };
    [0, 1, 2].map(|i| 255.0 * f64::from(rgba[i]))
}

/// The height of the model's level floor, if it has one.
fn floor(simulation: &Simulation) -> Option<f64> {
    let planes = simulation.model().geom_type().iter().enumerate();
    let mut planes = planes.filter(|(_, kind)| **kind == MjtGeomBase::mjGEOM_PLANE).map(|(geom, _)| geom);
    let geom = planes.find(|geom| simulation.data().geom_xmat()[*geom][8] > 0.999)?;
    Some(simulation.data().geom_xpos()[geom][2])
}

/// How far off a ray meets the level of `height`, from above.
fn below(eye: &Eye, ray: Vector, height: f64) -> Option<f64> {
    (eye.at[2] > height && ray[2] < 0.0).then(|| (height - eye.at[2]) / ray[2])
}

/// The colour of a chequered floor.
fn tile(at: Vector, side: f64) -> Vector {
    let number = (at[0] / side).floor() + (at[1] / side).floor();
    TILES[usize::from(number.rem_euclid(2.0) == 1.0)]
}

/// Whether something may stand between a point of the floor and the light.
fn shadowed(simulation: &Simulation, at: Vector) -> bool {
    let reaches = simulation.model().geom_rbound().iter();
    reaches.zip(simulation.data().geom_xpos()).any(|(reach, centre)| {
        let offset = minus(*centre, at);
        let along = dot(offset, LIGHT);
        *reach > 0.0 && dot(offset, offset) - along * along < reach * reach
    })
}

fn plus(a: Vector, b: Vector) -> Vector {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

fn minus(a: Vector, b: Vector) -> Vector {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

fn times(a: Vector, factor: f64) -> Vector {
    a.map(|x| x * factor)
}

fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn unit(a: Vector) -> Vector {
    times(a, 1.0 / dot(a, a).sqrt())
}

fn mixed(a: Vector, b: Vector, share: f64) -> Vector {
    plus(times(a, 1.0 - share), times(b, share))
}
