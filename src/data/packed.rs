//! An episode as bytes, for a file of many and for other ranks.

use eva_rl_envs::Phase;

use super::frames::Frames;
use super::images::Images;
use super::trajectory::{Outcome, Trajectory};

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

/// What an episode came to.
pub fn pack_outcome(outcome: &Outcome) -> Vec<u8> {
    let Outcome { total_return, steps, end, succeeded } = outcome;
    let end = ENDS.iter().position(|known| known == end).expect("all ends are listed");
    let success = SUCCESSES.iter().position(|known| known == succeeded).expect("all are listed");
    [total_return.to_bits(), *steps as u64, end as u64, success as u64]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect()
}

/// What was packed; none where the bytes are no such.
pub fn unpack_outcome(bytes: &[u8]) -> Option<Outcome> {
    let ([total_return, steps, end, success], []) = bytes.as_chunks::<8>() else { return None };
    let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    Some(Outcome {
        total_return: f64::from_bits(number(total_return)),
        steps: number(steps) as usize,
        end: *ENDS.get(number(end) as usize)?,
        succeeded: *SUCCESSES.get(number(success) as usize)?,
    })
}

/// Several pieces, each after its length.
pub fn pack_list(pieces: &[Vec<u8>]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| [&(piece.len() as u64).to_le_bytes()[..], piece].concat()).collect()
}

/// The pieces that were packed; none where the bytes are no such.
pub fn unpack_list(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (piece, others) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
        pieces.push(piece.to_vec());
        bytes = others;
    }
    Some(pieces)
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

    #[test]
    fn outcomes_and_lists_are_the_same_again_and_pieces_of_them_are_none() {
        for (end, succeeded) in
            [(Phase::Terminated, None), (Phase::Truncated, Some(true)), (Phase::Lost, Some(false))]
        {
            let outcome = Outcome { total_return: -1.5, steps: 7, end, succeeded };
            let bytes = pack_outcome(&outcome);
            assert_eq!(unpack_outcome(&bytes), Some(outcome));
            assert_eq!(unpack_outcome(&bytes[1..]), None);
        }
        let pieces = vec![vec![1, 2], Vec::new(), vec![3]];
        let bytes = pack_list(&pieces);
        assert_eq!(unpack_list(&bytes), Some(pieces));
        assert_eq!(unpack_list(&bytes[..bytes.len() - 1]), None);
        assert_eq!(unpack_list(&[]), Some(Vec::new()));
    }
}
