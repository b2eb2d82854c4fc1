//! The suite that every journal runs, over a real broker.
//!
//! *Invariants.* What is declined is what brokers have no call for.
//!
//! *Does not* let anything go wrong.

use std::sync::Arc;

use recoverylog::journal::conformance::{self, Place};
use recoverylog::journal::{Codec, GazetteOptions, Journals};

use crate::world::{FRAGMENT, cluster, with_files};

fn conforms(options: impl Fn() -> GazetteOptions, codec: Codec) {
    if cluster(options(), codec).is_none() {
        return;
    }
    let make = || {
        let below = cluster(options(), codec).unwrap();
        let again = below.clone();
        let place = Place::empty(Arc::new(below), FRAGMENT);
        place.reopened_by(move || Arc::new(again.clone()) as Arc<dyn Journals>)
    };
    let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
    // Brokers delete nothing.
    assert!(report.declined.iter().all(|case| case.contains("prune")), "{:?}", report.declined);
}

#[test]
fn journals_of_a_broker_conform_whether_it_is_read_through_or_its_store_is() {
    conforms(GazetteOptions::default, Codec::None);
    conforms(with_files, Codec::None);
}

#[test]
fn journals_of_a_broker_conform_however_their_fragments_are_packed() {
    for codec in [Codec::Gzip, Codec::Zstandard, Codec::Snappy] {
        conforms(with_files, codec);
    }
}
