//! Ranks over MPI. Collectives run on host buffers, and an error of MPI's own ends all ranks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use eva_rl_agents::ranks::{Ranks, Traffic};
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::{Equivalence, PartitionMut};
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};
use signal_hook::low_level;

use crate::support::errors;

/// Numbers of one call: MPI counts in 32 bits, and a buffer is copied.
const PIECE: usize = 1 << 24;

/// Seconds that a rank waits for the others where nobody says otherwise.
const TIMEOUT_SECS: u64 = 600;

/// How often a rank looks whether it has waited too long.
const LOOK: Duration = Duration::from_millis(250);

/// MPI itself, until it is finalised.
static UNIVERSE: Mutex<Option<Universe>> = Mutex::new(None);

static WAIT: Wait = Wait {
    since: AtomicU64::new(0),
    timeout_secs: AtomicU64::new(TIMEOUT_SECS),
    nanos: AtomicU64::new(0),
    bytes: AtomicU64::new(0),
};

/// How long this rank has waited for the others.
struct Wait {
    /// Milliseconds after the start, from 1; 0 where it does not wait.
    since: AtomicU64,
    timeout_secs: AtomicU64,
    /// Nanoseconds of all waits that have ended.
    nanos: AtomicU64,
    /// Bytes that it gave in them.
    bytes: AtomicU64,
}

/// Milliseconds since this was first asked, from 1.
fn now() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed().as_millis() as u64 + 1
}

/// The ranks that MPI has started.
#[derive(Debug)]
pub struct Mpi {
    rank: usize,
    size: usize,
}

impl Mpi {
    /// Joins them.
    pub fn join() -> Self {
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled).expect("it is joined once");
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        *UNIVERSE.lock().unwrap_or_else(PoisonError::into_inner) = Some(universe);
        thread::spawn(move || watch(rank));
        Self { rank, size }
    }
}

/// Ends the process once it has waited too long; the launcher then ends the others.
fn watch(rank: usize) {
    loop {
        thread::sleep(LOOK);
        let (since, limit) = (WAIT.since.load(Ordering::SeqCst), WAIT.timeout_secs.load(Ordering::SeqCst));
        // One of those that wait speaks before the others.
        if since > 0 && now() > since + 1000 * limit + 500 * rank as u64 {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            errors::tell_always(&format!(
                "eva-rl: rank {rank} on {host}: another rank has not answered within {limit} s (ranks.timeout_secs), and all end; what was saved is whole"
            ));
            low_level::exit(1);
        }
    }
}

/// Does what waits for other ranks, to which this one gives so many bytes.
fn waiting<T>(bytes: usize, call: impl FnOnce(SimpleCommunicator) -> T) -> T {
    let begun = Instant::now();
    WAIT.since.store(now(), Ordering::SeqCst);
    let done = call(SimpleCommunicator::world());
    WAIT.since.store(0, Ordering::SeqCst);
    WAIT.nanos.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
    WAIT.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    done
}

/// A rank waits so long for the others from here on.
pub fn set_timeout(secs: u64) {
    WAIT.timeout_secs.store(secs, Ordering::SeqCst);
}

/// Finalises MPI; the others do the same.
pub fn finalise() {
    drop(UNIVERSE.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn sum<T: Equivalence + Copy>(numbers: &mut [T]) {
    for piece in numbers.chunks_mut(PIECE) {
        let own = piece.to_vec();
        waiting(size_of_val(&own[..]), |world| {
            world.all_reduce_into(&own[..], piece, SystemOperation::sum())
        });
    }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum_f32(&self, numbers: &mut [f32]) {
        sum(numbers);
    }

    fn sum_f64(&self, numbers: &mut [f64]) {
        sum(numbers);
    }

    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) {
        let gives = |bytes: usize| if root == self.rank { bytes } else { 0 };
        let mut length = bytes.len() as u64;
        waiting(gives(size_of::<u64>()), |world| {
            world.process_at_rank(root as i32).broadcast_into(&mut length)
        });
        bytes.resize(length as usize, 0);
        for piece in bytes.chunks_mut(PIECE) {
            waiting(gives(piece.len()), |world| {
                world.process_at_rank(root as i32).broadcast_into(piece);
            });
        }
    }

    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lengths = vec![0u64; self.size];
        waiting(size_of::<u64>(), |world| world.all_gather_into(&(bytes.len() as u64), &mut lengths[..]));
        let mut all: Vec<Vec<u8>> =
            lengths.iter().map(|length| Vec::with_capacity(*length as usize)).collect();
        let piece = PIECE / self.size;
        let rounds = lengths.iter().map(|length| (*length as usize).div_ceil(piece)).max().unwrap_or(0);
        for round in 0..rounds {
            let part = |length: usize| (round * piece).min(length)..((round + 1) * piece).min(length);
            let counts: Vec<i32> = lengths.iter().map(|length| part(*length as usize).len() as i32).collect();
            let starts: Vec<i32> =
                counts.iter().scan(0, |sum, count| Some(std::mem::replace(sum, *sum + count))).collect();
            let mut received = vec![0u8; counts.iter().sum::<i32>() as usize];
            let mut parts = PartitionMut::new(&mut received[..], &counts[..], &starts[..]);
            let own = &bytes[part(bytes.len())];
            waiting(own.len(), |world| world.all_gather_varcount_into(own, &mut parts));
            let mut rest = received.as_slice();
            for (bytes, count) in all.iter_mut().zip(&counts) {
                let (own, others) = rest.split_at(*count as usize);
                bytes.extend_from_slice(own);
                rest = others;
            }
        }
        all
    }

    fn barrier(&self) {
        waiting(0, |world| world.barrier());
    }

    fn traffic(&self) -> Traffic {
        let nanos = WAIT.nanos.load(Ordering::Relaxed);
        Traffic { secs: 1e-9 * nanos as f64, bytes: WAIT.bytes.load(Ordering::Relaxed) }
    }
}
