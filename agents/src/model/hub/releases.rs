//! Published decision transformers whose files hold no statistics: the nine for D4RL's gym tasks
//! (`edbeeching/decision-transformer-gym-…`), and the four for Atari (`edbeeching/decision_transformer_atari`).
//!
//! Means and deviations are those of the D4RL v2 datasets, as the releases' cards print them; return scale,
//! target and context length are the original decision transformer's (arXiv 2106.01345, appendix A).

use std::path::Path;

use serde_json::{Map, Value};

/// Steps that the releases look back on.
pub const CONTEXT_LENGTH: i64 = 20;

/// What their returns were divided by.
pub const RETURN_SCALE: f32 = 1000.0;

/// One of the four games.
#[derive(Debug)]
pub struct AtariRelease {
    /// The game.
    pub name: &'static str,
    /// Its minimal set of actions.
    actions: i64,
    /// The return that its authors conditioned it on (arXiv 2106.01345, appendix A).
    pub target_return: f32,
}

const ATARI_RELEASES: [AtariRelease; 4] = [
    AtariRelease { name: "Breakout", actions: 4, target_return: 90.0 },
    AtariRelease { name: "Pong", actions: 6, target_return: 20.0 },
    AtariRelease { name: "Qbert", actions: 6, target_return: 14000.0 },
    AtariRelease { name: "Seaquest", actions: 18, target_return: 1150.0 },
];

/// The game of the published policy whose weights are at `path`, by a name in that path, the file's first, and by the
/// shape that `config` gives it.
pub fn recognise_atari(path: &Path, config: &Map<String, Value>) -> Option<&'static AtariRelease> {
    let has = |key: &str, size: i64| config.get(key).and_then(Value::as_i64) == Some(size);
    if config.get("model_type").and_then(Value::as_str) != Some("decision_transformer_atari") {
        return None;
    }
    let whole = path.canonicalize().ok()?;
    let release = whole.components().rev().find_map(|part| {
        let part = part.as_os_str().to_string_lossy().to_lowercase();
        ATARI_RELEASES.iter().find(|release| part.contains(&release.name.to_lowercase()))
    })?;
    (has("hidden_size", 128) && has("n_layer", 6) && has("act_dim", release.actions)).then_some(release)
}

/// One release.
#[derive(Debug)]
pub struct Release {
    /// Its name after `decision-transformer-gym-`.
    pub name: &'static str,
    /// The return to ask for.
    pub target_return: f32,
    /// `[S]`.
    pub state_mean: &'static [f32],
    /// `[S]`.
    pub state_std: &'static [f32],
}

/// The release in `folder`, by its name and by the shape that `config` gives it.
///
/// The name is that of the folder or of one above it (a download cache keeps it there), or the one in
/// `_name_or_path`.
pub fn recognise(folder: &Path, config: &Map<String, Value>) -> Option<&'static Release> {
    let whole = folder.canonicalize().ok()?;
    let mut names: Vec<String> =
        whole.components().rev().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if let Some(Value::String(name)) = config.get("_name_or_path") {
        names.push(name.clone());
    }
    let release = names.iter().find_map(|name| {
        let name = name.trim_end_matches('/').rsplit_once("gym-")?.1;
        RELEASES.iter().find(|release| release.name == name)
    })?;
    let number = |key: &str, default: i64| config.get(key).map_or(Some(default), Value::as_i64);
    let actions = match release.name.split_once('-')?.0 {
        "hopper" => 3,
        _ => 6,
    };
    let fits = number("state_dim", 17) == Some(release.state_mean.len() as i64)
        && number("act_dim", 4) == Some(actions)
        && number("hidden_size", 128) == Some(128)
        && number("n_layer", 3) == Some(3);
    fits.then_some(release)
}

