//! An episode as bytes, for a file of many and for other ranks.

use eva_rl_envs::Phase;

use super::frames::Frames;
use super::images::Images;
use super::trajectory::Trajectory;

/// Numbers that stand before an episode's own.
const HEAD: usize = 9;

/// How episodes end, by their numbers in a head.
const ENDS: [Phase; 4] = [Phase::Running, Phase::Terminated, Phase::Truncated, Phase::Lost];

/// Whether an episode has succeeded, the same way.
const SUCCESSES: [Option<bool>; 3] = [None, Some(false), Some(true)];

/// The whole episode.
pub fn pack(episode: &Trajectory) -> Vec<u8> {
    let end = ENDS.iter().position(|end| *end == episode.end);
    let success = SUCCESSES.iter().position(|success| *success == episode.succeeded);
    let frames = episode.images.frames();
    let (stride, images) = frames.parts();
    let (observations, actions) = (episode.observations.all(), episode.actions.all());
    let head = [
        observations.len(),
        actions.len(),
        episode.rewards.len(),
        episode.infos.len(),
        frames.channels(),
        frames.size(),
        stride,
        end.expect("all ends are listed"),
        success.expect("all are listed"),
    ];
    let mut bytes: Vec<u8> = head.iter().flat_map(|number| (*number as u64).to_le_bytes()).collect();
    for numbers in [&observations[..], &actions, &episode.rewards, &episode.infos] {
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }
    bytes.extend_from_slice(images);
    bytes
}

/// The episode that was packed; none where the bytes are no such.
pub fn unpack(bytes: &[u8]) -> Option<Trajectory> {
    let (head, mut rest) = bytes.split_at_checked(HEAD * size_of::<u64>())?;
    let (head, _) = head.as_chunks();
    let head: Vec<usize> = head.iter().map(|number| u64::from_le_bytes(*number) as usize).collect();
    let mut next = |count: usize| -> Option<Vec<f32>> {
        let (own, others) = rest.split_at_checked(count.checked_mul(size_of::<f32>())?)?;
        rest = others;
        let (numbers, _) = own.as_chunks();
        Some(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
    };
    let observations = next(head[0])?.into();
    let actions = next(head[1])?.into();
    let rewards = next(head[2])?;
    let infos = next(head[3])?;
    let (channels, size, stride) = (head[4], head[5], head[6]);
    let images = match size {
        0 => Images::default(),
        _ => {
            let shape = [channels, size / channels.max(1), 1];
            Frames::from_parts(shape, rewards.len() + 1, stride, rest.to_vec())?.into()
        }
    };
    let (end, succeeded) = (*ENDS.get(head[7])?, *SUCCESSES.get(head[8])?);
    Some(Trajectory { observations, images, actions, rewards, infos, end, succeeded })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_is_the_same_again_and_a_piece_of_it_is_none() {
        let mut frames = Frames::new([2, 2, 1]);
        for image in [[0u8, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]] {
            frames.push(&image);
        }
        let plain = Trajectory {
            observations: vec![1.0, 2.0, 3.0].into(),
            images: Images::default(),
            actions: vec![0.5, -0.5].into(),
            rewards: vec![1.0, f32::MIN_POSITIVE],
            infos: vec![7.0, 8.0],
            end: Phase::Truncated,
            succeeded: Some(false),
        };
        let seen = Trajectory { images: frames.into(), succeeded: None, ..plain.clone() };
        for episode in [plain, seen] {
            let bytes = pack(&episode);
            assert_eq!(unpack(&bytes), Some(episode));
            assert_eq!(unpack(&bytes[..bytes.len() - 5]), None);
            assert_eq!(unpack(&bytes[..20]), None);
        }
    }
}
