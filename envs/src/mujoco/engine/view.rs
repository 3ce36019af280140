//! From where a simulation is looked at.

use mujoco_rs::wrappers::MjtObjBase;
use serde_json::Value;

use super::simulation::Simulation;
use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;

/// A camera that looks at a point, or follows a body along the ground. Angles are in degrees: from
/// the x axis, and above the ground, of the direction in which it looks.
#[derive(Clone, Copy, Debug)]
pub struct Camera {
    /// The body whose centre of mass takes the place of the point's x and y.
    pub follows: Option<usize>,
    /// The point.
    pub lookat: [f64; 3],
    /// How far off it is.
    pub distance: f64,
    /// Around the point: at 90 the camera looks along y.
    pub azimuth: f64,
    /// Negative for a camera that looks down.
    pub elevation: f64,
}

/// What a picture shows, by Gymnasium's kwargs.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) camera: Camera,
    /// A camera of the model, in place of ours.
    pub(super) fixed: Option<usize>,
}

/// What a picture shows changes no return.
pub(super) const KWARGS: [&str; 6] =
    ["render_mode", "width", "height", "default_camera_config", "camera_id", "camera_name"];

impl View {
    pub(super) fn from_kwargs(
        kwargs: &mut KwargReader,
        simulation: &Simulation,
        camera: Camera,
    ) -> Result<Self, EnvError> {
        let drawn = |value: &Value| (value.is_null() || value == "rgb_array").then_some(());
        kwargs.read("render_mode", (), "\"rgb_array\" or null", drawn)?;
        let pixels = |value: &Value| value.as_u64().filter(|n| (1..=4096).contains(n)).map(|n| n as usize);
        let width = kwargs.read("width", 256, "a whole number from 1 to 4096", pixels)?;
        let height = kwargs.read("height", 256, "a whole number from 1 to 4096", pixels)?;

        let wanted = "a table of numbers for `distance`, `azimuth`, `elevation` and `trackbodyid`, and three for `lookat`";
        let config = kwargs.read("default_camera_config", Config::default(), wanted, Config::from_value)?;
        let model = simulation.model();
        let follows = match config.trackbodyid {
            None => camera.follows,
            Some(body) => usize::try_from(body).ok().filter(|body| *body > 0),
        };
        let camera = Camera {
            follows: follows.filter(|body| *body < model.body_mass().len()),
            lookat: config.lookat.unwrap_or(camera.lookat),
            distance: config.distance.unwrap_or(camera.distance),
            azimuth: config.azimuth.unwrap_or(camera.azimuth),
            elevation: config.elevation.unwrap_or(camera.elevation),
        };

        let id = kwargs.read("camera_id", None, "a whole number or null", |value| {
            if value.is_null() { Some(None) } else { value.as_i64().map(Some) }
        })?;
        let name = kwargs.read("camera_name", None, "a text or null", |value| {
            if value.is_null() { Some(None) } else { value.as_str().map(|name| Some(name.to_owned())) }
        })?;
        let fixed = match (id, name) {
            (None, None) | (Some(-1), None) => None,
            (Some(id), None) => {
                let camera = usize::try_from(id).ok().filter(|id| *id < model.cam_fovy().len());
                Some(camera.ok_or_else(|| {
                    kwargs.refused("camera_id", "the number of a camera of the model, or -1")
                })?)
            }
            (None, Some(name)) => {
                let camera = model.name_to_id(MjtObjBase::mjOBJ_CAMERA, &name);
                Some(
                    camera
                        .ok_or_else(|| kwargs.refused("camera_name", "the name of a camera of the model"))?,
                )
            }
            (Some(_), Some(_)) => {
                return Err(kwargs.refused("camera_name", "absent where `camera_id` is given"));
            }
        };
        Ok(Self { width, height, camera, fixed })
    }
}

/// Gymnasium's `default_camera_config`, of which it may hold any part.
#[derive(Default)]
struct Config {
    distance: Option<f64>,
    azimuth: Option<f64>,
    elevation: Option<f64>,
    lookat: Option<[f64; 3]>,
    trackbodyid: Option<i64>,
}

impl Config {
    fn from_value(value: &Value) -> Option<Self> {
        let mut config = Self::default();
        if value.is_null() {
            return Some(config);
        }
        for (name, value) in value.as_object()? {
            match name.as_str() {
                "distance" => config.distance = Some(value.as_f64().filter(|distance| *distance > 0.0)?),
                "azimuth" => config.azimuth = Some(value.as_f64()?),
                "elevation" => config.elevation = Some(value.as_f64()?),
                "lookat" => {
                    let numbers: Option<Vec<f64>> = value.as_array()?.iter().map(Value::as_f64).collect();
                    config.lookat = Some(numbers?.try_into().ok()?);
                }
                "trackbodyid" => config.trackbodyid = Some(value.as_i64()?),
                _ => return None,
            }
        }
        Some(config)
    }
}
