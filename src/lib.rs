//! Durable, movable directories for embedded storage engines.
//!
//! A service keeps its state in an embedded engine, or in plain files, in a local directory. This crate records
//! every file operation into an ordered [`journal`], and rebuilds the directory from it somewhere else:
//!
//! ```text
//!  engine --file ops--> RecordedFs --> Recorder --ops + bytes--> Journal
//!                           |                                       |
//!                           v                                       v
//!                      local files        HintStore --hints--> Player --> the same directory, elsewhere
//! ```
//!
//! Three promises, in this order: nothing acknowledged is lost; no reader accepts a byte that a writer adds
//! after another one took over; recovery costs time in proportion to live data, not to history.
//!
//! It is not a consensus system, a broker or a replication protocol: it fences a writer that lost its role, and
//! leaves it to others to say who should have it.
//!
//! # Where to begin
//!
//! [`replica::Replica`] is the whole of it: the life of one shard, from standby to primary. [`recorded_fs`] is
//! what an engine writes through; [`tracker`] serves engines that do their own I/O. [`player`] rebuilds a
//! directory, [`scan`] looks at a log without judging it, [`prune`] removes what nobody needs of it. What carries bytes is behind [`journal::Journal`],
//! what holds files behind [`vfs::FileSystem`], what keeps hints behind [`hint_store::HintStore`].
//!
//! ```
//! use std::{path::Path, sync::Arc, time::Duration};
//!
//! use recoverylog::hint_store::MemoryHints;
//! use recoverylog::journal::{MemoryJournals, random_author};
//! use recoverylog::replica::Replica;
//! use recoverylog::vfs::{FileSystem, MemoryFs, OpenMode};
//! use recoverylog::{Deadline, ErrorKind, JournalName};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let soon = Deadline::after(Duration::from_secs(10));
//! let (journals, hints) = (Arc::new(MemoryJournals::new()), Arc::new(MemoryHints::new()));
//! let log = JournalName::new("acme/orders-007")?;
//! let shard = Replica::new(journals, log, hints, Arc::new(MemoryFs::new()));
//!
//! // The first primary. What it writes goes into the journal too.
//! let first = shard.standby(Path::new("/first"))?.promote(random_author()?, soon)?;
//! let file = first.fs().open(Path::new("/first/greeting"), OpenMode::CreateNew)?;
//! file.write_all_at(b"hello", 0)?;
//! file.sync_data()?; // Returns when the journal is durable.
//!
//! // Another one takes over, and the first is fenced.
//! let second = shard.standby(Path::new("/second"))?.promote(random_author()?, soon)?;
//! assert_eq!(second.fs().metadata(Path::new("/second/greeting"))?.len, 5);
//! file.write_all_at(b"HELLO", 0)?;
//! let refused = first.barrier().and_then(|mut barrier| barrier.wait(soon)).unwrap_err();
//! assert_eq!(refused.kind(), ErrorKind::Fenced);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `gzip`, `zstd`, `snappy` | yes | reading fragments in these codecs |
//! | `conformance` | no | the suites that every journal, file system and hint store must pass, for your own too |
//! | `cli` | no | the operator's tool `recoverylog` |
//! | `gazette` | no | journals in a cluster of Gazette brokers: `GazetteJournals` |
//! | `etcd` | no | hints in etcd, under Gazette's keys: `EtcdHints`; its build needs `protoc` |
//! | `leveldb` | no | the adapter for `rusty-leveldb` |
//!
//! A feature adds API; it never changes behaviour.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod clock;
pub mod completion;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod engine;
mod entropy;
mod error;
pub mod fsm;
pub mod hint_store;
pub mod hints;
mod ids;
pub mod journal;
pub mod live;
mod op;
mod planted;
pub mod player;
pub(crate) mod prng;
pub mod prune;
pub mod recorded_fs;
pub mod recorder;
#[cfg(any(feature = "etcd", feature = "gazette"))]
mod remote;
pub mod replica;
pub mod scan;
pub mod segment;
pub(crate) mod sync;
pub mod tracker;
pub mod vfs;
pub mod wire;

pub use clock::{Clock, Deadline, SystemClock};
pub use error::{Error, ErrorKind, Result};
pub use fsm::{Fsm, FsmOptions};
pub use hints::FsmHints;
pub use ids::{Author, Checksum, Fnode, InvalidName, InvalidPath, JournalName, LogPath, Offset, SeqNo};
pub use op::{Mark, OpBody, Payload, RecordedOp};
#[cfg(recoverylog_planted)]
#[doc(hidden)]
pub use planted::{Bug, plant};
pub use recorded_fs::RecordedFs;
pub use recorder::{Recorder, RecorderOptions};
pub use replica::Replica;
pub use segment::{Segment, SegmentSet};
pub use tracker::Tracker;
