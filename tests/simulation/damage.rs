//! Bit rot: a copy of the log with one bit changed plays to a true tree, or to an error that says so.

use std::path::Path;
use std::sync::Arc;

use recoverylog::journal::{Append, Journal, MemoryJournals};
use recoverylog::player::{Player, Warning};
use recoverylog::vfs::{FileSystem, MemoryFs};
use recoverylog::{Deadline, ErrorKind, FsmHints, Offset};

use super::net::Net;
use super::oracle;
use super::process::{ROOT, play_options};
use super::tree::Tree;
use super::world::Cluster;

/// Plays damaged copies of the log.
pub(crate) fn check(net: &Net, cluster: &Cluster, sets: &[FsmHints]) -> Result<(), String> {
    let content = oracle::content(&net.store, Offset::ZERO);
    for _ in 0..if content.is_empty() { 0 } else { 3 } {
        let (at, bit) = (net.below(content.len() as u64), net.below(8));
        // What the journal has beside the log would tell: sums of fragments, commit records.
        if !cluster.history.vouches_for(at) {
            continue;
        }
        let hints = &sets[net.below(sets.len() as u64) as usize];
        let outcome = play(net, &content, at, 1 << bit, hints);
        let place = || format!("bit {bit} of byte {at} was changed, by {hints:?}");
        let (point, warned, tree) = match outcome {
            Ok(played) => played,
            Err(error) => {
                net.event("bit rot is seen", || format!("at {at}: {}", error.kind()));
                match error.kind() {
                    ErrorKind::Corrupt | ErrorKind::DataLoss | ErrorKind::Diverged => continue,
                    _ => return Err(format!("{}: {error:?}", place())),
                }
            }
        };
        if warned {
            net.event("bit rot is warned of", || format!("at {at}"));
            continue;
        }
        net.event("bit rot does not matter", || format!("at {at}"));
        let expected =
            cluster.history.tree_at(point, &cluster.trees).map_err(|e| format!("{e}; {}", place()))?;
        if tree != *expected {
            return Err(format!("a player builds {tree:?}\ninstead of {expected:?}; {}", place()));
        }
        if point != cluster.history.head() {
            return Err(format!("a player ends early, at {point:?}, and does not say so; {}", place()));
        }
    }
    Ok(())
}

type Damaged = (oracle::Point, bool, Tree);

fn play(net: &Net, content: &[u8], at: u64, flip: u8, hints: &FsmHints) -> recoverylog::Result<Damaged> {
    let journals = MemoryJournals::new();
    let journal = journals.journal(&net.log);
    journal.append(Append::new(content.to_vec()), Deadline::passed())?;
    assert!(journal.corrupt_byte(Offset::new(at).unwrap(), flip));
    let local = MemoryFs::new();
    let fs: Arc<dyn FileSystem> = Arc::new(local.clone());
    let played = Player::new(&journals, hints, fs, Path::new(ROOT), play_options())?.restore()?;
    let point = (played.fsm.next_seq_no(), played.fsm.next_checksum());
    let warned = played.warnings.iter().any(|warning| !matches!(warning, Warning::JunkAtTail { .. }));
    Ok((point, warned, Tree::read(&local, Path::new(ROOT))))
}
