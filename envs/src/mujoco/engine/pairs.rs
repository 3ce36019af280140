//! Collisions told pair by pair, which spares MuJoCo the search for bodies that come near each other.
//!
//! The search is made for scenes of many bodies. Where they are few, looking at every pair of geoms that may touch
//! costs less, and finds the same contacts in the same order: not a bit of a simulation changes.
//! Bodies of several geoms are another matter, except on a plane: MuJoCo looks for their contacts along a tree.

use mujoco_rs::mujoco_c::{mjtDisableBit as MjtDisableBit, mjtEnableBit as MjtEnableBit};
use mujoco_rs::wrappers::mj_editing::{MjSpec, SpecElement, SpecItem};
use mujoco_rs::wrappers::{MjModel, MjtGeomBase};

/// With so many the search may cost less. Gymnasium's ant has 13.
const MOST_PAIRS: usize = 64;

/// The model that `spec` describes, with its pairs told; nothing where that would change more than the time it
/// takes. `model` is the same without.
pub(super) fn with_pairs(mut spec: MjSpec, model: &MjModel) -> Option<MjModel> {
    let pairs = pairs(model)?;
    spec.compile().ok()?; // gives every geom its number
    let mut names = vec![String::new(); model.geom_contype().len()];
    for geom in spec.geom_iter_mut() {
        let number = geom.id()?;
        if geom.name().is_empty() {
            geom.set_name(&format!("geom {number}")).ok()?;
        }
        names[number] = geom.name().to_owned();
        geom.set_contype(0);
        geom.set_conaffinity(0);
    }
    for [first, second] in pairs {
        let pair = spec.add_pair();
        pair.set_geomname1(&names[first]);
        pair.set_geomname2(&names[second]);
        pair.set_condim(model.geom_condim()[first].max(model.geom_condim()[second]));
        pair.set_margin(model.geom_margin()[first] + model.geom_margin()[second]);
        let [slide, spin, roll] = both(model.geom_friction(), first, second, f64::max);
        *pair.friction_mut() = [slide, slide, spin, roll, roll];
        let [one, other] = [first, second].map(|geom| model.geom_solref()[geom]);
        let standard = one[0] > 0.0 && other[0] > 0.0;
        *pair.solref_mut() = both(model.geom_solref(), first, second, if standard { mean } else { f64::min });
        *pair.solimp_mut() = both(model.geom_solimp(), first, second, mean);
    }
    let told = spec.compile().ok()?;
    let same = told.ffi().ngeom == model.ffi().ngeom
        && told.body_mass() == model.body_mass()
        && told.body_inertia() == model.body_inertia();
    same.then_some(told) // a compiler that discards geoms which touch nothing would have discarded these
}

/// Geoms that MuJoCo would let touch, in its order; nothing where it would treat them in another way than a pair.
fn pairs(model: &MjModel) -> Option<Vec<[usize; 2]>> {
    let sizes = model.ffi();
    let flags = model.opt();
    let others = MjtEnableBit::mjENBL_SLEEP as i32 | MjtEnableBit::mjENBL_OVERRIDE as i32;
    if sizes.npair > 0 || sizes.nflex > 0 || flags.enableflags & others != 0 {
        return None;
    }
    let alike = all_equal(model.geom_priority()) && all_equal(model.geom_solmix());
    let plain = |numbers: &[f64]| numbers.iter().all(|number| *number == 0.0);
    if !alike || !plain(model.geom_gap()) || !plain(model.geom_adhesion()) {
        return None;
    }
    let filters_parents = flags.disableflags & MjtDisableBit::mjDSBL_FILTERPARENT as i32 == 0;
    let excluded = model.exclude_signature();
    let mut pairs = Vec::new();
    for first in 0..model.body_weldid().len() {
        for second in first + 1..model.body_weldid().len() {
            let [one, other] = [first, second].map(|body| model.body_weldid()[body]);
            let [above, above_other] =
                [one, other].map(|weld| model.body_weldid()[model.body_parentid()[weld as usize] as usize]);
            let parent = one != 0 && other != 0 && (one == above_other || other == above);
            if one == other
                || filters_parents && parent
                || excluded.contains(&((first << 16 | second) as i32))
            {
                continue;
            }
            let meets = |a: usize, b: usize| model.geom_contype()[a] & model.geom_conaffinity()[b] != 0;
            let geoms = geoms_of(model, first).flat_map(|a| geoms_of(model, second).map(move |b| [a, b]));
            let before = pairs.len();
            pairs.extend(geoms.filter(|[a, b]| meets(*a, *b) || meets(*b, *a)));
            let [several, others] = [first, second].map(|body| model.body_geomnum()[body] > 1);
            let plane = first == 0 && !several && model.geom_type()[0] == MjtGeomBase::mjGEOM_PLANE;
            if pairs.len() > before && (several || others && !plane) {
                return None;
            }
        }
    }
    (pairs.len() <= MOST_PAIRS).then_some(pairs)
}

