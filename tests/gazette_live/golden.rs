//! What the reference wrote, in journals of a real broker.
//!
//! *Invariants.* Each case comes to what it comes to in files, through the broker and out of its store.
//!
//! *Does not* know what that is: see `tests/golden_suite`.

use recoverylog::journal::{Codec, GazetteOptions};
use recoverylog::player::PlayOptions;

use crate::cases::all;
use crate::check::check;
use crate::world::{cluster, with_files};

#[test]
fn every_golden_case_comes_to_the_same_through_a_broker_and_out_of_its_store() {
    for (options, codec) in [(GazetteOptions::default(), Codec::None), (with_files(), Codec::Snappy)] {
        for case in all() {
            let Some(below) = cluster(options.clone(), codec) else { return };
            let bytes = case.logs.iter().map(|(_, content)| content.len()).max().unwrap();
            // So many pieces that several fragments hold the log.
            case.write_to(&below, (bytes / 20).max(700));
            let unsynced = PlayOptions { sync: false, ..PlayOptions::default() };
            check(&case, &below, &case.hints_json, unsynced);
        }
    }
}
