//! What is claimed of brokers, and what the double answers, asked of a real one.
//!
//! *Invariants.* Each claim has a journal of its own.
//!
//! *Does not* let anything go wrong.

use recoverylog::JournalName;
use recoverylog::journal::{Codec, GazetteOptions, Journals};

use crate::broker_claims::{CLAIMS, Raw};
use crate::world::cluster;

#[test]
fn a_broker_answers_as_it_is_claimed_to() {
    for (name, claim) in CLAIMS {
        let Some(below) = cluster(GazetteOptions::default(), Codec::Snappy) else { return };
        println!("{name}");
        drop(below.open(&JournalName::new("claim").unwrap()).unwrap());
        let address = std::env::var("GAZETTE_BROKER").unwrap().replacen("gazette", "http", 1);
        claim(&Raw::new(&address), &format!("{}/claim", below.folder));
    }
}
