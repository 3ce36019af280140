//! Which GPU a rank computes on.

use std::env;

use anyhow::Context;
use eva_rl_agents::ranks::Ranks;
use tch::{Cuda, Device};

use crate::support::errors::InputError;

/// How launchers tell a rank its number on its machine: Open MPI, MPICH's relatives, Slurm.
const LOCAL_RANK: [&str; 4] =
    ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"];

/// The device of this rank, where `asked` is asked of all: of a machine's GPUs the one of its number there.
pub fn device(asked: Device, ranks: &dyn Ranks, shares: bool) -> anyhow::Result<Device> {
    if ranks.is_alone() || !asked.is_cuda() {
        return Ok(asked);
    }
    let local = LOCAL_RANK.iter().find_map(|name| env::var(name).ok()?.parse::<usize>().ok());
    let local = local.context("the launcher does not say a rank's number on its machine")?;
    of_local_rank(local, Cuda::device_count() as usize, shares)
}

/// The device of the rank of this number on a machine with so many; ranks share one where they may.
fn of_local_rank(local: usize, devices: usize, shares: bool) -> anyhow::Result<Device> {
    if devices == 0 {
        return Err(
            InputError("this machine has no GPU that libtorch sees, expected --device cpu".into()).into()
        );
    }
    if local >= devices && !shares {
        let text = format!(
            "a machine has {devices} GPUs and at least {} ranks, expected as many ranks as GPUs or `ranks.share_devices = true`",
            local + 1
        );
        return Err(InputError(text).into());
    }
    Ok(Device::Cuda(local % devices))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_has_the_gpu_of_its_number_and_shares_one_where_it_may() {
        let found =
            |local, devices, shares| of_local_rank(local, devices, shares).map_err(|error| error.to_string());
        assert_eq!(found(0, 2, false), Ok(Device::Cuda(0)));
        assert_eq!(found(1, 2, false), Ok(Device::Cuda(1)));
        assert_eq!(found(3, 2, true), Ok(Device::Cuda(1)));
        assert!(found(2, 2, false).unwrap_err().contains("2 GPUs and at least 3 ranks"));
        assert!(found(0, 0, true).unwrap_err().contains("no GPU"));
    }
}
