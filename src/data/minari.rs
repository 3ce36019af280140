//! Reading Minari datasets: episodes of `data/main_data.hdf5`, by what `data/metadata.json` says.

use std::path::Path;

use super::metadata::{Metadata, from_attributes};
use super::minari_episode::{Episode, Reader};
use super::reading::{DatasetError, OnBadEpisode, Reading, hdf5_reason, one_line};
use super::stored::Stored;
use super::trajectory::Dataset;

/// Reads a dataset of numbers, of which every episode must be right.
#[cfg(test)]
pub fn read(path: &Path) -> Result<Dataset, DatasetError> {
    read_with(path, Reading::default())
}

/// Reads a dataset; what it holds as plain float32 stays in its file, mapped, and images as they are.
pub fn read_with(path: &Path, reading: Reading) -> Result<Dataset, DatasetError> {
    let unreadable =
        |file, reason: String| DatasetError::Read { path: path.to_owned(), file, reason: one_line(&reason) };
    if !path.exists() {
        return Err(DatasetError::Absent { path: path.to_owned() });
    }
    if path.is_file() {
        return Err(DatasetError::File { path: path.to_owned() });
    }
    let (json, hdf5) = (path.join("data/metadata.json"), path.join("data/main_data.hdf5"));
    let stored = Stored::open(&hdf5).map_err(|reason| unreadable("data/main_data.hdf5", reason))?;
    let file = &stored.file;
    let values = if json.exists() {
        let text = eva_rl_agents::read_text(&json);
        let text = text.map_err(|error| unreadable("data/metadata.json", error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| unreadable("data/metadata.json", error.to_string()))?
    } else {
        let attributes = file.root().attrs();
        from_attributes(attributes.map_err(|error| unreadable("data/main_data.hdf5", error.to_string()))?)
    };
    let metadata = Metadata::new(path, &values);
    metadata.check_format()?;
    let (space, action) = (metadata.observation_space()?, metadata.action_space()?);
    let episodes = metadata.episodes()?;

    let image = reading.images.then(|| space.image()).flatten();
    let width = space.width().expect("the space can be flattened");
    let apart = image.map_or(0, |image| image.shape.iter().product());
    let reader = Reader { space: &space, image, action: &action, stored: &stored, reading };
    let mut dataset = Dataset {
        observation_width: width - apart,
        space: (!space.is_row()).then(|| space.clone()),
        image: image.map(|image| image.shape),
        action: action.clone(),
        env: metadata.env(),
        algorithm: metadata.algorithm(),
        reference: metadata.reference(),
        skipped: 0,
        clipped: 0,
        trajectories: Vec::new(),
    };
    let mut fault = None;
    for episode in 0..episodes {
        let found = file
            .group(&format!("episode_{episode}"))
            .map_err(|error| format!("cannot be read: {}", hdf5_reason(&error)))
            .and_then(|group| reader.episode(&group));
        match found {
            Ok(Episode { trajectory, clipped }) => {
                dataset.clipped += clipped;
                dataset.trajectories.push(trajectory);
            }
            Err(reason) => {
                let error = DatasetError::Episode { path: path.to_owned(), episode, reason };
                if reading.on_bad_episode == OnBadEpisode::Refuse {
                    return Err(error);
                }
                dataset.skipped += 1;
                fault.get_or_insert(error);
            }
        }
    }
    match fault {
        Some(fault) if dataset.trajectories.is_empty() => Err(fault),
        _ => Ok(dataset),
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use std::fs;
    use std::path::PathBuf;

    use eva_rl_agents::tensor::file::TensorFile;
    use eva_rl_envs::{ActionSpace, Kwargs, Phase};

    use super::*;
    use crate::data;
    use crate::data::Trajectory;
    use crate::data::numbers::Numbers;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/minari").join(name)
    }

    #[test]
    fn a_discrete_dataset_of_python_s_minari_is_read() {
        let dataset = read(&golden("cartpole/random-v0")).unwrap();
        assert_eq!(dataset.action, ActionSpace::Discrete { n: 2, start: 0 });
        assert_eq!((dataset.observation_width, dataset.trajectories.len()), (4, 4));
        assert_eq!(dataset.trajectories[0].len(), 21);
        assert!(dataset.trajectories.iter().all(|t| t.end == Phase::Terminated));
        assert_eq!(dataset.env, Some(("CartPole-v1".to_owned(), Kwargs::new())));
    }

    #[test]
    fn a_continuous_dataset_of_python_s_minari_is_read_with_its_options() {
        let dataset = read(&golden("pendulum/heavy-v0")).unwrap();
        assert_eq!(dataset.action, ActionSpace::Box { low: vec![-2.0], high: vec![2.0] });
        assert!(dataset.trajectories.iter().all(|t| t.end == Phase::Truncated && t.len() == 20));
        assert_eq!(
            dataset.env,
            Some(("Pendulum-v1".to_owned(), Kwargs::from([("g".to_owned(), 14.0.into())])))
        );
        assert!(dataset.trajectories.iter().all(|t| t.rewards.iter().all(|reward| *reward < 0.0)));
    }

    /// `tools/golden/golden_foreign.py` flattens with Gymnasium.
    #[test]
    fn spaces_of_any_kind_are_flattened_and_actions_counted_from_their_start() {
        let dataset = read(&golden("../foreign/minari/foreign/spaces-v0")).unwrap();
        let file = TensorFile::open(&golden("../foreign/minari/spaces.safetensors")).unwrap();
        let expected = |name: &str| Vec::<f32>::try_from(file.read(name).unwrap().flatten(0, -1)).unwrap();
        let all = |of: fn(&Trajectory) -> &Numbers| -> Vec<f32> {
            dataset.trajectories.iter().flat_map(|one| of(one).all().into_owned()).collect()
        };
        assert_eq!(all(|one| &one.observations), expected("observations"));
        assert_eq!(all(|one| &one.actions), expected("actions"));
        assert_eq!(dataset.action, ActionSpace::Discrete { n: 3, start: 1 });
        assert_eq!(dataset.observation_width, 14);
        assert_eq!(
            dataset.trajectories.iter().map(|one| one.succeeded).collect::<Vec<_>>(),
            [Some(true), Some(false)]
        );
        // Written here, its actions are called what they were, and its successes are kept.
        let folder = tempfile::tempdir().unwrap();
        data::write(&dataset, None, &[], &folder.path().join("again")).unwrap();
        let again = read(&folder.path().join("again")).unwrap();
        assert_eq!(
            (again.action, &again.trajectories[0].actions),
            (dataset.action, &dataset.trajectories[0].actions)
        );
        let successes = |dataset: &[Trajectory]| dataset.iter().map(|one| one.succeeded).collect::<Vec<_>>();
        assert_eq!(successes(&again.trajectories), successes(&dataset.trajectories));
    }

    const IMAGES: Reading =
        Reading { on_bad_episode: OnBadEpisode::Refuse, clip_actions: false, images: true };

    /// `tools/golden/golden_images.py` writes with Python's minari, and stores the same images otherwise by h5py.
    #[test]
    fn images_of_python_s_minari_are_read_channels_first_however_they_are_stored() {
        let file = TensorFile::open(&golden("../images/expected.safetensors")).unwrap();
        let expected = |name: &str| Vec::<u8>::try_from(file.read(name).unwrap().flatten(0, -1)).unwrap();
        for name in ["last", "gzip", "lzf", "contiguous"] {
            let dataset = read_with(&golden(&format!("../images/{name}-v0")), IMAGES).unwrap();
            assert_eq!((dataset.image, dataset.observation_width), (Some([3, 6, 5]), 0), "{name}");
            for (number, trajectory) in dataset.trajectories.iter().enumerate() {
                let images = &trajectory.images;
                assert_eq!(images.len(), trajectory.len() + 1);
                let all = expected(&format!("last.{number}"));
                assert_eq!(images.rows(0..images.len()), all, "{name}");
                assert_eq!(*images.rows(2..4), all[2 * 90..4 * 90], "{name}");
                assert_eq!(*images, images.frames().into_owned().into(), "{name}");
            }
        }
    }

    #[test]
    fn an_image_beside_numbers_is_kept_apart_or_flattened_in_its_place() {
        let file = TensorFile::open(&golden("../images/expected.safetensors")).unwrap();
        let apart = read_with(&golden("../images/dict-v0"), IMAGES).unwrap();
        let flat = read(&golden("../images/dict-v0")).unwrap();
        assert_eq!((apart.image, apart.observation_width), (Some([2, 5, 4]), 2));
        assert_eq!((flat.image, flat.observation_width), (None, 42));
        for (number, (apart, flat)) in apart.trajectories.iter().zip(&flat.trajectories).enumerate() {
            let image = file.read(&format!("dict.{number}.image")).unwrap().flatten(0, -1);
            let image = Vec::<u8>::try_from(image).unwrap();
            let speed = file.read(&format!("dict.{number}.speed")).unwrap().flatten(0, -1);
            let speed = Vec::<f32>::try_from(speed).unwrap();
            assert_eq!(apart.images.rows(0..apart.images.len()), image);
            assert_eq!(*apart.observations.all(), speed);
            // A Dict is flattened in the order of its keys.
            let whole = image.chunks(40).zip(speed.chunks(2));
            let whole: Vec<f32> = whole
                .flat_map(|(image, speed)| image.iter().map(|x| f32::from(*x)).chain(speed.iter().copied()))
                .collect();
            assert_eq!(*flat.observations.all(), whole);
            assert_eq!(flat.images.size(), 0);
        }
    }

    #[test]
    fn images_whole_numbers_and_texts_of_a_dict_are_read_and_written_as_they_were() {
        let file = TensorFile::open(&golden("../images/expected.safetensors")).unwrap();
        let dataset = read_with(&golden("../images/parts-v0"), IMAGES).unwrap();
        assert_eq!((dataset.image, dataset.observation_width), (Some([3, 7, 7]), 4 + 12));
        for (number, trajectory) in dataset.trajectories.iter().enumerate() {
            let flat = |name: &str| file.read(&format!("parts.{number}.{name}")).unwrap().flatten(0, -1);
            let images = &trajectory.images;
            assert_eq!(images.rows(0..images.len()), Vec::<u8>::try_from(flat("image")).unwrap());
            assert_eq!(*trajectory.observations.all(), Vec::<f32>::try_from(flat("numbers")).unwrap());
        }
        let folder = tempfile::tempdir().unwrap();
        for name in ["parts", "dict", "last"] {
            let dataset = read_with(&golden(&format!("../images/{name}-v0")), IMAGES).unwrap();
            let path = folder.path().join(name);
            data::write(&dataset, None, &[], &path).unwrap();
            assert_eq!(read_with(&path, IMAGES).unwrap(), dataset, "{name}");
            let flat = read(&golden(&format!("../images/{name}-v0"))).unwrap();
            assert_eq!(read(&path).unwrap(), flat, "{name}");
            let path = folder.path().join(format!("{name}-flat"));
            data::write(&flat, None, &[], &path).unwrap();
            assert_eq!(read_with(&path, IMAGES).unwrap(), dataset, "{name}");
        }
    }

    #[test]
    fn images_that_are_not_what_the_metadata_say_are_refused() {
        for (name, sentence) in [
            (
                "short",
                "has `observations` of u8 with shape [4, 6, 5, 3], expected u8 with shape [5, 6, 5, 3]",
            ),
            ("floats", "has `observations` of f64 with shape [5, 6, 5, 3], expected u8"),
            (
                "turned",
                "has `observations` of u8 with shape [5, 3, 6, 5], expected u8 with shape [5, 6, 5, 3]",
            ),
            ("jpeg", "has `jpeg_encoding` = true in its metadata, expected false"),
        ] {
            let error = read_with(&golden(&format!("../images/{name}-v0")), IMAGES).unwrap_err().to_string();
            assert!(error.contains(sentence), "{name}: {error}");
        }
    }

    #[test]
    fn a_dataset_of_before_minari_0_5_is_read_with_flags_and_numbers_of_any_type() {
        let dataset = read(&golden("../foreign/minari/old-v0")).unwrap();
        assert_eq!(dataset.algorithm, "random");
        for trajectory in &dataset.trajectories {
            assert_eq!(trajectory.rewards, [1.0, 2.0, 3.0, 4.0]);
            assert_eq!(trajectory.end, Phase::Terminated);
            assert_eq!(trajectory.observations.row(1, 4).as_ref(), [1.0, 1.25, 1.5, 1.75]);
        }
    }

    #[test]
    fn a_file_is_believed_within_its_size_however_often_it_names_the_same_numbers() {
        let message = read(&golden("../foreign/minari/hard-links-v0")).unwrap_err().to_string();
        assert!(message.contains("more than the file can hold"), "{message}");
    }

    #[test]
    fn bad_episodes_are_skipped_and_actions_clipped_where_the_user_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faulty");
        let mut dataset = read(&golden("pendulum/heavy-v0")).unwrap();
        dataset.trajectories[0].observations.to_mut()[3] = f32::NAN;
        dataset.trajectories[1].actions.to_mut()[..3].copy_from_slice(&[2.5, -7.0, 1.0]);
        data::write(&dataset, None, &[], &path).unwrap();
        let (on_bad_episode, clip_actions) = (OnBadEpisode::Skip, true);
        assert!(read_with(&path, Reading { clip_actions, ..Reading::default() }).is_err());
        let error = read_with(&path, Reading { on_bad_episode, ..Reading::default() }).unwrap_err();
        assert!(error.to_string().contains("episode 0"), "none is left: {error}");
        let reading = Reading { on_bad_episode, clip_actions, images: false };
        let read = read_with(&path, reading).unwrap();
        assert_eq!(read.trajectories[0].actions.all()[..3], [2.0, -2.0, 1.0]);
        assert_eq!(
            read.faults().unwrap(),
            "1 of 2 episodes cannot be read and are left out; 2 action numbers were outside of their bounds and are clipped"
        );
    }

    #[test]
    fn a_written_dataset_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cartpole/random-v0", "pendulum/heavy-v0"] {
            let dataset = read(&golden(name)).unwrap();
            let path = folder.path().join(name);
            let (id, kwargs) = dataset.env.as_ref().unwrap();
            let spec = eva_rl_envs::spec(id, kwargs).unwrap();
            data::write(&dataset, Some(&spec), &[], &path).unwrap();
            let reference = spec.reference;
            assert_eq!(read(&path).unwrap(), Dataset { reference, ..dataset });
        }
    }

    #[test]
    fn plain_numbers_stay_in_their_file_even_once_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pendulum");
        let whole = read(&golden("pendulum/heavy-v0")).unwrap();
        data::write(&whole, None, &[], &path).unwrap();
        let mut mapped = read(&path).unwrap();
        folder.close().unwrap();
        for (mapped, whole) in mapped.trajectories.iter_mut().zip(&whole.trajectories) {
            assert!(matches!(mapped.observations, Numbers::Mapped(..)));
            assert_eq!(mapped.observations, whole.observations);
            mapped.observations.to_mut()[0] += 1.0;
            assert!(matches!(mapped.observations, Numbers::Held(..)));
            assert_eq!(mapped.observations.all()[1..], whole.observations.all()[1..]);
        }
    }

    /// Spoils a written dataset and gives what reading it says.
    fn spoiled(spoil: impl FnOnce(&mut Dataset)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let mut dataset = read(&golden("pendulum/heavy-v0")).unwrap();
        spoil(&mut dataset);
        let path = folder.path().join("spoiled");
        data::write(&dataset, None, &[], &path).unwrap();
        read(&path).unwrap_err().to_string()
    }

    #[test]
    fn nan_is_named_with_its_place() {
        let message = spoiled(|dataset| dataset.trajectories[1].observations.to_mut()[3 * 4 + 2] = f32::NAN);
        assert!(message.contains("episode 1") && message.contains("step 4, dimension 2"), "{message}");
    }

    #[test]
    fn an_action_out_of_range_is_named_with_its_place() {
        let message = spoiled(|dataset| dataset.trajectories[0].actions.to_mut()[5] = 2.5);
        assert!(
            message.contains("action 2.5 at step 5, dimension 0") && message.contains("-2..=2"),
            "{message}"
        );
    }

    #[test]
    fn arrays_that_disagree_are_named() {
        let message = spoiled(|dataset| dataset.trajectories[0].actions.to_mut().truncate(7));
        assert!(message.contains("7 numbers in `actions`"), "{message}");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let message = read(Path::new("nowhere")).unwrap_err().to_string();
        assert!(
            message.contains("there is no dataset \"nowhere\"") && message.contains("eva-rl collect"),
            "{message}"
        );
    }

    /// Damages a dataset's file again and again; says how often it was refused.
    fn refusals(name: &str, rounds: usize) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torn");
        fs::create_dir_all(path.join("data")).unwrap();
        fs::copy(golden(name).join("data/metadata.json"), path.join("data/metadata.json")).unwrap();
        let whole = fs::read(golden(name).join("data/main_data.hdf5")).unwrap();
        let mut draw = ChaCha8Rng::seed_from_u64(5);
        let mut refused = 0;
        for round in 0..rounds {
            let mut bytes = whole.clone();
            if round % 10 == 0 {
                bytes.truncate(draw.gen_range(0..whole.len()));
            } else {
                for _ in 0..draw.gen_range(1..40) {
                    let at = draw.gen_range(0..bytes.len());
                    bytes[at] = draw.r#gen();
                }
            }
            fs::write(path.join("data/main_data.hdf5"), bytes).unwrap();
            match read_with(&path, IMAGES) {
                Ok(dataset) => {
                    // What was read once can be drawn.
                    for Trajectory { images, .. } in &dataset.trajectories {
                        images.rows(0..images.len());
                    }
                }
                Err(error) => {
                    assert!(!error.to_string().contains('\n'));
                    refused += 1;
                }
            }
        }
        refused
    }

    #[test]
    fn torn_and_twisted_files_are_refused_and_never_panic() {
        for (name, rounds) in
            [("pendulum/heavy-v0", 2000), ("../images/gzip-v0", 500), ("../images/lzf-v0", 500)]
        {
            let refused = refusals(name, rounds);
            assert!(2 * refused >= rounds, "{name}: only {refused} of {rounds} were refused");
        }
    }
}