fn geoms_of(model: &MjModel, body: usize) -> std::ops::Range<usize> {
    let count = model.body_geomnum()[body] as usize;
    let first = if count == 0 { 0 } else { model.body_geomadr()[body] as usize };
    first..first + count
}

/// Each number of one row with the same of another.
fn both<const N: usize>(
    rows: &[[f64; N]],
    first: usize,
    second: usize,
    join: fn(f64, f64) -> f64,
) -> [f64; N] {
    std::array::from_fn(|i| join(rows[first][i], rows[second][i]))
}

/// As MuJoCo mixes what geoms of one `solmix` have.
fn mean(a: f64, b: f64) -> f64 {
    0.5 * a + 0.5 * b
}

fn all_equal<T: PartialEq>(values: &[T]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use mujoco_rs::wrappers::MjData;
    use rand::Rng;

    use super::super::messages::silence_logs;
    use super::super::model::MODELS;
    use super::*;
    use crate::episode_rng;

    /// Both, with and without told pairs.
    fn load(xml: &str) -> (MjModel, Option<MjModel>) {
        silence_logs();
        let model = MjModel::from_xml_string(xml).unwrap();
        let told = with_pairs(MjSpec::from_xml_string(xml).unwrap(), &model);
        (model, told)
    }

    /// Steps both from the same random speeds, with the same random controls.
    #[track_caller]
    fn check_same(name: &str, xml: &str) {
        let (model, told) = load(xml);
        let told = told.expect(name);
        let (mut contacts, mut rng) = (0, episode_rng(0, 0));
        let [mut found, mut expected] = [MjData::new(&told), MjData::new(&model)];
        for step in 0..2000 {
            if step % 500 == 0 {
                found.reset();
                expected.reset();
                for speed in 0..model.ffi().nv as usize {
                    let value = rng.gen_range(-1.0..1.0);
                    found.qvel_mut()[speed] = value;
                    expected.qvel_mut()[speed] = value;
                }
            }
            for control in 0..model.ffi().nu as usize {
                let value = rng.gen_range(-1.0..1.0);
                found.ctrl_mut()[control] = value;
                expected.ctrl_mut()[control] = value;
            }
            found.step();
            expected.step();
            contacts += expected.ffi().ncon;
            assert_eq!(found.ffi().ncon, expected.ffi().ncon, "{name}, step {step}");
            assert_eq!(found.qpos(), expected.qpos(), "{name}, step {step}");
            assert_eq!(found.qvel(), expected.qvel(), "{name}, step {step}");
        }
        assert!(contacts > 0 || told.ffi().npair == 0 || name == "point", "{name} touches nothing");
    }

    #[test]
    fn told_pairs_change_no_bit_of_gymnasium_s_tasks() {
        let of_several_geoms = ["humanoid", "humanoidstandup", "pusher", "pusher_v5"];
        for (name, xml) in MODELS {
            match load(xml) {
                (_, None) => assert!(of_several_geoms.contains(&name), "{name} is left alone"),
                _ => check_same(name, xml),
            }
        }
    }

    #[test]
    fn told_pairs_change_no_bit_of_geoms_that_differ() {
        // Fixed bodies, a pair excluded the other way round, and every number that MuJoCo mixes.
        let bodies = "<geom type='plane' size='5 5 1' margin='0.01' friction='0.3 0.02 0.003'/>\
            <body pos='0.2 0 0.1'><geom type='box' size='0.3 0.3 0.1' condim='1'/></body>\
            <body name='a' pos='0 0 0.6'><freejoint/>\
              <geom type='capsule' size='0.1 0.1' condim='4' solref='0.01 0.7' solimp='0.8 0.9 0.01'/>\
              <body pos='0 0.2 0'><joint axis='1 0 0'/><geom size='0.06' condim='6' friction='0.9 0.001 0.004'/></body></body>\
            <body name='b' pos='0.05 0.03 0.9'><freejoint/><geom size='0.12' solref='-500 -20'/></body>\
            <body pos='0.1 0.1 1.1'><freejoint/><geom type='box' size='0.1 0.1 0.1' solref='-800 -30'/></body>\
            <body pos='0 0 1.5'><freejoint/><geom type='ellipsoid' size='0.1 0.1 0.2' contype='2' conaffinity='1'/></body>";
        let xml = |more: &str| format!("<mujoco><worldbody>{bodies}</worldbody>{more}</mujoco>");
        check_same("plain", &xml(""));
        check_same("excluded", &xml("<contact><exclude body1='b' body2='a'/></contact>"));
        check_same("parents", &xml("<option><flag filterparent='disable'/></option>"));
    }

    #[test]
    fn told_pairs_change_no_bit_of_several_geoms_on_a_plane() {
        let mut rng = episode_rng(1, 0);
        for scene in 0..8 {
            let mut body = String::new();
            for _ in 0..5 {
                let kind = ["sphere", "capsule", "box", "ellipsoid"][rng.gen_range(0..4)];
                let [x, y, z] = [0; 3].map(|_| rng.gen_range(-0.3..0.3));
                body +=
                    &format!("<geom type='{kind}' size='0.1 0.08 0.06' pos='{x} {y} {z}' conaffinity='0'/>");
            }
            let xml = format!(
                "<mujoco><worldbody><geom type='plane' size='5 5 1'/><body pos='0 0 0.5'><freejoint/>{body}</body>\
                 </worldbody></mujoco>"
            );
            check_same(&format!("scene {scene}"), &xml);
        }
    }

    #[test]
    fn a_model_whose_pairs_would_be_treated_otherwise_is_left_alone() {
        let check = |ball: &str, rest: &str| {
            let xml = format!(
                "<mujoco><worldbody><geom type='plane' size='1 1 1'/><body pos='0 0 1'><freejoint/>\
                 <geom size='0.1' {ball}/></body></worldbody>{rest}</mujoco>"
            );
            load(&xml).1.map(|told| told.ffi().npair)
        };
        assert_eq!(check("", ""), Some(1));
        assert_eq!(check("contype='0' conaffinity='0'", ""), Some(0));
        assert_eq!(check("priority='1'", ""), None);
        assert_eq!(check("solmix='2'", ""), None);
        assert_eq!(check("gap='0.01'", ""), None);
        assert_eq!(check("adhesion='1'", ""), None);
        let another = "<worldbody><geom type='sphere' size='1'/></worldbody>";
        assert_eq!(check("", another), None, "the world has several geoms");
        assert_eq!(check("name='geom 0'", ""), None, "the plane has no name but its number");
        let alone = "<mujoco><compiler discardvisual='true'/><worldbody><body><freejoint/><geom size='0.1'/></body>\
                     </worldbody></mujoco>";
        assert!(load(alone).1.is_none(), "a geom that touches nothing would be discarded");
        assert_eq!(check("", "<option><flag sleep='enable'/></option>"), None);
        assert_eq!(check("", "<option><flag override='enable'/></option>"), None);
    }
}