#[rustfmt::skip]
const RELEASES: [Release; 9] = [
    Release {
        name: "hopper-medium",
        target_return: 3600.0,
        state_mean: &[1.311279, -0.08469521, -0.5382719, -0.07201576, 0.04932366, 2.1066856, -0.15017354, 0.00878345, -0.2848186, -0.18540096, -0.28461286],
        state_std: &[0.17790751, 0.05444621, 0.21297139, 0.14530419, 0.6124444, 0.85174465, 1.4515252, 0.6751696, 1.536239, 1.6160746, 5.6072536],
    },
    Release {
        name: "hopper-medium-replay",
        target_return: 3600.0,
        state_mean: &[1.2305138, -0.04371411, -0.44542956, -0.09370098, 0.09094488, 1.3694725, -0.19992675, -0.02286135, -0.5287045, -0.14465883, -0.19652697],
        state_std: &[0.17565121, 0.06369286, 0.34383234, 0.19566889, 0.5547985, 1.0510299, 1.1583077, 0.79631287, 1.4802359, 1.6540332, 5.108601],
    },
    Release {
        name: "hopper-expert",
        target_return: 3600.0,
        state_mean: &[1.3490015, -0.11208222, -0.5506444, -0.13188992, -0.00378754, 2.6071432, 0.02322114, -0.01626922, -0.06840388, -0.05183131, 0.04272673],
        state_std: &[0.15980862, 0.0446214, 0.14307782, 0.17629202, 0.5912333, 0.5899924, 1.5405099, 0.8152689, 2.0173461, 2.4107876, 5.8440027],
    },
    Release {
        name: "halfcheetah-medium",
        target_return: 12000.0,
        state_mean: &[-0.06845774, 0.01641455, -0.18354906, -0.27624607, -0.34061527, -0.09339716, -0.21321271, -0.08774239, 5.1730075, -0.04275195, -0.03610836, 0.14053793, 0.06049833, 0.09550975, 0.067391, 0.00562739, 0.01338279],
        state_std: &[0.07472999, 0.30234998, 0.3020731, 0.34417078, 0.17619242, 0.5072056, 0.25670078, 0.32948127, 1.2574149, 0.7600542, 1.9800916, 6.5653625, 7.4663677, 4.472223, 10.566964, 5.6719327, 7.498259],
    },
    Release {
        name: "halfcheetah-medium-replay",
        target_return: 12000.0,
        state_mean: &[-0.12880704, 0.37381196, -0.14995988, -0.23479079, -0.28412786, -0.13096535, -0.20157982, -0.06517727, 3.4768248, -0.027850658, -0.015035249, 0.07697279, 0.012667121, 0.027325302, 0.023164246, 0.010438722, -0.015839405],
        state_std: &[0.17019016, 1.2844249, 0.33442774, 0.36727592, 0.26092398, 0.4784107, 0.31814206, 0.33552638, 2.0931616, 0.80374336, 1.9044334, 6.57321, 7.5728636, 5.0697494, 9.105554, 6.0856543, 7.253004],
    },
    Release {
        name: "halfcheetah-expert",
        target_return: 12000.0,
        state_mean: &[-0.04489148, 0.03232588, 0.06034835, -0.17081226, -0.19480659, -0.05751596, 0.09701628, 0.03239211, 11.047426, -0.07997331, -0.32363534, 0.36297753, 0.42322603, 0.40836546, 1.1085187, -0.4874403, -0.0737481],
        state_std: &[0.04002118, 0.4107858, 0.54217845, 0.41522816, 0.23796624, 0.62036866, 0.30100912, 0.21737163, 2.2105937, 0.572586, 1.7255033, 11.844218, 12.06324, 7.0495934, 13.499867, 7.195647, 5.0264325],
    },
    Release {
        name: "walker2d-medium",
        target_return: 5000.0,
        state_mean: &[1.218966, 0.14163373, -0.037049137, -0.1381431, 0.51382244, -0.047191102, -0.47288352, 0.042254165, 2.3948874, -0.03143199, 0.04466356, -0.023907244, -0.101340145, 0.09090938, -0.0041926373, -0.12120572, -0.5497064],
        state_std: &[0.12311358, 0.324188, 0.11456084, 0.26230657, 0.5640279, 0.22718786, 0.38373196, 0.7373677, 1.2387927, 0.7980206, 1.5664079, 1.8092705, 3.0256042, 4.062486, 1.4586568, 3.744569, 5.585129],
    },
    Release {
        name: "walker2d-medium-replay",
        target_return: 5000.0,
        state_mean: &[1.2093647, 0.13264023, -0.14371201, -0.20465161, 0.55776125, -0.032315373, -0.2784661, 0.19130707, 1.4701707, -0.12504704, 0.056495305, -0.099910334, -0.34034026, 0.035462935, -0.08934259, -0.2992438, -0.5984178],
        state_std: &[0.119298354, 0.3562574, 0.258522, 0.42075422, 0.5202291, 0.15685083, 0.3677098, 0.7161388, 1.3763766, 0.8632222, 2.6364644, 3.0134118, 3.720684, 4.867284, 2.6681626, 3.845187, 5.4768386],
    },
    Release {
        name: "walker2d-expert",
        target_return: 5000.0,
        state_mean: &[1.2384834, 0.19578537, -0.10475016, -0.18579608, 0.23003316, 0.022800924, -0.37383768, 0.337791, 3.925096, -0.004742846, 0.02526706, -0.0039287535, -0.01736751, -0.48212224, 0.00035432147, -0.0037124525, 0.0026285544],
        state_std: &[0.06664903, 0.16980624, 0.17309439, 0.21843709, 0.74599105, 0.02410989, 0.3729872, 0.6226182, 0.9708009, 0.72936815, 1.504065, 2.495893, 3.511518, 5.3656907, 0.79503316, 4.317483, 6.1784487],
    },
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hopper(layers: i64) -> Map<String, Value> {
        let config = json!({ "state_dim": 11, "act_dim": 3, "hidden_size": 128, "n_layer": layers });
        config.as_object().unwrap().clone()
    }

    /// The release in a folder of this name below a temporary one.
    fn found(name: &str, config: &Map<String, Value>) -> Option<&'static str> {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        recognise(&folder, config).map(|release| release.name)
    }

    #[test]
    fn a_release_is_known_by_its_folder_or_one_above() {
        let cached = "models--edbeeching--decision-transformer-gym-hopper-medium-replay/snapshots/0123";
        assert_eq!(found(cached, &hopper(3)), Some("hopper-medium-replay"));
        assert_eq!(found("decision-transformer-gym-hopper-expert", &hopper(3)), Some("hopper-expert"));
    }

    #[test]
    fn a_release_is_known_by_the_name_in_its_config() {
        let mut config = hopper(3);
        config.insert("_name_or_path".to_owned(), json!("edbeeching/decision-transformer-gym-hopper-medium"));
        assert_eq!(found("mine", &config), Some("hopper-medium"));
    }

    #[test]
    fn another_shape_or_an_unpublished_name_is_no_release() {
        assert_eq!(found("decision-transformer-gym-hopper-medium", &hopper(4)), None);
        assert_eq!(found("decision-transformer-gym-walker2d-medium", &hopper(3)), None);
        assert_eq!(found("decision-transformer-gym-hopper-medium-expert", &hopper(3)), None);
    }

    #[test]
    fn every_release_has_a_mean_and_a_positive_deviation_a_state() {
        for release in &RELEASES {
            let width = if release.name.starts_with("hopper") { 11 } else { 17 };
            assert_eq!(
                (release.state_mean.len(), release.state_std.len()),
                (width, width),
                "{}",
                release.name
            );
            assert!(release.state_std.iter().all(|std| *std > 0.0), "{}", release.name);
        }
    }
}
