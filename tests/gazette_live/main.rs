//! Goal: what a real broker does is what the journals of a cluster are written for; a shard in a cluster keeps what it has
//! acknowledged, and each old writer is fenced, whichever broker is lost.
//!
//! Method: runs where `GAZETTE_BROKER` names a broker, as `gazette://host:port`, whose file store is the folder that
//! `GAZETTE_ROOT` names where that is set; hints go to the etcd that `ETCD_ENDPOINT` names, as `http://host:port`. What loses
//! brokers starts its own, where `GAZETTE` and `ETCD` name the programs. Otherwise each test says that it was not run. Journals
//! get names of their own, so that one broker serves many runs.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, and says what it did; it starts servers in a folder"
)]

#[path = "../shared/broker_claims.rs"]
mod broker_claims;
#[expect(dead_code, reason = "shared with the tests over files, which use all of it")]
#[path = "../golden_suite/cases.rs"]
mod cases;
#[path = "../golden_suite/check.rs"]
mod check;
mod claims;
mod conformance;
mod golden;
mod own;
#[path = "../gazette/protocol.rs"]
mod protocol;
mod shards;
mod world;
